/** Where the programs built from native/ are: in dist/, beside the bundle; dist/lib and src are two rooms down. */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { EngineError } from '../core/engine-error.ts';

/** @throws {EngineError} HOST_UNSUPPORTED when it was not built */
export function nativeProgram(name: 'shim' | 'exec-helper' | 'holder'): string {
  const here = dirname(fileURLToPath(import.meta.url));
  for (const directory of ['.', '../..', '../../dist']) {
    const candidate = join(here, directory, name);
    if (existsSync(candidate)) return candidate;
  }
  throw new EngineError('HOST_UNSUPPORTED', `${name} is not built: run npm run setup`);
}
