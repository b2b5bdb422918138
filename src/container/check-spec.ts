/**
 * What a request to create may not say, beside the limits and modes that runtime/spec checks.
 * Source: moby daemon/container.go validateContainerConfig and validateHostConfig, runconfig/hostconfig_unix.go (v28).
 */
import { isIP } from 'node:net';
import { posix } from 'node:path';

import type {
  ContainerSpec,
  HealthcheckSpec,
  HostSpec,
  ProcessSpec,
  RestartPolicySpec,
} from '../core/container-spec.ts';
import { EngineError } from '../core/engine-error.ts';
import { parseSignal } from '../core/signal.ts';
import { checkEnv } from './exec.ts';

const HEALTH_DURATION_NS_MIN = 1_000_000;
const PORT_MAX = 65_535;

/** The spec with its working directory cleaned. @throws {EngineError} CONTAINER_SPEC_INVALID, CONTAINER_SPEC_CONFLICT */
export function checkSpec(spec: ContainerSpec): ContainerSpec {
  const process = checkProcess(spec.process);
  const { host } = spec;
  checkNetworkMode(process, host);
  if (host.autoRemove && host.restartPolicy.name !== 'no') {
    refuse("can't create 'AutoRemove' container with restart policy");
  }
  for (const entry of host.extraHosts ?? []) checkExtraHost(entry);
  checkPorts(host);
  checkExposedPorts(process);
  checkRestartPolicy(host.restartPolicy);
  if (Object.hasOwn(host.annotations ?? {}, '')) {
    refuse('invalid Annotations: the empty string is not permitted as an annotation key');
  }
  for (const link of host.links ?? []) parseLink(link);
  checkStorageOptions(host.storageOpt);
  return { ...spec, process };
}

/** As moby's overlay2 on a file system without project quotas, which is where ours always is. */
function checkStorageOptions(options: HostSpec['storageOpt']): void {
  for (const key of Object.keys(options ?? {})) {
    if (key.toLowerCase() !== 'size') throw new EngineError('OPTION_UNSUPPORTED', `Unknown option ${key}`);
    const message = "--storage-opt is supported only for overlay over xfs with 'pquota' mount option";
    throw new EngineError('OPTION_UNSUPPORTED', message);
  }
}

function checkProcess(process: ProcessSpec): ProcessSpec {
  const { workingDir, stopSignal } = process;
  if (workingDir !== '' && !workingDir.startsWith('/')) {
    refuse(`the working directory '${workingDir}' is invalid, it needs to be an absolute path`);
  }
  if (stopSignal !== null && stopSignal !== '') parseSignal(stopSignal);
  for (const entry of process.env ?? []) checkEnv(entry);
  if (process.healthcheck !== null) checkHealthcheck(process.healthcheck);
  return { ...process, workingDir: workingDir === '' ? '' : cleanPath(workingDir) };
}

/** Go's filepath.Clean of an absolute path. */
export function cleanPath(path: string): string {
  return posix.resolve('/', path);
}

function checkHealthcheck(check: HealthcheckSpec): void {
  const atLeast = (name: string, ns: number): void => {
    if (ns !== 0 && ns < HEALTH_DURATION_NS_MIN) refuse(`${name} in Healthcheck cannot be less than 1ms`);
  };
  atLeast('Interval', check.intervalNs);
  atLeast('Timeout', check.timeoutNs);
  if (check.retries < 0) refuse('Retries in Healthcheck cannot be negative');
  atLeast('StartPeriod', check.startPeriodNs);
  atLeast('StartInterval', check.startIntervalNs);
}

