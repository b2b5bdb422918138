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
/** GOARCH and GOOS, as containerd knows them. */
const KNOWN_ARCHITECTURES: ReadonlySet<string> = new Set([
  '386', 'amd64', 'amd64p32', 'arm', 'armbe', 'arm64', 'arm64be', 'ppc64', 'ppc64le', 'loong64', 'mips', 'mipsle',
  'mips64', 'mips64le', 'mips64p32', 'mips64p32le', 'ppc', 'riscv', 'riscv64', 's390', 's390x', 'sparc', 'sparc64',
  'wasm',
]); // prettier-ignore
const COMPONENT = /^[A-Za-z0-9_.-]+$/;
const KNOWN_SYSTEMS: ReadonlySet<string> = new Set([
  'aix', 'android', 'darwin', 'dragonfly', 'freebsd', 'hurd', 'illumos', 'ios', 'js', 'linux', 'nacl', 'netbsd',
  'openbsd', 'plan9', 'solaris', 'wasip1', 'windows', 'zos',
]); // prettier-ignore

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
  const [name = '', second = '', third = ''] = parts;
  const first = name === 'macos' ? 'darwin' : name;
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
