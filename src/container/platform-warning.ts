/** An image made for another machine still runs where the host can emulate it; Docker warns. Source: moby daemon/create.go (v28). */
import { formatPlatform } from '../image/platform.ts';
import type { Image, Platform } from '../image/port.ts';

export function platformWarning(image: Image, host: Platform): string | null {
  const os = image.os === '' ? host.os : image.os;
  const architecture = image.architecture === '' ? host.architecture : image.architecture;
  if (os === host.os && architecture === host.architecture) return null;
  // 32 bit images run on 64 bit hosts of the same family.
  if (os === host.os && host.architecture === 'amd64' && architecture === '386') return null;
  if (os === host.os && host.architecture === 'arm64' && architecture === 'arm') return null;
  const wanted = formatPlatform({ os, architecture, variant: image.variant });
  return (
    `The requested image's platform (${wanted}) does not match the detected host platform ` +
    `(${formatPlatform(host)}) and no specific platform was requested`
  );
}
