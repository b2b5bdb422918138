import assert from 'node:assert/strict';
import { test } from 'node:test';

import { ID, NEVER, entries, open, httpService } from '../../../test/support/log-services.ts';
import { signAws } from './sigv4.ts';

test('signAws: post-vanilla of AWS’s signature test suite', () => {
  const { authorization } = signAws({
    url: new URL('https://example.amazonaws.com/'),
    service: 'service',
    region: 'us-east-1',
    headers: {},
    body: new Uint8Array(),
    at: new Date('2015-08-30T12:36:00Z'),
    credentials: {
      accessKeyId: 'AKIDEXAMPLE',
      secretAccessKey: 'wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY',
      sessionToken: '',
    },
  });
  assert.equal(
    authorization,
    'AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=host;x-amz-date, Signature=5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b',
  );
});

test('awslogs: makes the group and the stream, and puts events in the order of their times', async (t) => {
  let hasGroup = false;
  const { url, asked } = await httpService(t, ({ headers }) => {
    const operation = String(headers['x-amz-target']).split('.')[1];
    if (operation === 'CreateLogStream' && !hasGroup)
      return { status: 400, body: { __type: 'ResourceNotFoundException' } };
    if (operation === 'CreateLogGroup') hasGroup = true;
    return { status: 200 };
  });
  const options = {
    'awslogs-group': 'g',
    'awslogs-create-group': 'true',
    'awslogs-region': 'eu-west-1',
    'awslogs-endpoint': url,
  };
  const env = { AWS_ACCESS_KEY_ID: 'k', AWS_SECRET_ACCESS_KEY: 's' };
  const destination = open(t, 'awslogs', options, { env });
  await destination.send(entries('one\n', '\n', 'three\n'), NEVER);
  assert.deepEqual(
    asked.map(({ headers }) => String(headers['x-amz-target']).split('.')[1]),
    ['CreateLogStream', 'CreateLogGroup', 'CreateLogStream', 'PutLogEvents'],
  );
  const timestamp = Date.parse('2026-11-22T01:02:03.004Z');
  assert.deepEqual(JSON.parse(String(asked.at(-1)?.body)), {
    logGroupName: 'g', logStreamName: ID, logEvents: [{ timestamp, message: 'one' }, { timestamp, message: 'three' }],
  }); // prettier-ignore
  assert.match(asked.at(-1)?.headers.authorization ?? '', /Credential=k\/\d{8}\/eu-west-1\/logs\//);
  await assert.rejects(
    open(t, 'awslogs', options, { env: { HOME: '/nonexistent' } }).send(entries('x\n'), NEVER),
    /NoCredentialProviders/,
  );
});
