/** "ctrl-p,ctrl-q": what to type at a terminal to leave the container running. Source: moby/term ascii.go. */
import { EngineError } from '../core/engine-error.ts';

const DEFAULT = Buffer.from([0x10, 0x11]); // ctrl-p, ctrl-q
const CONTROL: Readonly<Record<string, number>> = { '@': 0, '[': 27, '\\': 28, ']': 29, '^': 30, _: 31 };

/**
 * null and "" take the default. `called`: moby has two words for them.
 * @throws {EngineError} PARAMETER_INVALID "Invalid detach keys (x) provided"
 */
export function parseDetachKeys(keys: string | null, called: 'detach' | 'escape' = 'detach'): Buffer {
  if (keys === null || keys === '') return DEFAULT;
  return Buffer.from(
    keys.split(',').map((key) => {
      const code = codeOf(key);
      if (code === null) throw new EngineError('PARAMETER_INVALID', `Invalid ${called} keys (${keys}) provided`);
      return code;
    }),
  );
}

/** null for what is no key. */
function codeOf(key: string): number | null {
  if (key.length === 1 && key.charCodeAt(0) < 0x80) return key.charCodeAt(0);
  if (key === 'DEL') return 127;
  const control = key.startsWith('ctrl-') ? key.slice('ctrl-'.length) : '';
  if (control.length === 1) {
    if (control >= 'a' && control <= 'z') return control.charCodeAt(0) - 96;
    const code = Object.hasOwn(CONTROL, control) ? CONTROL[control] : undefined;
    if (code !== undefined) return code;
  }
  return null;
}
