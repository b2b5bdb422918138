import assert from 'node:assert/strict';
import { test } from 'node:test';

import { decidePsColumns, formatRow } from './ps-columns.ts';
import { parseProcess } from './ps-process.ts';
import { parsePs } from './top.ts';

const TITLES: readonly [string, string | null][] = [
  ['-ef', 'UID PID PPID C STIME TTY TIME CMD'],
  ['aux', 'USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND'],
  ['-o pid,comm', 'PID COMMAND'],
  ['-eo pid,ppid,cmd', 'PID PPID CMD'],
  ['axo user,pid', 'USER PID'],
  ['-o pid -o comm', null],
  ['-o comm', null],
  ['-o pid,nosuch', null],
  ['-H', null],
  ['-o toString,pid', null],
];

for (const [options, titles] of TITLES) {
  test(`decidePsColumns: ${options}`, () => {
    assert.equal(
      decidePsColumns(options)
        ?.map((column) => column.title)
        .join(' ') ?? null,
      titles,
    );
  });
}

test('parseProcess: a name may hold parentheses, blanks and newlines', () => {
  const stat = '42 (a) R (x\n) S 1 42 42 34816 42 0 0 0 0 0 150 50 0 0 20 0 3 0 1000 1048576 10 0\n';
  const process = parseProcess(
    42,
    stat,
    'Name:\tx\nUid:\t5\t6\t6\t6\nGid:\t7\t8\t8\t8\n',
    Buffer.from('sh\0-c\0a b\0'),
    '0',
  );
  assert.deepEqual(
    [
      process.name,
      process.state + process.stateFlags,
      process.ppid,
      process.tty,
      process.cpuS,
      process.args,
      process.uid,
      process.euid,
      process.egid,
    ],
    ['a) R (x\n', 'Ssl+', 1, 'pts/0', 2, 'sh -c a b', 5, 6, 8],
  );
  const host = {
    bootMs: Date.now() - 110_000,
    uptimeS: 110,
    memoryKib: 1000,
    userNames: new Map([[6, 'averylongname']]),
    groupNames: new Map<number, string>(),
  };
  assert.deepEqual(formatRow(decidePsColumns('-o user,pid,etime,time,group,%cpu')!, process, host), [
    'averylo+',
    '42',
    '01:40',
    '00:00:02',
    '8',
    '2.0',
  ]);
});

test('parsePs: keeps the asked processes, the last column takes the rest', () => {
  const text = '  PID CMD\n    1 init\n    7 sh -c  a  b\n';
  assert.deepEqual(parsePs(text, new Set([7])), { titles: ['PID', 'CMD'], processes: [['7', 'sh -c a b']] });
  assert.throws(() => parsePs('CMD\nx\n', new Set()), { message: "Couldn't find PID field in ps output" });
});
