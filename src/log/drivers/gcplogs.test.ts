import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { join } from 'node:path';
import { writeFileSync } from 'node:fs';
import { test } from 'node:test';

import { ID, NEVER, entries, open, directory, httpService } from '../../../test/support/log-services.ts';

test('gcplogs: a token by the key file, and entries with it', async (t) => {
  const { url, asked } = await httpService(t, ({ path }) => ({
    status: 200,
    body: path === '/token' ? { access_token: 'tok', expires_in: 3600 } : {},
  }));
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const path = join(directory(t), 'key.json');
  const key = privateKey.export({ type: 'pkcs8', format: 'pem' });
  writeFileSync(
    path,
    JSON.stringify({
      project_id: 'p1',
      private_key_id: 'k',
      private_key: key,
      client_email: 'a@b',
      token_uri: `${url}/token`,
    }),
  );
  const env = { GOOGLE_APPLICATION_CREDENTIALS: path, LONGSHORE_GCPLOGS_ENDPOINT: url };
  const destination = open(t, 'gcplogs', { 'gcp-meta-zone': 'z', 'gcp-log-cmd': 'true' }, { env });
  await destination.send(entries('one\n'), NEVER);
  await destination.send(entries('two\n'), NEVER);
  assert.deepEqual(
    asked.map((one) => one.path),
    ['/token', '/v2/entries:write', '/v2/entries:write'],
  );
  assert.equal(asked[1]?.headers.authorization, 'Bearer tok');
  assert.deepEqual(JSON.parse(String(asked[1]?.body)), {
    entries: [{
      logName: 'projects/p1/logs/gcplogs-docker-driver',
      resource: { type: 'gce_instance', labels: { instance_id: '', zone: 'z' } },
      timestamp: '2026-11-22T01:02:03.004005000Z',
      jsonPayload: {
        instance: { zone: 'z' },
        container: { name: '/web', id: ID, imageName: 'bb:1', imageId: 'sha256:1', created: '2026-11-22T00:00:00Z', command: 'sh -c x' },
        message: 'one',
      },
    }],
  }); // prettier-ignore
});
