/**
 * docs/seccomp.md is a picture of the profile. UPDATE=1 draws it again: look at what changed before it is committed.
 */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';

import { DEFAULT_CAPABILITIES } from './capabilities.ts';
import { DEFAULT_SECCOMP_PROFILE } from './seccomp-default.ts';
import { resolveSeccomp, type SeccompCondition, type SeccompRule } from './seccomp.ts';

const PAGE = new URL('../../../docs/seccomp.md', import.meta.url);
const BEGIN = '<!-- made from src/runtime/spec/seccomp-default.ts -->\n';
const END = '<!-- end -->\n';
const OPERATORS: Readonly<Record<string, string>> = { LT: '<', EQ: '=', MASKED_EQ: '&', GT: '>' };

function condition({ caps = [], arches = [], minKernel }: SeccompCondition, not: string): string[] {
  const kernel = minKernel === undefined ? [] : [`${not}Linux ${minKernel} and later`];
  return [
    ...caps.map((cap) => not + cap),
    ...(arches.length === 0 ? [] : [`${not}on ${arches.join(', ')}`]),
    ...kernel,
  ];
}

function row(rule: SeccompRule): {
  readonly key: string;
  readonly names: readonly string[];
  readonly values: string[];
} {
  const when = [...condition(rule.includes ?? {}, ''), ...condition(rule.excludes ?? {}, 'not ')];
  const args = (rule.args ?? []).map(({ index, op }) => `argument ${index} ${OPERATORS[op.slice('SCMP_CMP_'.length)]}`);
  const values = (rule.args ?? []).map(({ op, value }) =>
    op === 'SCMP_CMP_MASKED_EQ' ? `0x${value.toString(16)} is 0` : value > 255 ? `0x${value.toString(16)}` : `${value}`,
  );
  const what = rule.action === 'SCMP_ACT_ALLOW' ? 'allowed' : `errno ${rule.errnoRet}`;
  return { key: `| ${when.join(', ') || 'always'} | ${what} | ${args.join(', ')}`, names: rule.names ?? [], values };
}

/** Rules that differ in a value alone share a line. */
function table(): string {
  const rows = new Map<string, { readonly key: string; readonly names: readonly string[]; values: string[] }>();
  for (const each of DEFAULT_SECCOMP_PROFILE.syscalls.map(row)) {
    const id = `${each.names.join(' ')}${each.key}`;
    const known = rows.get(id);
    if (known === undefined) rows.set(id, each);
    else known.values = [...known.values, ...each.values];
  }
  const lines = [...rows.values()].map(
    ({ key, names, values }) => `${key} ${values.join(', ')} | ${names.join(' ')} |`,
  );
  return ['| when | | | calls |', '| --- | --- | --- | --- |', ...lines, ''].join('\n');
}

test('docs/seccomp.md: its table is the profile', () => {
  const page = readFileSync(PAGE, 'utf8');
  const [head = '', rest = ''] = page.split(BEGIN);
  const tail = rest.slice(rest.indexOf(END));
  const drawn = `${head}${BEGIN}\n${table()}\n${tail}`;
  if (process.env['UPDATE'] === '1') writeFileSync(PAGE, drawn);
  assert.equal(page, drawn);
});

test('DEFAULT_SECCOMP_PROFILE: the facts of the latest Docker, by count and by what its tests name', () => {
  const situation = { capabilities: DEFAULT_CAPABILITIES, architecture: 'amd64', kernelVersion: [6, 1] as const };
  const rules = resolveSeccomp(DEFAULT_SECCOMP_PROFILE, situation)!.syscalls;
  const values = (name: string): readonly number[] =>
    rules.filter(({ names }) => names.includes(name)).flatMap(({ args = [] }) => args.map(({ value }) => value));
  assert.equal(DEFAULT_SECCOMP_PROFILE.syscalls[0]!.names!.length, 361);
  assert.deepEqual(values('personality'), [0, 8, 0x20000, 0x20008, 0xffffffff]);
  const families = values('socket');
  assert.equal(families[0], 12, 'all below DECnet');
  for (const family of [12, 19, 20, 23, 25, 34, 37, 38, 40, 46]) assert.ok(!families.slice(1).includes(family));
  assert.equal(families.length, 26);
  assert.equal(new Set(rules.flatMap(({ names }) => names)).has('io_uring_enter'), false);
});
