/** Which image runs where. Source: containerd platforms (Normalize, Only), as Docker uses it. */
import { EngineError } from '../core/engine-error.ts';

import type { Platform } from './port.ts';

const ARCHITECTURE_ALIASES: Readonly<Record<string, readonly [string, string]>> = {
  x86_64: ['amd64', ''],
  'x86-64': ['amd64', ''],
  aarch64: ['arm64', ''],
  i386: ['386', ''],
  armhf: ['arm', 'v7'],
  armel: ['arm', 'v6'],
};

/** "x86_64" is amd64; arm64's v8 and amd64's v1 are what they are without saying. */
export function normalizePlatform(platform: Platform): Platform {
  const lower = platform.architecture.toLowerCase();
  const [architecture, impliedVariant] = ARCHITECTURE_ALIASES[lower] ?? [lower, ''];
  let variant = (platform.variant.toLowerCase() || impliedVariant).replace(/^(\d)/, 'v$1');
  if ((architecture === 'arm64' && variant === 'v8') || (architecture === 'amd64' && variant === 'v1')) variant = '';
  if (architecture === 'arm' && variant === '') variant = 'v7';
  return { os: platform.os.toLowerCase() || 'linux', architecture, variant };
}

/** Whether an image of platform `image` may stand where `wanted` was asked. An image that does not say fits. */
export function matchesPlatform(image: Platform, wanted: Platform): boolean {
  if (image.architecture === '' && image.os === '') return true;
  const have = normalizePlatform(image);
  const want = normalizePlatform(wanted);
  if (have.os !== want.os || (want.architecture !== '' && have.architecture !== want.architecture)) return false;
  if (have.architecture === 'arm') return variantNumber(have) <= variantNumber(want); // v6 runs on v7
  return want.variant === '' || have.variant === want.variant;
}

/** Exactly: nothing fits `wanted` better than `image`. */
export function isSamePlatform(image: Platform, wanted: Platform): boolean {
  const have = normalizePlatform(image);
  const want = normalizePlatform(wanted);
  return have.os === want.os && have.architecture === want.architecture && have.variant === want.variant;
}

/** The best of several for `wanted`: null when none fits. */
export function choosePlatform<T extends { readonly platform: Platform }>(
  candidates: readonly T[],
  wanted: Platform,
): T | null {
  const fitting = candidates.filter(({ platform }) => matchesPlatform(platform, wanted));
  const exact = fitting.find(
    ({ platform }) => normalizePlatform(platform).variant === normalizePlatform(wanted).variant,
  );
  return exact ?? fitting.toSorted((a, b) => variantNumber(b.platform) - variantNumber(a.platform))[0] ?? null;
}

/** "linux/arm/v7" */
export function formatPlatform({ os, architecture, variant }: Platform): string {
  return variant === '' ? `${os}/${architecture}` : `${os}/${architecture}/${variant}`;
}

/** What Docker says where an image is here, but for another platform. Source: moby v28 daemon/images/image.go GetImage(). */
export function platformMismatch(name: string, actual: Platform, wanted: Platform): EngineError {
  return new EngineError(
    'IMAGE_NOT_FOUND',
    `image with reference ${name} was found but its platform (${formatPlatform(actual)}) does not match the specified platform (${formatPlatform(wanted)})`,
  );
}

function variantNumber(platform: Platform): number {
  return Number(/^v(\d+)/.exec(normalizePlatform(platform).variant)?.[1] ?? 0);
}
