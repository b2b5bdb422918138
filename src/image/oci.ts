/** OCI and Docker manifests, read with suspicion. Source: OCI image spec v1.1, Docker's image manifest v2 schema 2. */
import { EngineError } from '../core/engine-error.ts';

import { isObject, parseJsonObject } from './image-config.ts';
import type { Digest, Platform } from './port.ts';
import { isDigest } from './reference.ts';

export const MEDIA = {
  ociManifest: 'application/vnd.oci.image.manifest.v1+json',
  ociIndex: 'application/vnd.oci.image.index.v1+json',
  ociConfig: 'application/vnd.oci.image.config.v1+json',
  ociLayer: 'application/vnd.oci.image.layer.v1.tar',
  dockerManifest: 'application/vnd.docker.distribution.manifest.v2+json',
  dockerIndex: 'application/vnd.docker.distribution.manifest.list.v2+json',
  dockerConfig: 'application/vnd.docker.container.image.v1+json',
  dockerLayerGzip: 'application/vnd.docker.image.rootfs.diff.tar.gzip',
} as const;

export interface Descriptor {
  readonly mediaType: string;
  readonly digest: Digest;
  readonly size: number;
  readonly annotations: Readonly<Record<string, string>>;
  /** Of entries in an index; null when they do not say. */
  readonly platform: (Platform & { readonly osVersion?: string }) | null;
  /** Where else a layer can be had ("foreign layers"). */
  readonly urls: readonly string[];
}

export type Manifest =
  | {
      readonly kind: 'image';
      readonly mediaType: string;
      readonly config: Descriptor;
      readonly layers: readonly Descriptor[];
    }
  | { readonly kind: 'index'; readonly mediaType: string; readonly manifests: readonly Descriptor[] };

/** As other clients: nobody has a manifest that big. */
export const MANIFEST_BYTES_MAX = 4 * 1024 * 1024;
const DESCRIPTORS_MAX = 1000;
/** What BuildKit puts beside an image to describe how it was built is no image. */
const ATTESTATION = 'vnd.docker.reference.type';

/** `mediaType`: what the registry said, for documents that do not say. @throws IMAGE_ARCHIVE_INVALID */
export function parseManifest(bytes: Uint8Array, mediaType = ''): Manifest {
  const json = parseJsonObject(bytes, 'manifest');
  if (json['schemaVersion'] === 1) {
    throw new EngineError(
      'IMAGE_ARCHIVE_INVALID',
      'Docker Image Format v1 and Docker Image manifest version 2, schema 1 support has been removed. More information at https://docs.docker.com/go/deprecated-image-specs/',
    );
  }
  const said =
    typeof json['mediaType'] === 'string' && json['mediaType'] !== ''
      ? json['mediaType']
      : mediaType.split(';', 1)[0]!.trim();
  const manifests = json['manifests'];
  const layers = json['layers'];
  if (Array.isArray(manifests) === Array.isArray(layers)) throw invalid('neither an image manifest nor an index');
  if (Array.isArray(manifests)) {
    if (said === MEDIA.ociManifest || said === MEDIA.dockerManifest) throw invalid('an index that says it is an image');
    return { kind: 'index', mediaType: said || MEDIA.ociIndex, manifests: parseDescriptors(manifests) };
  }
  if (said === MEDIA.ociIndex || said === MEDIA.dockerIndex) throw invalid('an image that says it is an index');
  return {
    kind: 'image',
    mediaType: said || MEDIA.ociManifest,
    config: parseDescriptor(json['config']),
    layers: parseDescriptors(layers as unknown[]),
  };
}

/** Entries of an index that can be images. */
export function imagesOf(index: readonly Descriptor[]): (Descriptor & { readonly platform: Platform })[] {
  return index
    .filter(({ annotations }) => annotations[ATTESTATION] === undefined)
    .map((descriptor) => ({
      ...descriptor,
      platform: descriptor.platform ?? { os: '', architecture: '', variant: '' },
    }));
}

function parseDescriptors(values: readonly unknown[]): Descriptor[] {
  if (values.length > DESCRIPTORS_MAX) throw invalid(`more than ${DESCRIPTORS_MAX} descriptors`);
  return values.map(parseDescriptor);
}

function parseDescriptor(value: unknown): Descriptor {
  if (!isObject(value)) throw invalid('a descriptor is missing');
  const { mediaType, digest, size, annotations, platform, urls } = value;
  if (typeof digest !== 'string' || !isDigest(digest)) throw invalid(`digest ${JSON.stringify(digest)}`);
  if (typeof size !== 'number' || !Number.isSafeInteger(size) || size < 0) throw invalid(`size of ${digest}`);
  return {
    mediaType: typeof mediaType === 'string' ? mediaType : '',
    digest,
    size,
    annotations: stringsOf(annotations),
    platform: isObject(platform)
      ? {
          os: textOf(platform['os']),
          architecture: textOf(platform['architecture']),
          variant: textOf(platform['variant']),
          ...(textOf(platform['os.version']) !== '' && { osVersion: textOf(platform['os.version']) }),
        }
      : null,
    urls: Array.isArray(urls) ? urls.filter((url): url is string => typeof url === 'string') : [],
  };
}

function stringsOf(value: unknown): Record<string, string> {
  if (!isObject(value)) return {};
  return Object.fromEntries(
    Object.entries(value).filter((entry): entry is [string, string] => typeof entry[1] === 'string'),
  );
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

function invalid(why: string): EngineError {
  return new EngineError('IMAGE_ARCHIVE_INVALID', `invalid manifest: ${why}`);
}
