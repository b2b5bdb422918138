/**
 * Many containers on two networks: how long each start on the default bridge and each connect to a user network takes,
 * first ones against last ones. Only networks, no containers run; in a network namespace of its own. A bridge has 1,024
 * ports at most.
 *
 *   node bench/network-endpoints.ts [ENDPOINTS, default 1000]
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { systemClock } from '../src/core/clock.ts';
import { newId } from '../src/core/id.ts';
import { silent } from '../src/core/log.ts';
import { EventBus } from '../src/event/event-bus.ts';
import { openKernel } from '../src/kernel/kernel.ts';
import { PLAIN_ATTACH } from '../src/network/attach-fixture.ts';
import { ENDPOINT_DEFAULT } from '../src/network/endpoint-spec.ts';
import { openNetworks } from '../src/network/open-networks.ts';
import { openStore } from '../src/store/store.ts';

const COUNT = Number(process.argv[2] ?? 1000);
const WINDOW = 50;

if (process.env['INSIDE'] === undefined) {
  const script = 'mount -t sysfs sysfs /sys; ip link set lo up; exec "$@"';
  const argv = ['-n', '-m', '--propagation', 'private', 'sh', '-c', script, 'sh', process.execPath];
  const { status } = spawnSync('unshare', [...argv, ...process.argv.slice(1)], {
    stdio: 'inherit',
    env: { ...process.env, INSIDE: '1' },
  });
  process.exitCode = status ?? 1;
} else {
  await measure();
}

async function measure(): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'longshore-endpoints-'));
  await using kernel = await openKernel();
  await using store = openStore({ path: join(directory, 'db'), clock: systemClock, logger: silent });
  const events = new EventBus({ clock: systemClock, journal: store.journal });
  const options = { execRoot: directory, kernel, store, events, clock: systemClock, logger: silent };
  const networks = await openNetworks(options);
  await networks.recover(new Set());
  const { network } = await networks.create({
    name: 'many',
    driver: 'bridge',
    internal: false,
    attachable: false,
    ingress: false,
    scope: '',
    enableIpv4: true,
    enableIpv6: false,
    options: {},
    labels: {},
    configOnly: false,
    configFrom: '',
    ipam: { driver: '', options: null, configs: [] },
  });
  const starts: number[] = [];
  const connects: number[] = [];
  const timed = async (times: number[], work: () => Promise<unknown>): Promise<void> => {
    const begun = performance.now();
    await work();
    times.push(performance.now() - begun);
  };
  const ids = Array.from({ length: COUNT }, () => newId());
  for (const [index, containerId] of ids.entries()) {
    const containerName = `c${index}`;
    const request = {
      ...PLAIN_ATTACH,
      containerId,
      containerName,
      hostname: containerName,
      filesDir: join(directory, 'files', containerId),
    };
    await timed(starts, () => networks.attach(request));
    await timed(connects, () => networks.connect(containerId, containerName, network, ENDPOINT_DEFAULT));
  }
  report('start on the default bridge', starts);
  report('connect to a user network', connects);
  const begun = performance.now();
  for (const containerId of ids) await networks.detach(containerId);
  console.log(`all given back: ${((performance.now() - begun) / COUNT).toFixed(2)} ms each`);
  await networks.shutdown({ keep: false });
  execFileSync('sh', ['-c', `grep ' ${directory}/' /proc/self/mountinfo | cut -d' ' -f5 | xargs -r umount -l`]);
  rmSync(directory, { recursive: true, force: true });
}

function report(what: string, times: readonly number[]): void {
  const median = (list: readonly number[]): number => list.toSorted((a, b) => a - b)[list.length >> 1] ?? 0;
  const first = median(times.slice(0, WINDOW));
  const last = median(times.slice(-WINDOW));
  const least = [Math.min(...times.slice(0, WINDOW)), Math.min(...times.slice(-WINDOW))];
  console.log(
    `${what}: first ${WINDOW} ${first.toFixed(2)} ms, last ${WINDOW} of ${times.length} ${last.toFixed(2)} ms: ${(last / first).toFixed(2)}` +
      ` (least ${least.map((ms) => ms.toFixed(2)).join(' and ')} ms)`,
  );
}
