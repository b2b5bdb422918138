/** A platform as one writes it: "linux/arm64/v8". Source: containerd/platforms (Parse). */
import { EngineError } from '../core/engine-error.ts';
import type { Platform } from './port.ts';

const ARCHITECTURES: Readonly<Record<string, string>> = {
  x86_64: 'amd64',
  'x86-64': 'amd64',
  aarch64: 'arm64',
  armhf: 'arm',
  armel: 'arm',
  i386: '386',
};
const KNOWN_ARCHITECTURES: ReadonlySet<string> = new Set([
  '386',
  'amd64',
  'arm',
  'arm64',
  'loong64',
  'mips64le',
  'ppc64le',
  'riscv64',
  's390x',
  'wasm',
]);
const COMPONENT = /^[A-Za-z0-9_.-]+$/;
const KNOWN_SYSTEMS: ReadonlySet<string> = new Set(['linux', 'windows', 'darwin', 'freebsd', 'wasip1']);

/** null when the parameter is empty. @throws PARAMETER_INVALID */
export function parsePlatform(text: string): Platform | null {
  if (text === '') return null;
  const parts = text.toLowerCase().split('/');
  const wrong = parts.find((part) => !COMPONENT.test(part));
  if (wrong !== undefined) {
    throw invalid(
      `${JSON.stringify(wrong)} is an invalid component of ${JSON.stringify(text)}: platform specifier component must match "^[A-Za-z0-9_.-]+$": invalid argument`,
    );
  }
  if (parts.length > 3) throw invalid(`${JSON.stringify(text)}: cannot parse platform specifier: invalid argument`);
  const [first = '', second = '', third = ''] = parts;
  if (parts.length === 1) {
    if (KNOWN_SYSTEMS.has(first)) return { os: first, architecture: hostArchitecture(), variant: '' };
    const architecture = normalArchitecture(first);
    if (KNOWN_ARCHITECTURES.has(architecture)) return { os: 'linux', architecture, variant: defaultVariant(first) };
    throw invalid(`${JSON.stringify(text)}: unknown operating system or architecture: invalid argument`);
  }
  const architecture = normalArchitecture(second);
  return {
    os: first,
    architecture,
    variant: architecture === 'arm64' && third === 'v8' ? '' : third || defaultVariant(second),
  };
}

function normalArchitecture(name: string): string {
  return ARCHITECTURES[name] ?? name;
}

function defaultVariant(name: string): string {
  if (name === 'armhf' || name === 'arm') return 'v7';
  return name === 'armel' ? 'v6' : '';
}

function hostArchitecture(): string {
  return process.arch === 'x64' ? 'amd64' : process.arch;
}

function invalid(message: string): EngineError {
  return new EngineError('PARAMETER_INVALID', message);
}
