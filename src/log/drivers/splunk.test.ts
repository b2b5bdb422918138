import assert from 'node:assert/strict';
import { gunzipSync } from 'node:zlib';
import { test } from 'node:test';

import { NEVER, entries, open, httpService } from '../../../test/support/log-services.ts';
import { RefusedForGood } from './driver.ts';

test('splunk: the event collector’s format; 503 is tried again, 400 never', async (t) => {
  let status = 200;
  const { url, asked } = await httpService(t, () => ({ status }));
  const options = {
    'splunk-url': url,
    'splunk-token': 'tok',
    'splunk-gzip': 'true',
    'splunk-index': 'main',
    labels: 'team',
    'splunk-format': 'json',
  };
  const destination = open(t, 'splunk', options);
  await destination.send(entries('{"a":1}\n', 'plain\n'), NEVER);
  assert.equal(asked[0]?.path, '/services/collector/event/1.0');
  assert.equal(asked[0]?.headers.authorization, 'Splunk tok');
  const events = gunzipSync(asked[0]?.body as Buffer)
    .toString()
    .split(/(?<=\})(?=\{"event")/)
    .map((text) => JSON.parse(text) as unknown);
  const common = { tag: 'abcdef012345', attrs: { team: 'a' } };
  const time = `${Date.parse('2026-11-22T01:02:03Z') / 1000}.004005`;
  assert.deepEqual(events, [
    { event: { line: { a: 1 }, source: 'stdout', ...common }, time, host: 'host1', index: 'main' },
    { event: { line: 'plain', source: 'stderr', ...common }, time, host: 'host1', index: 'main' },
  ]);
  status = 503;
  await assert.rejects(destination.send(entries('x\n'), NEVER), (error) => !(error instanceof RefusedForGood));
  status = 400;
  await assert.rejects(destination.send(entries('x\n'), NEVER), RefusedForGood);
});
