/** WWW-Authenticate: what a server wants of who asks. Source: RFC 9110 section 11. */
export interface Challenge {
  /** Lower case. */
  readonly scheme: string;
  readonly parameters: Readonly<Record<string, string>>;
}

/** Several challenges may come in one header or in several. */
export function parseChallenges(header: string | readonly string[] | undefined): Challenge[] {
  const challenges: Challenge[] = [];
  for (const line of header === undefined ? [] : typeof header === 'string' ? [header] : header) {
    let current: { scheme: string; parameters: Record<string, string> } | null = null;
    for (const match of line.matchAll(/([A-Za-z0-9_-]+)(?:\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+)))?/g)) {
      const [, word = '', quoted, plain] = match;
      const value = quoted?.replace(/\\(.)/g, '$1') ?? plain;
      if (value === undefined) {
        current = { scheme: word.toLowerCase(), parameters: {} };
        challenges.push(current);
      } else if (current !== null) current.parameters[word.toLowerCase()] = value;
    }
  }
  return challenges;
}
