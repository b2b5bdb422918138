/**
 * Image references: "busybox" is docker.io/library/busybox:latest. Source: github.com/distribution/reference
 * v0.6 (grammar, normalisation and the words of its errors).
 */
import { EngineError } from '../core/engine-error.ts';

/** A normalised reference. `name` is domain/path; at least one of tag and digest may be empty. */
export interface Reference {
  readonly domain: string;
  readonly path: string;
  /** "" when none was given. */
  readonly tag: string;
  /** "" or "sha256:…" */
  readonly digest: string;
}

/** What a user may give for an image: a reference, or something that can only be an ID. */
export type AnyReference =
  | { readonly kind: 'named'; readonly reference: Reference }
  | { readonly kind: 'id'; readonly id: string };

const DEFAULT_DOMAIN = 'docker.io';
const LEGACY_DOMAIN = 'index.docker.io';
const OFFICIAL_PREFIX = 'library/';
const DEFAULT_TAG = 'latest';
const PATH_LENGTH_MAX = 255;
/** Longer text cannot be valid; it bounds the work of the regular expressions. */
const TEXT_LENGTH_MAX = 1024;

const DOMAIN_LABEL = '[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?';
const DOMAIN = `(?:${DOMAIN_LABEL}(?:\\.${DOMAIN_LABEL})*|\\[[a-fA-F0-9:]+\\])(?::[0-9]+)?`;
const COMPONENT = '[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*';
const DIGEST = '[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}';
const REFERENCE = new RegExp(
  `^(${DOMAIN})/(${COMPONENT}(?:/${COMPONENT})*)(?::(\\w[\\w.-]{0,127}))?(?:@(${DIGEST}))?$`,
);
const TAG = /^\w[\w.-]{0,127}$/;
const HEX_ID = /^[0-9a-f]{64}$/;
const SHA256_DIGEST = /^sha256:[0-9a-f]{64}$/;

/** @throws {EngineError} IMAGE_REFERENCE_INVALID with distribution/reference's words */
export function parseReference(text: string): Reference {
  if (HEX_ID.test(text)) {
    throw invalid(`invalid repository name (${text}), cannot specify 64-byte hexadecimal strings`);
  }
  const { domain, remainder } = splitDomain(text);
  const repository = remainder.split(':', 1)[0] ?? '';
  if (repository.toLowerCase() !== repository) {
    throw invalid(`invalid reference format: repository name (${repository}) must be lowercase`);
  }
  const match = text.length > TEXT_LENGTH_MAX ? null : REFERENCE.exec(`${domain}/${remainder}`);
  if (match === null) throw invalid('invalid reference format');
  const [, , path = '', tag = '', digest = ''] = match;
  if (path.length > PATH_LENGTH_MAX) {
    throw invalid(`repository name must not be more than ${PATH_LENGTH_MAX} characters`);
  }
  if (digest !== '') checkDigest(digest);
  return { domain, path, tag, digest };
}

/** As `docker inspect NAME` reads it: 64 digits and "sha256:…" are IDs. */
export function parseAnyReference(text: string): AnyReference {
  if (HEX_ID.test(text)) return { kind: 'id', id: `sha256:${text}` };
  if (isDigest(text)) return { kind: 'id', id: text };
  return { kind: 'named', reference: parseReference(text) };
}

/** Puts ":latest" where there is neither tag nor digest. */
export function withDefaultTag(reference: Reference): Reference {
  return reference.tag === '' && reference.digest === '' ? { ...reference, tag: DEFAULT_TAG } : reference;
}

export function withTag(reference: Reference, tag: string): Reference {
  if (!TAG.test(tag)) throw invalid('invalid tag format');
  return { ...reference, tag, digest: '' };
}

export function withDigest(reference: Reference, digest: string): Reference {
  return { ...reference, tag: '', digest };
}

/** "docker.io/library/busybox" */
export function repositoryName(reference: Reference): string {
  return `${reference.domain}/${reference.path}`;
}

/** "docker.io/library/busybox:latest" */
export function formatReference(reference: Reference): string {
  return repositoryName(reference) + suffix(reference);
}

/** "busybox" */
export function familiarName({ domain, path }: Reference): string {
  if (domain !== DEFAULT_DOMAIN) return `${domain}/${path}`;
  // "library/a/b" was never a short name, and "library/x.y" would read as a domain without its prefix only when split.
  const short = path.startsWith(OFFICIAL_PREFIX) ? path.slice(OFFICIAL_PREFIX.length) : path;
  return short.includes('/') && short !== path ? path : short;
}

/** "busybox:latest" */
export function familiarReference(reference: Reference): string {
  return familiarName(reference) + suffix(reference);
}

/** "docker.io/library/busybox:1" as kept in records. */
export function familiar(full: string): string {
  return familiarReference(parseReference(full));
}

export function isDigest(text: string): boolean {
  return SHA256_DIGEST.test(text);
}

function suffix({ tag, digest }: Reference): string {
  return (tag === '' ? '' : `:${tag}`) + (digest === '' ? '' : `@${digest}`);
}

function splitDomain(text: string): { domain: string; remainder: string } {
  const slash = text.indexOf('/');
  if (slash === -1) return { domain: DEFAULT_DOMAIN, remainder: OFFICIAL_PREFIX + text };
  const first = text.slice(0, slash);
  let domain = DEFAULT_DOMAIN;
  let remainder = text;
  if (first === LEGACY_DOMAIN) remainder = text.slice(slash + 1);
  else if (first === 'localhost' || /[.:]/.test(first) || first.toLowerCase() !== first) {
    domain = first;
    remainder = text.slice(slash + 1);
  }
  if (domain === DEFAULT_DOMAIN && !remainder.includes('/')) remainder = OFFICIAL_PREFIX + remainder;
  return { domain, remainder };
}

/** Words of opencontainers/go-digest. */
function checkDigest(digest: string): void {
  const [algorithm = '', hex = ''] = digest.split(':');
  if (algorithm !== 'sha256') throw invalid('unsupported digest algorithm');
  if (hex.length !== 64) throw invalid('invalid checksum digest length');
  if (!/^[0-9a-f]+$/.test(hex)) throw invalid('invalid checksum digest format');
}

function invalid(message: string): EngineError {
  return new EngineError('IMAGE_REFERENCE_INVALID', message);
}
