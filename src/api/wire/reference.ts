/** Putting "repo" and "tag" parameters together; what a reference is, image/ decides. Source: moby RepoTagReference (v28). */
import { EngineError } from '../../core/engine-error.ts';
import { familiarReference, familiarName, parseReference, withTag } from '../../image/reference.ts';

/** null when there is no repository. A tag replaces the one that the repository may have. @throws IMAGE_REFERENCE_INVALID */
export function joinRepoTag(repository: string, tag: string): string | null {
  if (repository === '') return null;
  const reference = parseReference(repository);
  if (reference.digest !== '') throw new EngineError('IMAGE_REFERENCE_INVALID', 'cannot import digest reference');
  return familiarReference(tag === '' ? reference : withTag(reference, tag));
}

/** For a pull: `tag` may be a digest. `allTags` when neither names one. @throws IMAGE_REFERENCE_INVALID */
export function joinImageTag(image: string, tag: string): { readonly reference: string; readonly allTags: boolean } {
  const reference = parseReference(image.endsWith(':') ? image.slice(0, -1) : image);
  if (/^[a-z0-9]+([+._-][a-z0-9]+)*:[0-9a-fA-F]{32,}$/.test(tag))
    return { reference: `${familiarName(reference)}@${tag}`, allTags: false };
  if (tag !== '') return { reference: familiarReference(withTag(reference, tag)), allTags: false };
  return { reference: familiarReference(reference), allTags: reference.tag === '' && reference.digest === '' };
}

export function withoutTag(reference: string): string {
  const name = reference.split('@', 1)[0]!;
  const colon = name.lastIndexOf(':');
  return colon > name.lastIndexOf('/') ? name.slice(0, colon) : name;
}
