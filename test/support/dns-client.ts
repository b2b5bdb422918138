/** Asks a container's resolver from within its namespace: one program per call, which prints JSON. */
import { run } from './daemon.ts';

export interface DnsReply {
  readonly rcode: number;
  readonly truncated: boolean;
  readonly bytes: number;
  /** Addresses and names, in their order. */
  readonly answers: readonly string[];
}

export interface DnsLoad {
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly lost: number;
}

/** dns-packet would do, but the client must not share the server's notion of a message: this one is written anew. */
const CLIENT = `
const dgram = require('dgram'), net = require('net');
const query = ({ name, type = 1, id = 7, edns = 0 }) => {
  const head = Buffer.from([id >> 8, id & 255, 1, 0, 0, 1, 0, 0, 0, 0, 0, edns ? 1 : 0]);
  const labels = name.split('.').filter(Boolean).map((l) => Buffer.concat([Buffer.from([l.length]), Buffer.from(l)]));
  const opt = edns ? Buffer.from([0, 0, 41, edns >> 8, edns & 255, 0, 0, 0, 0, 0, 0]) : Buffer.alloc(0);
  return Buffer.concat([head, ...labels, Buffer.from([0, type >> 8, type & 255, 0, 1]), opt]);
};
const nameAt = (m, at) => {
  const labels = []; let end = -1;
  for (let n; (n = m[at]) !== 0;) {
    if (n >= 192) { if (end < 0) end = at + 2; at = ((n & 63) << 8) | m[at + 1]; continue; }
    labels.push(m.toString('latin1', at + 1, at + 1 + n)); at += n + 1;
  }
  return [labels.join('.'), end < 0 ? at + 1 : end];
};
const read = (m) => {
  let at = 12; const answers = [];
  for (let i = m.readUInt16BE(4); i > 0; i--) at = nameAt(m, at)[1] + 4;
  for (let i = m.readUInt16BE(6); i > 0; i--) {
    at = nameAt(m, at)[1];
    const type = m.readUInt16BE(at), length = m.readUInt16BE(at + 8), data = m.subarray(at + 10, at + 10 + length);
    answers.push(type === 1 ? [...data].join('.') : type === 28 ? data.toString('hex') : nameAt(m, at + 10)[0]);
    at += 10 + length;
  }
  return { rcode: m[3] & 15, truncated: (m[2] & 2) !== 0, bytes: m.length, answers };
};
`;

/** null: no answer within a second. `raw`: these bytes (hex) instead of a question. */
export async function askDns(
  namespace: string,
  question: { readonly name?: string; readonly type?: number; readonly edns?: number; readonly raw?: string },
  { tcp = false, waitMs = 1000 }: { readonly tcp?: boolean; readonly waitMs?: number } = {},
): Promise<DnsReply | null> {
  const program = `${CLIENT}
    const q = ${question.raw === undefined ? `query(${JSON.stringify(question)})` : `Buffer.from('${question.raw}', 'hex')`};
    const done = (m) => { console.log(JSON.stringify(m && m.length >= 12 ? read(m) : null)); process.exit(); };
    setTimeout(done, ${waitMs}, null);
    if (${tcp}) {
      const s = net.connect(53, '127.0.0.11', () => s.write(Buffer.concat([Buffer.from([q.length >> 8, q.length & 255]), q])));
      let got = Buffer.alloc(0);
      s.on('data', (d) => { got = Buffer.concat([got, d]); if (got.length >= 2 && got.length >= 2 + got.readUInt16BE(0)) done(got.subarray(2)); });
      s.on('error', () => done(null));
      s.on('close', () => done(null));
    } else {
      const s = dgram.createSocket('udp4');
      s.on('message', done);
      s.send(q, 53, '127.0.0.11');
    }`;
  return await print(namespace, program);
}

/** \`inFlight\` questions at a time for \`seconds\`; \`strangers\` names a second that nobody answers go along. */
export async function loadDns(
  namespace: string,
  options: { readonly name: string; readonly seconds: number; readonly inFlight: number; readonly strangers: number },
): Promise<DnsLoad> {
  const program = `${CLIENT}
    const { name, seconds, inFlight, strangers } = ${JSON.stringify(options)};
    const times = []; let lost = 0; const begun = performance.now(); const end = begun + seconds * 1000;
    const lane = (lane) => {
      const s = dgram.createSocket('udp4'); let sent, timer, id = 0;
      const next = () => {
        if (performance.now() > end) { s.close(); return; }
        id = (id + 1) & 65535; sent = performance.now();
        s.send(query({ name, id }), 53, '127.0.0.11');
        timer = setTimeout(() => { lost++; next(); }, 2000);
      };
      s.on('message', (m) => { if (m.readUInt16BE(0) !== id) return; clearTimeout(timer); times.push(performance.now() - sent); next(); });
      next();
    };
    for (let i = 0; i < inFlight; i++) lane(i);
    const noise = dgram.createSocket('udp4'); noise.on('message', () => {});
    let n = 0;
    const flood = strangers > 0 ? setInterval(() => { for (let i = 0; i < strangers / 50; i++) noise.send(query({ name: 'x' + n++ + '.example.com', id: n & 65535 }), 53, '127.0.0.11'); }, 20) : null;
    setTimeout(() => {
      clearInterval(flood);
      times.sort((a, b) => a - b);
      const at = (q) => times[Math.floor(times.length * q)] ?? -1;
      console.log(JSON.stringify({ perSecond: Math.round(times.length / seconds), p50Ms: at(0.5), p99Ms: at(0.99), lost }));
      process.exit();
    }, seconds * 1000 + 100);`;
  return (await print(namespace, program))!;
}

async function print<T>(namespace: string, program: string): Promise<T | null> {
  const { code, stdout, stderr } = await run('nsenter', [`--net=${namespace}`, process.execPath, '-e', program]);
  if (code !== 0) throw new Error(stderr);
  return JSON.parse(stdout);
}
