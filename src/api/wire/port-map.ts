/** Ports as Docker spells them: "80/tcp" keys. Source: moby daemon/container.go validatePortBindings, go-connections/nat. */
import type { PortBinding } from '../../core/container-spec.ts';
import { EngineError } from '../../core/engine-error.ts';
import { list, map, nothing, struct, text } from './decode.ts';

const PORT_MAX = 65_535;

export const portSet = map(nothing);
export const portMap = map(list(struct('nat.PortBinding', { HostIp: text, HostPort: text })));

/** "80" becomes "80/tcp". @throws CONTAINER_SPEC_INVALID `invalid port specification: "x"` */
export function parsePort(key: string): string {
  const [number = '', protocol = 'tcp'] = key.split('/', 2);
  if (!/^\d+$/.test(number) || Number(number) > PORT_MAX) throw invalid(number);
  return `${number}/${protocol === '' ? 'tcp' : protocol.toLowerCase()}`;
}

/** As parsePort, but a range of ports ("8000-8010/tcp") stands for each of them. */
export function parseExposedPorts(keys: readonly string[]): string[] {
  return [
    ...new Set(
      keys.flatMap((key) => {
        const range = /^(\d+)-(\d+)(\/.*)?$/.exec(key);
        if (range === null) return [parsePort(key)];
        const [first, last] = [Number(range[1]), Number(range[2])];
        if (last > PORT_MAX || first > last) throw invalid(key);
        return Array.from({ length: last - first + 1 }, (_, index) => parsePort(`${first + index}${range[3] ?? ''}`));
      }),
    ),
  ];
}

/** An empty list of bindings is one unspecified binding, as in every moby before 29. */
export function parsePortBindings(
  bindings: Readonly<Record<string, readonly { readonly HostIp: string; readonly HostPort: string }[] | null>> | null,
): Record<string, readonly PortBinding[]> {
  const result: Record<string, PortBinding[]> = {};
  for (const [key, values] of Object.entries(bindings ?? {})) {
    const parsed = (values ?? []).map(({ HostIp, HostPort }) => {
      checkHostPort(HostPort);
      return { hostIp: HostIp, hostPort: HostPort };
    });
    const port = parsePort(key);
    result[port] = [...(result[port] ?? []), ...(parsed.length === 0 ? [{ hostIp: '', hostPort: '' }] : parsed)];
  }
  return result;
}

function checkHostPort(port: string): void {
  if (port === '') return;
  const match = /^(\d+)(?:-(\d+))?(?:\/\w+)?$/.exec(port);
  if (
    match === null ||
    Number(match[1]) > PORT_MAX ||
    Number(match[2] ?? match[1]) > PORT_MAX ||
    Number(match[2] ?? match[1]) < Number(match[1])
  )
    throw invalid(port);
}

function invalid(port: string): EngineError {
  return new EngineError('CONTAINER_SPEC_INVALID', `invalid port specification: ${JSON.stringify(port)}`);
}

/** Docker's PortMap of a running container or of what was asked; ports without a binding are null. */
export function formatPortMap(
  ports: Readonly<Record<string, readonly PortBinding[]>>,
): Record<string, { HostIp: string; HostPort: string }[] | null> {
  return Object.fromEntries(
    Object.entries(ports).map(([port, bindings]) => [
      port,
      bindings.length === 0 ? null : bindings.map(({ hostIp, hostPort }) => ({ HostIp: hostIp, HostPort: hostPort })),
    ]),
  );
}

export function formatSet(values: readonly string[]): Record<string, Record<string, never>> {
  return Object.fromEntries(values.map((value) => [value, {}]));
}
