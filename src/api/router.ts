/**
 * Finds the route of a path. Our own because moby's paths need gorilla/mux's rules, which routers for Node lack: a
 * name in the middle of a path may hold slashes ("/images/a/b/c/json"), the first route in order wins, and a wrong
 * method is answered like an unknown path. Routes are kept by method and first segment, so that few are tried.
 */
import type { AnyRoute } from './route.ts';

interface Compiled<R> {
  readonly route: R;
  readonly pattern: RegExp;
  readonly names: readonly string[];
}

export interface Match<R> {
  readonly route: R;
  readonly params: Readonly<Record<string, string>>;
  /** The version as in the path: "1.44"; "" when there was none. */
  readonly version: string;
}

export class Router<R extends Pick<AnyRoute, 'method' | 'path'>> {
  readonly #bySegment = new Map<string, Compiled<R>[]>();

  constructor(routes: readonly R[]) {
    for (const route of routes) {
      const key = `${route.method} ${firstSegment(route.path)}`;
      const compiled = this.#bySegment.get(key) ?? [];
      compiled.push(compile(route));
      this.#bySegment.set(key, compiled);
    }
  }

  /** `path` is decoded and clean. */
  find(method: string, path: string): Match<R> | null {
    const prefix = /^\/v([0-9.]+)(?=\/)/.exec(path);
    const rest = prefix === null ? path : path.slice(prefix[0].length);
    for (const { route, pattern, names } of this.#bySegment.get(`${method} ${firstSegment(rest)}`) ?? []) {
      const match = pattern.exec(rest);
      if (match === null) continue;
      const params: Record<string, string> = {};
      names.forEach((name, index) => (params[name] = match[index + 1] ?? ''));
      return { route, params, version: prefix?.[1] ?? '' };
    }
    return null;
  }
}

/** Go's path.Clean, but that a trailing slash stays: what gorilla redirects to. */
export function cleanPath(path: string): string {
  if (!path.includes('//') && !path.includes('/.')) return path;
  const kept: string[] = [];
  for (const segment of path.split('/')) {
    if (segment === '..') kept.pop();
    else if (segment !== '' && segment !== '.') kept.push(segment);
  }
  const clean = `/${kept.join('/')}`;
  return path.endsWith('/') && clean !== '/' ? `${clean}/` : clean;
}

function firstSegment(path: string): string {
  const end = path.indexOf('/', 1);
  return end < 0 ? path : path.slice(0, end);
}

function compile<R extends Pick<AnyRoute, 'path'>>(route: R): Compiled<R> {
  const names: string[] = [];
  const source = route.path.replace(/[.*+?^$()|[\]\\]/g, String.raw`\$&`).replace(/\{(\w+)\}/g, (_, name: string) => {
    names.push(name);
    return '(.+)';
  });
  return { route, pattern: new RegExp(`^${source}$`, 's'), names };
}
