/** Where the programs built from native/ are: beside the bundle, or in dist/ when running from source. */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { EngineError } from '../core/engine-error.ts';

/** @throws {EngineError} HOST_UNSUPPORTED when it was not built */
export function nativeProgram(name: 'shim'): string {
  const here = dirname(fileURLToPath(import.meta.url));
  for (const candidate of [join(here, name), join(here, '../../dist', name)])
    if (existsSync(candidate)) return candidate;
  throw new EngineError('HOST_UNSUPPORTED', `${name} is not built: run npm run setup`);
}
