/** .dockerignore: which paths of the context count. Pure. Source: moby/patternmatcher. */
import { EngineError } from '../../core/engine-error.ts';

export interface IgnoreRule {
  readonly matches: RegExp;
  readonly exclude: boolean;
}

export function parseIgnore(text: string): IgnoreRule[] {
  const rules: IgnoreRule[] = [];
  for (const raw of text.replace(/^\ufeff/, '').split('\n')) {
    let line = raw.trim();
    if (line === '' || raw.startsWith('#')) continue;
    const exclude = !line.startsWith('!');
    if (!exclude) line = line.slice(1).trim();
    const path = line
      .replace(/\/+/g, '/')
      .replace(/^\.?\//, '')
      .replace(/\/$/, '')
      .replace(/^\.\//, '');
    if (path === '' || path === '.') continue;
    rules.push({ matches: globToRegExp(path), exclude });
  }
  return rules;
}

/** The last rule that fits the path, or a directory above it, decides. */
export function isIgnored(rules: readonly IgnoreRule[], path: string): boolean {
  let ignored = false;
  for (const { matches, exclude } of rules) {
    if (ignored === exclude) continue;
    if (parents(path).some((part) => matches.test(part))) ignored = exclude;
  }
  return ignored;
}

function parents(path: string): string[] {
  const parts = path.split('/');
  return parts.map((_, n) => parts.slice(0, n + 1).join('/'));
}

/** Go's filepath.Match, and ** for any number of directories. */
export function globToRegExp(glob: string): RegExp {
  let source = '';
  for (let at = 0; at < glob.length; at++) {
    const c = glob[at]!;
    if (c === '*' && glob[at + 1] === '*') {
      at++;
      if (glob[at + 1] === '/') at++;
      source += at >= glob.length - 1 ? '.*' : '(?:.*/)?';
    } else if (c === '*') source += '[^/]*';
    else if (c === '?') source += '[^/]';
    else if (c === '[') {
      const end = glob.indexOf(']', at + 2);
      if (end === -1) source += '\\[';
      else {
        source += `[${glob
          .slice(at + 1, end)
          .replace(/^!/, '^')
          .replaceAll('\\', '\\\\')}]`;
        at = end;
      }
    } else if (c === '\\' && at + 1 < glob.length) source += escapeRegExp(glob[++at]!);
    else source += escapeRegExp(c);
  }
  try {
    return new RegExp(`^${source}$`, 's');
  } catch (error) {
    throw new EngineError('BODY_INVALID', `syntax error in pattern: ${glob}`, { cause: error });
  }
}

function escapeRegExp(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\/]/g, '\\$&');
}
