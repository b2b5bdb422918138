/**
 * The little of DNS messages that a resolver for containers needs: one question in, addresses or a name out; all else
 * passes through as bytes. Pure; input is hostile. Source: RFC 1035, RFC 6891 (EDNS).
 */

export const TYPE = { A: 1, PTR: 12, AAAA: 28, OPT: 41, ANY: 255 } as const;
export const RCODE = {
  NO_ERROR: 0,
  FORMAT_ERROR: 1,
  SERVER_FAILURE: 2,
  NAME_ERROR: 3,
  NOT_IMPLEMENTED: 4,
  REFUSED: 5,
} as const;

const HEADER_BYTES = 12;
const NAME_BYTES_MAX = 255;
const CLASS_IN = 1;
const UDP_BYTES_MIN = 512;
const UDP_BYTES_MAX = 4096;

export interface Question {
  readonly id: number;
  /** Lower case, without the dot at the end; "" is the root. */
  readonly name: string;
  readonly type: number;
  readonly isInternet: boolean;
  readonly recursionDesired: boolean;
  /** Bytes 12 to here hold the question as it was sent. */
  readonly end: number;
  /** How long an answer by UDP may be. */
  readonly udpBytes: number;
  readonly hasEdns: boolean;
}

export type Answer =
  | { readonly kind: 'address'; readonly bytes: Uint8Array }
  | { readonly kind: 'name'; readonly name: string };

export type Parsed =
  | { readonly kind: 'question'; readonly question: Question }
  | { readonly kind: 'refuse'; readonly rcode: number }
  | { readonly kind: 'ignore' };

export function parseQuery(message: Buffer): Parsed {
  // A response is never answered: two servers would talk to each other for ever.
  if (message.length < HEADER_BYTES || (message[2]! & 0x80) !== 0) return { kind: 'ignore' };
  if (((message[2]! >> 3) & 0xf) !== 0) return { kind: 'refuse', rcode: RCODE.NOT_IMPLEMENTED };
  if (message.readUInt16BE(4) !== 1) return { kind: 'refuse', rcode: RCODE.FORMAT_ERROR };
  const name = readName(message, HEADER_BYTES);
  if (name === null || name.end + 4 > message.length) return { kind: 'refuse', rcode: RCODE.FORMAT_ERROR };
  const edns = findEdns(message, name.end + 4);
  return {
    kind: 'question',
    question: {
      id: message.readUInt16BE(0),
      name: name.text.toLowerCase(),
      type: message.readUInt16BE(name.end),
      isInternet: message.readUInt16BE(name.end + 2) === CLASS_IN,
      recursionDesired: (message[2]! & 1) === 1,
      end: name.end + 4,
      udpBytes: Math.min(Math.max(edns ?? UDP_BYTES_MIN, UDP_BYTES_MIN), UDP_BYTES_MAX),
      hasEdns: edns !== null,
    },
  };
}

/** An answer of our own; the question is copied from the query, and names in answers point at it. */
export function formatAnswer(query: Buffer, question: Question, answers: readonly Answer[], ttlS: number): Buffer {
  const records = answers.map((answer) => {
    const data = answer.kind === 'address' ? Buffer.from(answer.bytes) : encodeName(answer.name);
    const record = Buffer.alloc(12);
    record.writeUInt16BE(0xc00c, 0); // the question's name
    record.writeUInt16BE(answer.kind === 'name' ? TYPE.PTR : data.length === 4 ? TYPE.A : TYPE.AAAA, 2);
    record.writeUInt16BE(CLASS_IN, 4);
    record.writeUInt32BE(ttlS, 6);
    record.writeUInt16BE(data.length, 10);
    return Buffer.concat([record, data]);
  });
  return Buffer.concat([
    header(question, RCODE.NO_ERROR, records.length),
    query.subarray(HEADER_BYTES, question.end),
    ...records,
    ...edns(question),
  ]);
}

export function formatFailure(query: Buffer, question: Question | null, rcode: number): Buffer {
  if (question !== null)
    return Buffer.concat([header(question, rcode, 0), query.subarray(HEADER_BYTES, question.end), ...edns(question)]);
  const plain = Buffer.alloc(HEADER_BYTES);
  query.copy(plain, 0, 0, 2);
  plain.writeUInt16BE(0x8080 | ((query[2]! & 1) << 8) | rcode, 2);
  return plain;
}

