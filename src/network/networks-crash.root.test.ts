/**
 * The daemon is killed while containers come and go: what the next one finds in the kernel must equal the records.
 * The file plays three parts: the test, the namespace that it runs in, and the daemon that is killed.
 */
import assert from 'node:assert/strict';
import { execFile, execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { test } from 'node:test';
import { promisify } from 'node:util';

import { systemClock } from '../core/clock.ts';
import { newId } from '../core/id.ts';
import { silent } from '../core/log.ts';
import { openKernel } from '../kernel/kernel.ts';
import { openStore } from '../store/store.ts';
import { PLAIN_ATTACH, PLAIN_NETWORK } from './attach-fixture.ts';
import { ENDPOINT_DEFAULT } from './endpoint-spec.ts';
import { openNetworks } from './open-networks.ts';
import type { AttachRequest, NetworkSpec } from './port.ts';
import { decodeSandbox, type SandboxRecord } from './records.ts';

const PART = 'LONGSHORE_NETWORK_CRASH';
const ROUNDS = Number(process.env['ROUNDS'] ?? 5);
const TIMEOUT_MS = ROUNDS * 20_000;

const part = process.env[PART];
if (part === undefined) {
  test(
    'recover: a daemon killed at any moment leaves nothing that the next one does not know',
    { timeout: TIMEOUT_MS + 20_000 },
    async () => {
      const env = { ...process.env, [PART]: 'inside', NODE_TEST_CONTEXT: undefined };
      const command = [
        '-n',
        '-m',
        '--propagation',
        'private',
        process.execPath,
        '--test-reporter=tap',
        import.meta.filename,
      ];
      await promisify(execFile)('unshare', command, { env, timeout: TIMEOUT_MS + 10_000, maxBuffer: 1 << 24 }).catch(
        (error: { stdout?: string; stderr?: string }) => assert.fail(`${error.stdout ?? ''}\n${error.stderr ?? ''}`),
      );
    },
  );
} else if (part === 'inside') {
  test('killed and recovered', { timeout: TIMEOUT_MS }, killAndRecover);
} else {
  await churn(part);
}

async function open(directory: string) {
  const kernel = await openKernel();
  const store = openStore({ path: `${directory}/store.sqlite`, clock: systemClock, logger: silent });
  const networks = await openNetworks({
    execRoot: directory,
    kernel,
    store,
    events: { publish: () => {} },
    clock: systemClock,
    logger: silent,
  });
  return { kernel, store, networks };
}

/** Starts, stops, connects and disconnects, several at a time, until it is killed. */
async function churn(directory: string): Promise<never> {
  const { networks, store } = await open(directory);
  const known = store.collection<SandboxRecord>('network-sandboxes', decodeSandbox).load();
  await networks.recover(new Set(known.keys()));
  process.stdout.write('up\n');
  const lane = async (lane: number): Promise<never> => {
    for (let turn = 0; ; turn++) {
      const { network } = await networks.create(spec(`n${lane}x${turn}x${process.pid}`));
      const asked = request(`c${lane}`, turn % 2 === 0 ? 'bridge' : network.id, directory);
      await networks.attach(asked);
      if (turn % 2 === 0) await networks.connect(asked.containerId, asked.containerName, network, ENDPOINT_DEFAULT);
      if (turn % 3 === 0) await networks.disconnect(asked.containerId, network);
      if (turn % 4 === 3) continue; // it stays, as what runs does
      await networks.detach(asked.containerId);
      await networks.remove(network.id);
    }
  };
  return await Promise.race([0, 1, 2].map(lane));
}

async function killAndRecover(): Promise<void> {
  execFileSync('ip', ['link', 'set', 'lo', 'up']);
  const directory = mkdtempSync('/tmp/longshore-network-crash-');
  try {
    for (let round = 0; round < ROUNDS; round++) {
      await killDaemon(directory, 30 + round * 40);
      const { kernel, store, networks } = await open(directory);
      const records = store.collection<SandboxRecord>('network-sandboxes', decodeSandbox).load();
      // Some of the containers died too; the others had finished their start.
      const alive = [...records.values()].filter(
        ({ namespacePath, endpoints }, index) =>
          index % 2 === 0 && namespacePath !== null && existsSync(namespacePath) && endpoints.length > 0,
      );
      await networks.recover(new Set(alive.map(({ containerId }) => containerId)));
      await assertKernelEquals(
        directory,
        alive,
        networks.list().flatMap(({ bridgeName }) => (bridgeName === '' ? [] : [bridgeName])),
      );
      await Promise.all(alive.map(({ containerId }) => networks.detach(containerId)));
      await assertKernelEquals(
        directory,
        [],
        networks.list().flatMap(({ bridgeName }) => (bridgeName === '' ? [] : [bridgeName])),
      );
      for (const { name, driver } of networks.list())
        if (driver === 'bridge' && name !== 'bridge') await networks.remove(name);
      assert.equal(networks.list().length, 3);
      await networks.shutdown({ keep: round < ROUNDS - 1 });
      await store[Symbol.asyncDispose]();
      await kernel[Symbol.asyncDispose]();
    }
    assert.equal(execFileSync('nft', ['list', 'tables']).toString(), '');
    assert.deepEqual(interfaces(), ['lo']);
  } finally {
    execFileSync('sh', ['-c', `cut -d' ' -f5 /proc/self/mountinfo | grep '^${directory}' | xargs -r umount -l`]);
    rmSync(directory, { recursive: true });
  }
}

async function killDaemon(directory: string, afterMs: number): Promise<void> {
  const daemon = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', import.meta.filename], {
    env: { ...process.env, [PART]: directory, NODE_TEST_CONTEXT: undefined },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await new Promise((resolve) => daemon.stdout.once('data', resolve));
  await new Promise((resolve) => setTimeout(resolve, afterMs));
  assert.equal(daemon.exitCode, null);
  const ended = new Promise((resolve) => daemon.once('exit', resolve));
  daemon.kill('SIGKILL');
  await ended;
}

async function assertKernelEquals(
  directory: string,
  alive: readonly SandboxRecord[],
  bridges: readonly string[],
): Promise<void> {
  const namespaces = alive.map(({ containerId }) => containerId).toSorted();
  assert.deepEqual(readdirSync(`${directory}/netns`).toSorted(), namespaces);
  const veths = alive.flatMap(({ endpoints }) => endpoints.map(({ hostInterface }) => hostInterface));
  const expected = ['lo', ...bridges, ...veths].toSorted();
  // Interfaces go some time after their namespace.
  for (let tries = 0; tries < 100 && interfaces().join() !== expected.join(); tries++)
    await new Promise((resolve) => setTimeout(resolve, 20));
  // A container that was killed in the middle of a connect may lack that interface; nobody has one too many.
  const present = interfaces();
  assert.deepEqual(
    present.filter((name) => !expected.includes(name)),
    [],
  );
  assert.deepEqual(
    bridges.filter((name) => !present.includes(name)),
    [],
  );
  const published = execFileSync('nft', ['list', 'map', 'ip', 'longshore', 'anywhere']).toString();
  const ports = [...published.matchAll(/tcp \. (\d+) :/g)].map((match) => Number(match[1])).toSorted((a, b) => a - b);
  const wanted = alive
    .flatMap(({ mappings }) =>
      mappings.filter(({ hostAddress }) => hostAddress === '0.0.0.0').map(({ hostPort }) => hostPort),
    )
    .toSorted((a, b) => a - b);
  assert.deepEqual(ports, wanted);
  const known = execFileSync('nft', ['list', 'set', 'ip', 'longshore', 'bridges']).toString();
  assert.deepEqual(
    [...known.matchAll(/"([^"]+)"/g)].map((match) => String(match[1])).toSorted(),
    [...bridges].toSorted(),
  );
}

function interfaces(): string[] {
  return execFileSync('sh', ['-c', "ip -br link | sed 's/[ @].*//'"]).toString().trim().split('\n').toSorted();
}

function request(containerName: string, mode: string, directory: string): AttachRequest {
  const containerId = newId();
  return {
    ...PLAIN_ATTACH,
    containerId,
    containerName,
    mode,
    hostname: containerId.slice(0, 12),
    portBindings: { '80/tcp': [{ hostIp: '', hostPort: '' }] },
    filesDir: `${directory}/files/${containerId}`,
  };
}

function spec(name: string): NetworkSpec {
  return { ...PLAIN_NETWORK, name };
}
