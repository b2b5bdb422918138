/** What a user types: docker run, on a real kernel, by the real CLI. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, test } from 'node:test';

import { eventually, run, TestDaemon } from '../support/daemon.ts';

let d: TestDaemon;
before(async () => {
  d = await TestDaemon.start();
  await d.image();
});
after(() => d[Symbol.asyncDispose]());

const sh = (script: string) => ['run', '--rm', 'bb:1', 'sh', '-c', script];

test('docker run: output and exit code are the container’s', async () => {
  const { code, stdout, stderr } = await d.docker(...sh('echo out; echo err >&2; exit 42'));
  assert.deepEqual({ code, stdout, stderr }, { code: 42, stdout: 'out\n', stderr: 'err\n' });
});

test('docker run: 125 the engine, 126 not executable, 127 not found, 128+n a signal', async () => {
  const code = async (...argv: string[]) => (await d.docker(...argv)).code;
  assert.equal(await code('run', '--rm', '--network', 'no-such', 'bb:1', 'true'), 125);
  assert.equal(await code('run', '--rm', 'no/such:image', 'true'), 125);
  assert.equal(await code('run', '--rm', 'bb:1', '/etc'), 126);
  assert.equal(await code('run', '--rm', 'bb:1', '/etc/passwd'), 126);
  assert.equal(await code('run', '--rm', 'bb:1', 'nope'), 127);
  assert.equal(await code('run', '--rm', 'bb:1', '/no/such'), 127);
  assert.equal(await code(...sh('sleep 9 & kill -TERM $!; wait $!')), 143);
  assert.equal(await d.ok('ps', '-aq'), '', 'nothing is left of them');
});

test('docker run -i: four megabytes in and out, byte for byte', async () => {
  const input = randomBytes(4_000_000);
  const ran = await run('docker', ['run', '-i', '--rm', 'bb:1', 'cat'], { input, env: { DOCKER_HOST: d.host } });
  assert.equal(ran.code, 0, ran.stderr);
  assert(ran.bytes.equals(input), `${ran.bytes.length} bytes came back`);
});

test('docker run: the defaults of a container are Docker’s', async () => {
  const seen = await d.ok(
    ...sh(
      'grep -E "^(CapEff|CapBnd|Seccomp|NoNewPrivs):" /proc/self/status | tr -s "\\t " " "; df -k /dev/shm | awk "END{print \\$2}"; id -u; pwd; ls /dev | grep -v core | tr "\\n" " "',
    ),
  );
  assert.deepEqual(
    seen.split('\n'),
    [
      'CapBnd: 00000000a80425fb',
      'NoNewPrivs: 0',
      'Seccomp: 2',
      '65536',
      '0',
      '/',
      'fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero ',
    ].toSpliced(0, 0, 'CapEff: 00000000a80425fb'),
  );
});

test('docker run: /proc and /sys are masked and read-only where Docker’s are', async () => {
  const seen = await d.ok(
    ...sh(
      'cat /proc/kcore 2>/dev/null | head -c 1 | wc -c; ls /proc/scsi 2>/dev/null | wc -l; echo x 2>/dev/null >/proc/sysrq-trigger; echo $?; touch /sys/x 2>/dev/null; echo $?; echo 1 2>/dev/null >/proc/sys/kernel/hostname; echo $?',
    ),
  );
  assert.equal(seen.replace(/\n/g, ' '), '0 0 1 1 1');
});

test('docker run: options of the process are honoured', async () => {
  assert.equal(
    await d.ok(
      'run',
      '--rm',
      '-e',
      'A=1',
      '-e',
      'B=two words',
      '-w',
      '/made/here',
      '-u',
      '1234:5678',
      '--hostname',
      'h1',
      'bb:1',
      'sh',
      '-c',
      'echo $A $B $(pwd) $(id -u):$(id -g) $(hostname)',
    ),
    '1 two words /made/here 1234:5678 h1',
  );
  assert.equal(await d.ok('run', '--rm', '-u', 'app', 'bb:1', 'sh', '-c', 'echo $HOME $(id -u)'), '/home/app 1000');
  assert.equal(
    await d.ok('run', '--rm', '--security-opt', 'no-new-privileges', 'bb:1', 'grep', 'NoNewPrivs', '/proc/self/status'),
    'NoNewPrivs:\t1',
  );
  assert.equal(
    await d.ok('run', '--rm', '--ulimit', 'nofile=123:456', 'bb:1', 'sh', '-c', 'ulimit -Sn; ulimit -Hn'),
    '123\n456',
  );
  assert.equal((await d.docker('run', '--rm', '--read-only', 'bb:1', 'touch', '/x')).code, 1);
});

test('docker run: a limit reaches the cgroup', async () => {
  const seen = await d.ok(
    'run',
    '--rm',
    '--memory',
    '64m',
    '--pids-limit',
    '50',
    '--cpus',
    '0.5',
    'bb:1',
    'sh',
    '-c',
    'cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null; cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/pids/pids.max 2>/dev/null; cat /sys/fs/cgroup/cpu.max /sys/fs/cgroup/cpu/cpu.cfs_quota_us 2>/dev/null; true',
  );
  assert.match(seen, /^67108864\n50\n50000( 100000)?$/);
});

test('docker run -t: a terminal with the size of the client’s', async () => {
  const { stdout } = await run(
    'script',
    ['-qec', `stty rows 33 cols 111; docker run --rm -it bb:1 sh -c 'sleep 0.5; tty; stty size'`, '/dev/null'],
    { env: { DOCKER_HOST: d.host } },
  );
  assert.match(stdout.replaceAll('\r', ''), /\/dev\/pts\/0\n33 111/);
});

test('docker run -p: reached from the host by 127.0.0.1, from another container by the gateway; gone afterwards', async () => {
  await d.ok(
    'run',
    '-d',
    '--name',
    'web',
    '-p',
    '127.0.0.1::8080',
    '-p',
    '8081',
    'bb:1',
    'sh',
    '-c',
    'httpd -p 8081 -h /www; exec httpd -f -p 8080 -h /www',
  );
  const port = (await d.ok('port', 'web', '8080')).split(':').at(-1)!;
  const open = (await d.ok('port', 'web', '8081')).split('\n')[0]!.split(':').at(-1)!;
  const get = async (url: string) => (await run('curl', ['-s', '-m', '3', url])).stdout;
  await eventually('the web server answers', async () => (await get(`http://127.0.0.1:${port}/`)) === 'hello\n');
  assert.equal(await d.ok(...sh(`wget -qO- http://$(ip route | awk '/^default/{print $3}'):${open}/`)), 'hello');
  const address = await d.inspect('web', '{{.NetworkSettings.IPAddress}}');
  assert.equal(await d.ok(...sh(`wget -qO- http://${address}:8080/`)), 'hello');
  const taken = await d.docker('run', '--rm', '-p', `127.0.0.1:${port}:80`, 'bb:1', 'true');
  assert.equal(taken.code, 125);
  assert.match(taken.stderr, new RegExp(`${port}.*(already allocated|already in use)`));
  await d.ok('rm', '-f', 'web');
  assert.equal((await run('curl', ['-s', '-m', '2', `http://127.0.0.1:${port}/`])).code, 7, 'the port is closed again');
});

test('docker run --network: host, none, container:', async () => {
  const { stdout: host } = await run('readlink', ['/proc/self/ns/net']);
  assert.equal(`${await d.ok('run', '--rm', '--network', 'host', 'bb:1', 'readlink', '/proc/self/ns/net')}\n`, host);
  assert.equal(await d.ok('run', '--rm', '--network', 'none', 'bb:1', 'ls', '/sys/class/net'), 'lo');
  await d.ok('run', '-d', '--name', 'base', 'bb:1', 'sleep', '6000');
  assert.equal(
    await d.ok('run', '--rm', '--network', 'container:base', 'bb:1', 'hostname', '-i'),
    await d.ok('exec', 'base', 'hostname', '-i'),
  );
  await d.ok('rm', '-f', 'base');
});

test('docker run: a binary that writes and leaves at once loses nothing', async () => {
  for (let n = 0; n < 10; n++) assert.equal(await d.ok(...sh('seq 1 3000 | tail -1; echo last')), '3000\nlast');
});

test('docker run: ten at once', async () => {
  const seen = await Promise.all(Array.from({ length: 10 }, (_, n) => d.ok(...sh(`echo n${n}`))));
  assert.deepEqual(
    seen,
    Array.from({ length: 10 }, (_, n) => `n${n}`),
  );
});
