/** docker exec as moby's and docker-py's tests have it: who may, with what, and what it is told when it may not. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { after, before, test } from 'node:test';

import { eventually, TestDaemon, type Answer } from '../support/daemon.ts';

let d: TestDaemon;
before(async () => {
  d = await TestDaemon.start();
  await d.image();
});
after(() => d[Symbol.asyncDispose]());

const create = (id: string, config: object): Promise<Answer> => d.api('POST', `/v1.51/containers/${id}/exec`, config);
const inspect = async (execId: string): Promise<Record<string, unknown>> =>
  (await d.api('GET', `/v1.51/exec/${execId}/json`)).json;

/** Output of a detached-not exec, its frames taken out, and its exit code. */
async function ran(id: string, config: object): Promise<{ out: string; code: unknown }> {
  const { status, json, text } = await create(id, { AttachStdout: true, AttachStderr: true, ...config });
  assert.equal(status, 201, text);
  const socket = connect(d.socket);
  const chunks: Buffer[] = [];
  const body = JSON.stringify({ Tty: 'Tty' in config });
  socket.write(
    `POST /v1.51/exec/${json.Id}/start HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
  );
  for await (const chunk of socket) chunks.push(chunk as Buffer);
  const bytes = Buffer.concat(chunks);
  const answer = bytes.subarray(bytes.indexOf('\r\n\r\n') + 4);
  let out = 'Tty' in config ? answer.toString() : '';
  if (!('Tty' in config))
    for (let at = 0; at + 8 <= answer.length; at += 8 + answer.readUInt32BE(at + 4))
      out += answer.toString('utf8', at + 8, at + 8 + answer.readUInt32BE(at + 4));
  return { out, code: (await inspect(json.Id))['ExitCode'] };
}

test('exec: environment, user, directory, privileges, and what inspect tells of them', async () => {
  const id = await d.ok('run', '-d', '-e', 'A=container', '-e', 'K=kept', '-w', '/etc', '--group-add', '9', 'bb:1', 'sleep', '1000'); // prettier-ignore
  const show = ['sh', '-c', 'echo $A $K $HOME $TERM.; pwd; id -u; id -g; id -G; grep CapEff /proc/self/status'];
  assert.equal(
    (await ran(id, { Cmd: show, Env: ['A=exec', 'B=1'] })).out,
    'exec kept /root .\n/etc\n0\n0\n0 9\nCapEff:\t00000000a80425fb\n',
  );
  const other = await ran(id, { Cmd: show, User: '1000', WorkingDir: '/tmp', Env: ['HOME=/h'] });
  assert.match(other.out, /^container kept \/h \.\n\/tmp\n1000\n1000\n[0-9 ]*9[0-9 ]*\nCapEff:\t0{16}\n$/);
  const all = /^CapEff:.*\n/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[0] as string;
  assert.ok((await ran(id, { Cmd: show, Privileged: true })).out.endsWith(all));
  const terminal = await ran(id, { Cmd: ['sh', '-c', 'echo $TERM; tty'], Tty: true });
  assert.match(terminal.out, /^xterm\r\n\/dev\/pts\/\d+\r\n$/);
  const sized = await ran(id, { Cmd: ['stty', 'size'], Tty: true, ConsoleSize: [33, 44] });
  assert.equal(sized.out, '33 44\r\n');
  const { json } = await create(id, { Cmd: ['a', 'b', 'c'], User: 'app', Privileged: true, AttachStderr: true, DetachKeys: 'ctrl-a' }); // prettier-ignore
  assert.deepEqual(await inspect(json.Id), {
    ID: json.Id,
    Running: false,
    ExitCode: null,
    ProcessConfig: { tty: false, entrypoint: 'a', arguments: ['b', 'c'], privileged: true, user: 'app' },
    OpenStdin: false,
    OpenStderr: true,
    OpenStdout: false,
    CanRemove: false,
    ContainerID: id,
    DetachKeys: 'AQ==',
    Pid: 0,
  });
  await d.ok('rm', '-f', id);
});

test('exec: refused, in Docker’s words, by what the container does; and of what is not there', async () => {
  const id = await d.ok('run', '-d', '--name', 'refusing', 'bb:1', 'sleep', '1000');
  const { json } = await create(id, { Cmd: ['true'] });
  const refused = async (answer: Promise<Answer>, status: number, message: string): Promise<void> => {
    const { status: got, json: body } = await answer;
    assert.deepEqual([got, body?.message], [status, message]);
  };
  const start = (execId: string, detach = false): Promise<Answer> =>
    d.api('POST', `/v1.51/exec/${execId}/start`, { Detach: detach });
  await refused(create(id, { Cmd: [] }), 400, 'No exec command specified');
  await refused(create(id, {}), 400, 'No exec command specified');
  await refused(create(id, { Cmd: ['x'], DetachKeys: 'shift-a' }), 400, 'Invalid escape keys (shift-a) provided');
  await refused(create('missing', { Cmd: ['x'] }), 404, 'No such container: missing');
  const nobody = 'unable to find user nobody-knows: no matching entries in passwd file';
  await refused(create(id, { Cmd: ['x'], User: 'nobody-knows:1' }), 400, nobody);
  const group = 'unable to find group root;0: no matching entries in group file';
  await refused(create(id, { Cmd: ['x'], User: '0:root;0' }), 400, group);
  assert.equal((await d.docker('exec', '-u', 'nobody-knows', id, 'true')).code, 1);
  await refused(start('missing'), 404, 'No such exec instance: missing');
  await refused(d.api('GET', '/v1.51/exec/missing/json'), 404, 'No such exec instance: missing');
  await refused(d.api('POST', '/v1.51/exec/missing/resize?h=1&w=1'), 404, 'No such exec instance: missing');
  await d.ok('pause', id);
  const paused = 'is paused, unpause the container before exec';
  await refused(create('refusing', { Cmd: ['true'] }), 409, `Container refusing ${paused}`);
  await refused(start(json.Id), 409, `Container ${id} ${paused}`);
  await refused(
    d.api('POST', `/v1.51/containers/${id}/attach?stream=1`),
    409,
    undefined as never, // On the raw connection, as text.
  );
  await d.ok('unpause', id);
  assert.equal((await start(json.Id, true)).status, 200);
  await eventually('its end', async () => (await inspect(json.Id))['Running'] === false);
  await refused(start(json.Id, true), 409, `exec command ${json.Id} has already run`);
  const second = await start(json.Id); // moby has sent its head by then: it is told in the stream
  assert.equal(second.status, 200);
  assert.equal(second.text.slice(8), `exec command ${json.Id} has already run\r\n`);
  await d.ok('kill', id);
  await d.ok('wait', id);
  await refused(create('refusing', { Cmd: ['true'] }), 409, `container ${id} is not running`);
  await refused(d.api('POST', `/v1.51/containers/${id}/resize?h=1&w=1`), 409, `container ${id} is not running`);
  await d.ok('rm', id);
  await refused(d.api('GET', `/v1.51/exec/${json.Id}/json`), 404, `No such exec instance: ${json.Id}`);

  const again = await d.ok('run', '-d', '--restart', 'always', 'bb:1', 'false');
  await eventually('a long wait', async () => Number(await d.inspect(again, '{{.RestartCount}}')) >= 4, 40_000);
  await eventually('waiting', async () => (await d.inspect(again, '{{.State.Status}}')) === 'restarting');
  const waiting = `Container ${again} is restarting, wait until the container is running`;
  await refused(create(again, { Cmd: ['true'] }), 409, waiting);
  await d.ok('rm', '-f', again);
});

test('exec: what cannot be run is 126 or 127 in inspect and to the CLI, with the reason in the stream', async () => {
  const id = await d.ok('run', '-d', 'bb:1', 'sleep', '1000');
  await d.ok(
    'exec',
    id,
    'sh',
    '-c',
    'echo text > /plain; printf "#!/nope\\n" > /lost; chmod +x /lost; echo x > /x; chmod +x /x',
  );
  for (const [config, code, words] of [
    [{ Cmd: ['nope'] }, 127, 'exec: "nope": executable file not found in $PATH'],
    [{ Cmd: ['/nope'] }, 127, 'exec: "/nope": stat /nope: no such file or directory'],
    [{ Cmd: ['/plain'] }, 126, 'exec: "/plain": permission denied'],
    [{ Cmd: ['/etc'] }, 126, 'exec: "/etc": is a directory'],
    [{ Cmd: ['/lost'] }, 127, 'exec /lost: no such file or directory'],
    [{ Cmd: [''] }, 126, 'exec: "": executable file not found in $PATH'],
    [
      { Cmd: ['true'], WorkingDir: '/nope' },
      127,
      'chdir to cwd ("/nope") set in config.json failed: no such file or directory',
    ],
    [{ Cmd: ['true'], WorkingDir: 'tmp' }, 126, 'exec failed: Cwd must be an absolute path: unknown'],
  ] as const) /* prettier-ignore */ {
    const { out, code: got } = await ran(id, config);
    assert.ok(out.includes(words), `${JSON.stringify(out)} instead of ${words}`);
    if (words.startsWith('exec: ""')) continue;
    assert.equal(got, code, JSON.stringify(config));
    const flags = 'WorkingDir' in config ? ['-w', config.WorkingDir] : [];
    assert.equal((await d.docker('exec', ...flags, id, ...config.Cmd)).code, code, JSON.stringify(config));
  }
  await d.ok('rm', '-f', id);
});

test('resize: before and after the start, of a terminal and of none; bad sizes are refused', async () => {
  const id = await d.ok('create', '-t', 'bb:1', 'sh', '-c', 'trap "stty size" WINCH; while :; do sleep 0.1; done');
  const resize = (what: string, h: string, w: string): Promise<Answer> =>
    d.api('POST', `/v1.51/${what}/resize?h=${h}&w=${w}`);
  assert.equal((await resize(`containers/${id}`, '10', '10')).status, 409);
  await d.ok('start', id);
  await eventually('the trap', async () => {
    assert.equal((await resize(`containers/${id}`, '21', '43')).status, 200);
    await resize(`containers/${id}`, '22', '44');
    return (await d.ok('logs', id)).includes('22 44');
  });
  for (const [h, w] of [
    ['x', '1'],
    ['1', ''],
    ['-1', '5'],
    ['4294967296', '5'],
  ] as const)
    /* prettier-ignore */
    assert.equal((await resize(`containers/${id}`, h, w)).status, 400, `${h} ${w}`);
  const { json } = await create(id, {
    Cmd: ['sh', '-c', 'read x; stty size'],
    Tty: true,
    AttachStdin: true,
    AttachStdout: true,
  });
  const early = resize(`exec/${json.Id}`, '5', '6'); // Waits for the start.
  const socket = connect(d.socket);
  let text = '';
  socket.on('data', (chunk: Buffer) => (text += String(chunk)));
  socket.write(
    `POST /v1.51/exec/${json.Id}/start HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Type: application/json\r\nContent-Length: 12\r\n\r\n{"Tty":true}`,
  );
  assert.equal((await early).status, 200);
  socket.write('\n');
  await eventually('the size', () => text.includes('5 6'));
  socket.destroy();
  const plain = await d.ok('run', '-d', 'bb:1', 'sleep', '1000');
  assert.equal((await resize(`containers/${plain}`, '5', '6')).status, 200);
  await d.ok('rm', '-f', id, plain);
});
