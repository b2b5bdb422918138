/** Putting "repo" and "tag" parameters together; what a reference is, image/ decides. Source: moby RepoTagReference (v28). */
import { EngineError } from '../../core/engine-error.ts';

/** null when there is no repository. A tag replaces the one that the repository may have. */
export function joinRepoTag(repository: string, tag: string): string | null {
  if (repository === '') return null;
  if (repository.includes('@')) throw new EngineError('IMAGE_REFERENCE_INVALID', 'cannot import digest reference');
  return tag === '' ? repository : `${withoutTag(repository)}:${tag}`;
}

/** For a pull: `tag` may be a digest. `allTags` when neither names one. */
export function joinImageTag(image: string, tag: string): { readonly reference: string; readonly allTags: boolean } {
  const name = image.endsWith(':') ? image.slice(0, -1) : image;
  if (tag !== '') {
    const isDigest = /^[a-z0-9]+([+._-][a-z0-9]+)*:[0-9a-fA-F]{32,}$/.test(tag);
    return { reference: isDigest ? `${withoutTag(name)}@${tag}` : `${withoutTag(name)}:${tag}`, allTags: false };
  }
  return { reference: name, allTags: !name.includes('@') && withoutTag(name) === name };
}

export function withoutTag(reference: string): string {
  const name = reference.split('@', 1)[0]!;
  const colon = name.lastIndexOf(':');
  return colon > name.lastIndexOf('/') ? name.slice(0, colon) : name;
}
