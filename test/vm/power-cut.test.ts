/**
 * A power cut under running containers. In two boots of the virtual machine from the same disk (test/vm/run.sh
 * --reboot-test): the first starts a daemon and containers of every policy and asks the host side to cut the power; the
 * second starts the daemon again and looks at what is true.
 */
import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import {
  appendFileSync,
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { eventually, run } from '../support/daemon.ts';

const ROOT = join(import.meta.dirname, '../..');
const BOOT = process.env['LSVM_BOOT'];
const DATA = '/data/power-cut';
const FACTS = join(DATA, 'facts.json');
/** The last number that the writer said. */
const SAID = join(DATA, 'said');
const EXEC_ROOT = '/run/power-cut';
const HOST = `unix://${EXEC_ROOT}.sock`;
/** Records that are not synced one by one are within 250 ms; a second and a half is that with an emulated processor. */
const SETTLE_MS = 1_500;
const DOWN_EXIT_CODE = 255;

interface Facts {
  readonly bootId: string;
  readonly startedAt: Readonly<Record<string, string>>;
  readonly ids: Readonly<Record<string, string>>;
}

let daemon: ChildProcess;
let log = '';

async function startDaemon(): Promise<void> {
  const argv = [
    'daemon',
    '--host',
    HOST,
    '--data-root',
    join(DATA, 'root'),
    '--exec-root',
    EXEC_ROOT,
    '--pidfile',
    `${EXEC_ROOT}.pid`,
    '--log-level',
    'debug',
  ];
  daemon = spawn(join(ROOT, 'bin/longshore'), argv, { stdio: ['ignore', 'ignore', 'pipe'] });
  daemon.stderr!.on('data', (chunk: Buffer) => (log += chunk.toString()));
  await eventually(
    'the daemon answers',
    async () => {
      assert.equal(daemon.exitCode, null, log);
      return (await docker('version')).code === 0;
    },
    60_000,
  );
}

const docker = (...argv: readonly string[]) =>
  run('docker', argv, { env: { DOCKER_HOST: HOST, DOCKER_CONFIG: join(DATA, 'cli') } });

async function ok(...argv: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await docker(...argv);
  assert.equal(code, 0, `docker ${argv.join(' ')}: ${stderr}\n--- daemon:\n${log.slice(-3000)}`);
  return stdout.trim();
}

const inspect = (ref: string, format: string): Promise<string> => ok('inspect', '--format', format, ref);
const bootId = (): string => readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();

/** Name, options, command. */
const CONTAINERS: readonly (readonly [name: string, options: readonly string[], ...command: string[]])[] = [
  [
    'always',
    ['--restart', 'always', '-v', 'kept:/kept'],
    'sh',
    '-c',
    'date +%N >>/kept/starts; sync; exec sleep 100000',
  ],
  ['always-stopped', ['--restart', 'always'], 'sleep', '100000'],
  ['unless-stopped', ['--restart', 'unless-stopped', '--network', 'own'], 'sleep', '100000'],
  ['unless-stopped-stopped', ['--restart', 'unless-stopped'], 'sleep', '100000'],
  ['on-failure', ['--restart', 'on-failure:3'], 'sleep', '100000'],
  ['no', ['-p', '127.0.0.1:8099:80'], 'sleep', '100000'],
  ['paused', [], 'sleep', '100000'],
  ['ended', [], 'sh', '-c', 'echo last words; exit 7'],
  ['auto-removed', ['--rm'], 'sleep', '100000'],
  // Says a number once it is synced.
  [
    'writer',
    ['-v', 'synced:/synced'],
    'sh',
    '-c',
    'n=0; while :; do n=$((n + 1)); echo $n >>/synced/log && sync /synced/log && echo $n; done',
  ],
];
const STOPPED = ['always-stopped', 'unless-stopped-stopped'];

if (BOOT === '1') {
  test('power cut, before: containers of every policy run', async () => {
    mkdirSync(DATA, { recursive: true });
    await startDaemon();
    const image = await run('sh', [join(ROOT, 'test/support/busybox-image.sh')], { binary: true });
    const imported = await run('docker', ['import', '-c', 'CMD ["sh"]', '-c', 'ENV PATH=/bin', '-', 'bb:1'], {
      env: { DOCKER_HOST: HOST },
      input: image.bytes,
    });
    assert.equal(imported.code, 0, imported.stderr);
    await ok('network', 'create', 'own');
    for (const [name, options, ...command] of CONTAINERS)
      await ok('run', '-d', '--name', name, ...options, 'bb:1', ...command);
    await ok('create', '--name', 'created', 'bb:1', 'true');
    await ok('stop', '-t', '0', ...STOPPED);
    await ok('pause', 'paused');
    assert.equal(await ok('wait', 'ended'), '7');
    const facts: Facts = {
      bootId: bootId(),
      startedAt: await column('{{.State.StartedAt}}'),
      ids: await column('{{.Id}}'),
    };
    writeSynced(FACTS, JSON.stringify(facts));
    await sleep(SETTLE_MS);
    writeSynced(SAID, await ok('logs', '--tail', '1', 'writer'));
    // The last that this machine does is to start one more.
    void docker('run', '-d', '--name', 'unborn', 'bb:1', 'sleep', '100000');
    appendFileSync('/dev/ttyS1', 'vm: cut\n');
    await sleep(60_000);
    assert.fail('the power was not cut');
  });
} else {
  describe('power cut, after', { skip: BOOT !== '2' }, () => {
    let facts: Facts;
    before(async () => {
      facts = JSON.parse(readFileSync(FACTS, 'utf8')) as Facts;
      assert.notEqual(bootId(), facts.bootId, 'it is another boot');
      await startDaemon();
    });
    after(async () => {
      await docker('rm', '-fv', ...(await ok('ps', '-aq')).split('\n'));
      const ended = new Promise((resolve) => daemon.once('exit', resolve));
      daemon.kill();
      await ended;
      console.log(
        log
          .split('\n')
          .filter((line) => / (warn|error) /.test(line))
          .join('\n'),
      );
    });

    test('policies: always and unless-stopped run again, what a user stopped as dockerd does it', async () => {
      const state = (name: string): Promise<string> => inspect(name, '{{.State.Status}}');
      for (const name of ['always', 'unless-stopped', 'on-failure', 'always-stopped'])
        await eventually(`${name} runs (${log.slice(-2000)})`, async () => (await state(name)) === 'running', 20_000);
      assert.equal(await state('unless-stopped-stopped'), 'exited');
      assert.equal(await state('created'), 'created');
      assert.notEqual(await inspect('always', '{{.State.StartedAt}}'), facts.startedAt['always']);
      assert.equal(
        await ok('exec', 'always', 'sh', '-c', 'wc -l </kept/starts'),
        '2',
        'started once each boot, its volume kept',
      );
      assert.equal((await inspect('unless-stopped', '{{.NetworkSettings.Networks.own.IPAddress}}')) === '', false);
      assert.equal(
        await ok('run', '--rm', '--network', 'own', 'bb:1', 'ping', '-c', '1', '-q', 'unless-stopped').then(
          () => 'reached',
        ),
        'reached',
      );
    });

    test('exits: those that nobody saw are known as lost, those that were seen keep their code and log', async () => {
      for (const name of ['no', 'paused']) {
        assert.equal(
          await inspect(
            name,
            '{{.State.Status}} {{.State.ExitCode}} {{.State.Pid}} {{.State.Running}} {{.State.Paused}} {{.State.OOMKilled}}',
          ),
          `exited ${DOWN_EXIT_CODE} 0 false false false`,
          name,
        );
        assert.equal(await inspect(name, '{{.State.StartedAt}}'), facts.startedAt[name], name);
      }
      assert.equal(await inspect('ended', '{{.State.Status}} {{.State.ExitCode}}'), 'exited 7');
      assert.equal(await ok('logs', 'ended'), 'last words');
      await eventually('--rm removes it', async () => (await docker('inspect', 'auto-removed')).code === 1);
    });

    test('volumes: every byte that the writer had synced is there', () => {
      const said = Number(readFileSync(SAID, 'utf8'));
      const text = readFileSync(join(DATA, 'root/volumes/synced/_data/log'), 'utf8');
      const written = text.slice(0, text.lastIndexOf('\n')).split('\n').map(Number);
      assert(said > 0 && written.length >= said, `it said ${said}, there are ${written.length}`);
      assert.deepEqual(written.slice(0, said), Array.from({ length: said }, (_, i) => i + 1)); // prettier-ignore
    });

    test('records: intact, with the same IDs, and what was being born is whole or not at all', async () => {
      const present = { ...facts.ids };
      delete present['auto-removed'];
      const { unborn, ...now } = await column('{{.Id}}');
      assert.deepEqual(now, present);
      if (unborn !== undefined) assert.match(await inspect('unborn', '{{.State.Status}}'), /^(created|exited)$/);
      assert.equal(await ok('image', 'ls', '-q', 'bb:1').then((ids) => ids.split('\n').length), 1);
      assert.doesNotMatch(log, /corrupt|set aside|damaged/);
    });

    test('nothing stale: shims, cgroups, mounts and ports are those of what runs', async () => {
      const running = new Set((await ok('ps', '-q', '--no-trunc')).split('\n'));
      const shims = readdirSync('/proc')
        .filter((pid) => /^\d+$/.test(pid))
        .map((pid) => commandOf(pid))
        .filter((name) => name === 'longshore-shim');
      assert.equal(shims.length, running.size, shims.join('\n'));
      const mounted = readFileSync('/proc/self/mountinfo', 'utf8')
        .split('\n')
        .filter((line) => line.includes(' - overlay '));
      assert.equal(mounted.length, running.size, mounted.join('\n'));
      assert.equal(await ok('start', 'no', 'paused'), 'no\npaused', 'a port and names that were in use are free again');
      assert.equal(await inspect('no', '{{.State.Running}}'), 'true');
      assert.equal(await ok('exec', 'paused', 'echo', 'awake'), 'awake');
    });
  });
}

function writeSynced(path: string, text: string): void {
  const fd = openSync(path, 'w');
  writeFileSync(fd, text);
  fsyncSync(fd);
  closeSync(fd);
}

/** What `docker inspect --format` says of every container, by name. */
async function column(format: string): Promise<Record<string, string>> {
  const ids = (await ok('ps', '-aq')).split('\n');
  const lines = (await ok('inspect', '--format', `{{.Name}} ${format}`, ...ids)).split('\n');
  return Object.fromEntries(lines.map((line) => [line.slice(1, line.indexOf(' ')), line.slice(line.indexOf(' ') + 1)]));
}

function commandOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8').trim();
  } catch {
    return ''; // ended meanwhile
  }
}