/** Cuts a message that is too long for UDP to its question and says so (TC): the client comes again by TCP. */
export function fitUdp(message: Buffer, question: Question): Buffer {
  if (message.length <= question.udpBytes) return message;
  const cut = Buffer.from(message.subarray(0, question.end));
  cut[2] = cut[2]! | 0x02;
  cut.writeUInt16BE(0, 6);
  cut.writeUInt16BE(0, 8);
  cut.writeUInt16BE(0, 10);
  return cut;
}

/** Does `response` answer just this question? What a stranger sends must not pass. */
export function isAnswerTo(response: Buffer, query: Buffer, question: Question): boolean {
  if (response.length < question.end || (response[2]! & 0x80) === 0) return false;
  const asked = query.subarray(HEADER_BYTES, question.end).toString('latin1').toLowerCase();
  return response.subarray(HEADER_BYTES, question.end).toString('latin1').toLowerCase() === asked;
}

export function rcodeOf(message: Buffer): number {
  return message[3]! & 0xf;
}

export function isTruncated(message: Buffer): boolean {
  return (message[2]! & 0x02) !== 0;
}

/** "2.0.17.172.in-addr.arpa" → "172.17.0.2"; ip6.arpa → 32 digits in groups; null for other names. */
export function reverseAddress(name: string): string | null {
  const v4 = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.in-addr\.arpa$/.exec(name);
  if (v4 !== null) return v4.slice(1, 5).toReversed().join('.');
  const v6 = /^((?:[0-9a-f]\.){32})ip6\.arpa$/.exec(name);
  if (v6 === null) return null;
  return v6[1]!
    .split('.')
    .filter((digit) => digit !== '')
    .toReversed()
    .join('')
    .replace(/(....)(?=.)/g, '$1:');
}

function header(question: Question, rcode: number, answers: number): Buffer {
  const bytes = Buffer.alloc(HEADER_BYTES);
  bytes.writeUInt16BE(question.id, 0);
  // response, recursion available, and recursion desired as it was asked
  bytes.writeUInt16BE(0x8080 | (question.recursionDesired ? 0x0100 : 0) | rcode, 2);
  bytes.writeUInt16BE(1, 4);
  bytes.writeUInt16BE(answers, 6);
  bytes.writeUInt16BE(question.hasEdns ? 1 : 0, 10);
  return bytes;
}

function edns(question: Question): Buffer[] {
  if (!question.hasEdns) return [];
  const record = Buffer.alloc(11); // root name, OPT, size, no flags, no options
  record.writeUInt16BE(TYPE.OPT, 1);
  record.writeUInt16BE(UDP_BYTES_MAX, 3);
  return [record];
}

/** Names of questions are never compressed by anyone; a pointer there is refused. */
function readName(message: Buffer, start: number): { text: string; end: number } | null {
  const labels: string[] = [];
  let at = start;
  for (;;) {
    const length = message[at];
    if (length === undefined || length > 63) return null;
    at += 1;
    if (length === 0) return { text: labels.join('.'), end: at };
    if (at + length > message.length || at + length - start > NAME_BYTES_MAX) return null;
    labels.push(message.toString('latin1', at, at + length));
    at += length;
  }
}

/** The size in an OPT record; null when there is none. Other records behind the question are stepped over. */
function findEdns(message: Buffer, start: number): number | null {
  const records = message.readUInt16BE(6) + message.readUInt16BE(8) + message.readUInt16BE(10);
  let at = start;
  for (let index = 0; index < records; index++) {
    while (at < message.length && message[at]! !== 0 && message[at]! < 0xc0) at += message[at]! + 1;
    if (at >= message.length) return null;
    at += message[at] === 0 ? 1 : 2;
    if (at + 10 > message.length) return null;
    if (message.readUInt16BE(at) === TYPE.OPT) return message.readUInt16BE(at + 2);
    at += 10 + message.readUInt16BE(at + 8);
  }
  return null;
}

function encodeName(name: string): Buffer {
  const labels = name
    .split('.')
    .filter((label) => label !== '')
    .map((label) => Buffer.from(label, 'latin1').subarray(0, 63));
  return Buffer.concat([...labels.flatMap((label) => [Buffer.of(label.length), label]), Buffer.of(0)]);
}
