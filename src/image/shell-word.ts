/** Words of Dockerfile instructions: split at blanks outside quotes, variables put in, quotes taken off. Source: buildkit's shell lexer, as its reference describes it. */

/** Quotes and backslashes stay in the words. */
export function splitWords(text: string): string[] {
  const words: string[] = [];
  let word = '';
  let quote = '';
  for (let i = 0; i < text.length; i++) {
    const char = text[i]!;
    if (char === '\\' && quote !== "'" && i + 1 < text.length) {
      word += char + text[++i]!;
    } else if (quote !== '') {
      word += char;
      if (char === quote) quote = '';
    } else if (/\s/.test(char)) {
      if (word !== '') words.push(word);
      word = '';
    } else {
      if (char === '"' || char === "'") quote = char;
      word += char;
    }
  }
  if (word !== '') words.push(word);
  return words;
}

/** $NAME, ${NAME}, ${NAME:-default}, ${NAME:+instead}; none inside single quotes. What is put in is quoted against unquote(). */
export function expand(text: string, lookup: (name: string) => string | null): string {
  const pattern = /\\[\s\S]|'[^']*'|\$(?:(\w+)|\{(\w+)(?::([-+])([^}]*))?\})/g;
  let isInDouble = false;
  return text.replace(/"|[^"]+/g, (part) => {
    if (part === '"') {
      isInDouble = !isInDouble;
      return part;
    }
    return part.replace(pattern, (whole: string, plain?: string, braced?: string, operator?: string, word = '') => {
      const name = plain ?? braced;
      if (name === undefined) return whole;
      const value = lookup(name);
      const chosen =
        operator === '+'
          ? value === null || value === ''
            ? ''
            : word
          : value === null || value === ''
            ? operator === '-'
              ? word
              : ''
            : value;
      return chosen.replace(/[\\"']/g, '\\$&');
    });
  });
}

export function unquote(text: string): string {
  let plain = '';
  let quote = '';
  for (let i = 0; i < text.length; i++) {
    const char = text[i]!;
    if (quote === "'" ? char === "'" : char === '"' && quote === '"') quote = '';
    else if (quote === '' && (char === '"' || char === "'")) quote = char;
    else if (char === '\\' && quote !== "'" && i + 1 < text.length) {
      const next = text[++i]!;
      // Inside double quotes a backslash only protects what would mean something there.
      plain += quote === '"' && !'"\\$\''.includes(next) ? char + next : next;
    } else plain += char;
  }
  return plain;
}