/** What a container that lives in somebody else's namespaces cannot have of its own. */
function checkNetworkMode(process: ProcessSpec, host: HostSpec): void {
  const { networkMode } = host;
  const [kind = '', other = ''] = networkMode.split(':');
  if (kind === 'container' && other === '') {
    refuse('Invalid network mode: invalid container format container:<name|id>');
  }
  const isShared = networkMode.startsWith('container:');
  if (isShared) {
    if (process.hostname !== '') refuse('conflicting options: hostname and the network mode');
    if ((host.links ?? []).length > 0)
      refuse(
        "conflicting options: container type network can't be used with links. This would result in undefined behavior",
      );
    if ((host.dns ?? []).length > 0) refuse('conflicting options: dns and the network mode');
    if ((host.extraHosts ?? []).length > 0)
      refuse('conflicting options: custom host-to-IP mapping and the network mode');
  }
  const isHost = networkMode === 'host';
  if ((isShared || isHost) && (process.macAddress ?? '') !== '')
    refuse('conflicting options: mac-address and the network mode');
  if (isShared) {
    if (Object.keys(host.portBindings ?? {}).length > 0 || host.publishAllPorts) {
      refuse('conflicting options: port publishing and the container type network mode');
    }
    if ((process.exposedPorts ?? []).length > 0)
      refuse('conflicting options: port exposing and the container type network mode');
  }
  if (host.utsMode === 'host' && process.hostname !== '') refuse('conflicting options: hostname and the UTS mode');
  if (isHost && (host.links ?? []).length > 0) {
    refuse(
      "conflicting options: host type networking can't be used with links. This would result in undefined behavior",
    );
  }
}

/** "name:address" or "name=address"; "host-gateway" stands for the host. */
function checkExtraHost(entry: string): void {
  const at = entry.search(/[:=]/);
  if (at <= 0) refuse(`bad format for add-host: ${JSON.stringify(entry)}`);
  const address = entry.slice(at + 1).replace(/^\[(.*)\]$/, '$1');
  if (address !== 'host-gateway' && isIP(address) === 0) {
    refuse(`invalid IP address in add-host: ${JSON.stringify(entry.slice(at + 1))}`);
  }
}

function checkPorts(host: HostSpec): void {
  for (const [key, bindings] of Object.entries(host.portBindings ?? {})) {
    const [port = '', protocol = 'tcp'] = key.split('/');
    if (!isPort(port) || !['tcp', 'udp', 'sctp'].includes(protocol))
      refuse(`invalid port specification: ${JSON.stringify(key)}`);
    for (const { hostIp, hostPort } of bindings) {
      if (hostPort !== '' && !isRange(hostPort)) refuse(`invalid port specification: ${JSON.stringify(hostPort)}`);
      if (hostIp !== '' && isIP(hostIp.replace(/^\[(.*)\]$/, '$1')) === 0) refuse(`invalid IP address: ${hostIp}`);
    }
  }
}

function checkExposedPorts(process: ProcessSpec): void {
  for (const key of process.exposedPorts ?? []) {
    const [port = '', protocol = 'tcp'] = key.split('/');
    if (!isRange(port) || !['tcp', 'udp', 'sctp'].includes(protocol.toLowerCase())) {
      refuse(`invalid port specification: ${JSON.stringify(key)}`);
    }
  }
}

function isPort(text: string): boolean {
  return /^\d{1,5}$/.test(text) && Number(text) <= PORT_MAX;
}

function isRange(text: string): boolean {
  const [first = '', last = first, more] = text.split('-');
  return more === undefined && isPort(first) && isPort(last) && Number(first) <= Number(last);
}

/** Source: moby api/types/container hostconfig.go ValidateRestartPolicy. */
export function checkRestartPolicy({ name, maximumRetryCount }: RestartPolicySpec): void {
  switch (name) {
    case 'no':
    case 'always':
    case 'unless-stopped':
      if (maximumRetryCount !== 0) {
        const negative = maximumRetryCount < 0 ? ' and cannot be negative' : '';
        refuse(`invalid restart policy: maximum retry count can only be used with 'on-failure'${negative}`);
      }
      return;
    case 'on-failure':
      if (maximumRetryCount < 0) refuse('invalid restart policy: maximum retry count cannot be negative');
      return;
    default:
      // The type forbids it, but it came over the wire.
      refuse(
        `invalid restart policy: unknown policy '${String(name)}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'`,
      );
  }
}

/** "name:alias", "name" or "/name:/alias". Source: moby opts/parse ParseLink. */
export function parseLink(link: string): { readonly name: string; readonly alias: string } {
  if (link === '') refuse('empty string specified for links');
  const parts = link.split(':');
  if (parts.length > 2) refuse(`bad format for links: ${link}`);
  const [name = '', alias = name] = parts;
  const bare = name.startsWith('/') ? name.slice(1) : name;
  return { name: bare, alias: alias.slice(alias.lastIndexOf('/') + 1) };
}

function refuse(message: string): never {
  throw new EngineError('CONTAINER_SPEC_INVALID', message);
}
