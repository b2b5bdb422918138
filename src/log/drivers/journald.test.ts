import assert from 'node:assert/strict';
import { test } from 'node:test';

import { ID, NEVER, SUBJECT, entries } from '../../../test/support/log-services.ts';
import { EngineError } from '../../core/engine-error.ts';
import { checkLogOptions } from '../log-options.ts';
import type { DriverHost } from './driver.ts';
import { fieldName, formatFields, Journald } from './journald.ts';

const refusalOf = (driver: string, options: Record<string, string>): string => {
  try {
    checkLogOptions({ driver, options }, { driver: 'json-file', options: {} });
  } catch (error) {
    assert(error instanceof EngineError);
    return error.message;
  }
  return '';
};

test('journald: refused where there is no journal; fields as its protocol has them', async (t) => {
  if (refusalOf('journald', {}) !== '')
    assert.equal(
      refusalOf('journald', {}),
      'failed to initialize logging driver: journald is not enabled on this host',
    );
  assert.equal(fieldName('_com.example-x'), 'COM_EXAMPLE_X');
  assert.equal(formatFields({ A: 'b', C: 'd\ne' }).toString('latin1'), 'A=b\nC\n\x03\0\0\0\0\0\0\0d\ne\n');
  const got: string[] = [];
  const sendDatagrams: DriverHost['sendDatagrams'] = async (_path, messages) => {
    got.push(...messages.map((message) => Buffer.from(message).toString()));
    return messages.length;
  };
  const journal = new Journald(
    { options: {}, subject: SUBJECT, tag: 'tag1', attributes: { team: 'a' } },
    sendDatagrams,
    '/s',
  );
  t.after(() => journal[Symbol.dispose]());
  await journal.send(entries('one\n', 'half'), NEVER);
  assert.deepEqual(got[0]?.replace(/(EPOCH=)[0-9a-f]{64}/, '$1e').split('\n'), [
    'CONTAINER_ID=abcdef012345', `CONTAINER_ID_FULL=${ID}`, 'CONTAINER_NAME=web', 'CONTAINER_TAG=tag1', 'IMAGE_NAME=bb:1',
    'SYSLOG_IDENTIFIER=tag1', 'TEAM=a', 'MESSAGE=one', 'PRIORITY=6', 'SYSLOG_TIMESTAMP=2026-11-22T01:02:03.004005000Z',
    'CONTAINER_LOG_EPOCH=e', 'CONTAINER_LOG_ORDINAL=1', '',
  ]); // prettier-ignore
  assert.match(
    got[1] ?? '',
    /PRIORITY=3\n.*_PARTIAL_ID=[0-9a-f]{64}\n.*_PARTIAL_ORDINAL=1\n.*_PARTIAL_LAST=false\n.*_PARTIAL_MESSAGE=true\n/s,
  );
});
