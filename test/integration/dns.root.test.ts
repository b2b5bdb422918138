/** The resolver at 127.0.0.11 as a container sees it: its own names, names of others, and hostile or hopeless questions. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { run, TestDaemon } from '../support/daemon.ts';
import { askDns, loadDns } from '../support/dns-client.ts';
import { Hosts } from '../support/hosts.ts';

const TYPE = { A: 1, PTR: 12, AAAA: 28 };
const RCODE = { ok: 0, format: 1, failure: 2, missing: 3, notImplemented: 4 };

let hosts: Hosts;
let d: TestDaemon;
let asks: string;
before(async () => {
  hosts = await Hosts.make();
  d = await TestDaemon.startIn(hosts.path('a'));
  await d.image();
  await d.ok('network', 'create', '--subnet', '10.53.0.0/24', 'names');
  const more = ['--network', 'names', '--network-alias', 'Both'];
  const own = ['--dns', '192.0.2.2', '--dns-search', 'corp.example', '--dns-option', 'ndots:3'];
  await d.ok('run', '-d', '--name', 'asks', ...more, ...own, 'bb:1', 'sleep', '600');
  await d.ok('run', '-d', '--name', 'web', '--ip', '10.53.0.9', ...more, 'bb:1', 'sleep', '600');
  asks = await d.namespace('asks');
});
after(async () => {
  await d[Symbol.asyncDispose]();
  await hosts[Symbol.asyncDispose]();
});

const ask = (name: string, type = TYPE.A, tcp = false) => askDns(asks, { name, type }, { tcp });

test('own names: any case, aliases in turn, short IDs, reverse, and no address of a family is no error', async () => {
  const id = (await d.inspect('web', '{{.Id}}')).slice(0, 12);
  for (const name of ['web', 'WEB', 'web.names', id]) assert.deepEqual((await ask(name))?.answers, ['10.53.0.9'], name);
  assert.deepEqual((await ask('web', TYPE.A, true))?.answers, ['10.53.0.9']);
  const six = await ask('web', TYPE.AAAA);
  assert.deepEqual([six?.rcode, six?.answers], [RCODE.ok, []]);
  assert.deepEqual((await ask('9.0.53.10.in-addr.arpa', TYPE.PTR))?.answers, ['web.names']);
  const firsts = new Set<string>();
  for (let tries = 0; tries < 20 && firsts.size < 2; tries++) {
    const both = await ask('both');
    assert.deepEqual(both?.answers.toSorted(), ['10.53.0.2', '10.53.0.9']);
    firsts.add(both!.answers[0]!);
  }
  assert.equal(firsts.size, 2, 'each is first at times');
  const conf = await d.ok('exec', 'asks', 'cat', '/etc/resolv.conf');
  assert.match(conf, /^nameserver 127\.0\.0\.11$[^]*^search corp\.example$[^]*^options ndots:3$/m);
});

test('names of others: by the given server, by TCP where the answer is long, and what it says is passed on', async () => {
  // A server on B: NXDOMAIN for "no…", 80 addresses for "long…" (by UDP only that they are too many), else 1.2.3.4.
  const program = `
    const answer = (q, tcp) => {
      const name = q.toString('latin1', 13, 13 + q[12]);
      let end = 12; while (q[end] !== 0) end += q[end] + 1; end += 5;
      const count = name.startsWith('no') ? 0 : name.startsWith('long') ? 80 : 1;
      const cut = count === 80 && !tcp;
      const head = Buffer.from([q[0], q[1], 0x81 | (cut ? 2 : 0), 0x80 | (count === 0 ? 3 : 0), 0, 1, 0, cut ? 0 : count, 0, 0, 0, 0]);
      const records = Array.from({ length: cut ? 0 : count }, (_, i) => Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 1, 2, 3, 4 + i]));
      return Buffer.concat([head, q.subarray(12, end), ...records]);
    };
    const u = require('dgram').createSocket('udp4');
    u.on('message', (m, r) => u.send(answer(m, false), r.port, r.address));
    require('net').createServer((s) => s.on('error', () => {}).once('data', (d) => {
      const a = answer(d.subarray(2), true); s.end(Buffer.concat([Buffer.from([a.length >> 8, a.length & 255]), a]));
    })).listen(53, '192.0.2.2', () => u.bind(53, '192.0.2.2', () => console.log('up')));`;
  await hosts.run('b', program);
  assert.deepEqual((await ask('there.example'))?.answers, ['1.2.3.4']);
  assert.equal((await ask('no.example'))?.rcode, RCODE.missing);
  const short = await ask('long.example');
  assert.deepEqual([short?.truncated, short?.answers], [true, []]);
  assert.equal((await ask('long.example', TYPE.A, true))?.answers.length, 80);
});

test('a server that never answers delays no name of ours, and questions to ourselves go round no longer than one answer', async () => {
  const lost = ['--dns', '203.0.113.1', '--dns', '127.0.0.11'];
  await d.ok('run', '-d', '--name', 'lost', '--network', 'names', ...lost, 'bb:1', 'sleep', '600');
  const namespace = await d.namespace('lost');
  const load = await loadDns(namespace, { name: 'web', seconds: 2, inFlight: 8, strangers: 1000 });
  assert.equal(load.lost, 0);
  assert.ok(load.perSecond > 200 && load.p99Ms < 1000, JSON.stringify(load));
  // More than may wait: refused at once.
  assert.equal((await askDns(namespace, { name: 'late.example' }))?.rcode, RCODE.failure);
  await d.ok('run', '-d', '--name', 'self', '--network', 'names', '--dns', '127.0.0.11', 'bb:1', 'sleep', '600');
  const self = await askDns(await d.namespace('self'), { name: 'x.example' });
  assert.equal(self?.rcode, RCODE.failure);
  // An internal network has nobody to ask.
  await d.ok('network', 'create', '--internal', 'inner');
  await d.ok('run', '-d', '--name', 'shut', '--network', 'inner', '--dns', '192.0.2.2', 'bb:1', 'sleep', '600');
  assert.equal((await askDns(await d.namespace('shut'), { name: 'there.example' }))?.rcode, RCODE.failure);
});

test('hostile questions are refused or ignored, by UDP and TCP, and the next good one is answered', async () => {
  const head = (flags: string, questions: string): string => `0007${flags}${questions}000000000000`;
  const web = '03776562000001' + '0001';
  for (const [what, raw, rcode] of [
    ['two questions', head('0100', '0002') + web + web, RCODE.format],
    ['no question', head('0100', '0000'), RCODE.format],
    ['a name that points at itself', head('0100', '0001') + 'c00c00010001', RCODE.format],
    ['a name that ends early', head('0100', '0001') + '3f776562', RCODE.format],
    ['a label of 64', head('0100', '0001') + `40${'61'.repeat(64)}0000010001`, RCODE.format],
    ['another operation', head('2900', '0001') + web, RCODE.notImplemented],
    ['an answer', head('8180', '0001') + web, null],
    ['half a header', '000701', null],
  ] as const) {
    assert.equal((await askDns(asks, { raw }, { waitMs: 400 }))?.rcode ?? null, rcode, what);
    assert.equal((await askDns(asks, { raw }, { tcp: true, waitMs: 400 }))?.rcode ?? null, rcode, `${what} by TCP`);
  }
  const noise = `const s = require('dgram').createSocket('udp4'), c = require('crypto'); let left = 3000;
    const net = require('net');
    for (let i = 0; i < 20; i++) { const t = net.connect(53, '127.0.0.11', () => { t.write(c.randomBytes(5000)); setTimeout(() => t.destroy(), 200); }); t.on('error', () => {}); }
    const next = () => { if (left-- === 0) { setTimeout(() => process.exit(), 300); return; }
      const b = c.randomBytes(c.randomInt(0, 700)); if (left % 2 && b.length > 12) { b[2] &= 1; b[4] = 0; b[5] = 1; b.fill(0, 6, 10); }
      s.send(b, 53, '127.0.0.11', next); };
    next();`;
  assert.equal((await run('nsenter', [`--net=${asks}`, process.execPath, '-e', noise])).code, 0);
  assert.deepEqual((await ask('web'))?.answers, ['10.53.0.9']);
  assert.doesNotMatch(d.log, /level=(error|fatal)/i);
});
