import assert from 'node:assert/strict';
import { test } from 'node:test';

import { connectionTo } from './daemon-client.ts';
import { elementsInListing } from './doctor/network-checks.ts';
import { formatStory, localTime } from './why.ts';

test('connectionTo: what the docker CLI takes as a host, and nothing else', () => {
  assert.deepEqual(connectionTo('unix:///run/l.sock', {}), { options: { socketPath: '/run/l.sock' }, secure: false });
  assert.deepEqual(connectionTo('tcp://127.0.0.1', {}), { options: { host: '127.0.0.1', port: 2375 }, secure: false });
  assert.deepEqual(connectionTo('tcp://[::1]:99', {}).options, { host: '::1', port: 99 });
  for (const host of ['', 'unix://', '/run/l.sock', 'ssh://x', 'localhost:2375']) {
    assert.throws(() => connectionTo(host, {}), { code: 'PARAMETER_INVALID' }, host);
  }
  assert.throws(() => connectionTo('tcp://h', { DOCKER_TLS_VERIFY: '1', DOCKER_CERT_PATH: '/no/such' }), /ENOENT/);
});

test('formatStory: a line for each thing with local times, also inside of it, and what comes next', () => {
  const at = '2026-11-22T03:12:04.801234567Z';
  assert.match(localTime(at), /^2026-11-2\d \d\d:\d\d:04\.801$/);
  const story = {
    Id: 'a'.repeat(64),
    Name: '/web',
    Status: 'restarting',
    RestartPolicy: 'always',
    Next: { Text: `restart due at ${at} (attempt 2)` },
    Entries: [{ Time: at, Text: `stop (SIGTERM, SIGKILL at ${at}) by x` }],
  };
  const local = localTime(at);
  assert.equal(
    formatStory(story),
    `web (aaaaaaaaaaaa): restarting, restart policy always\n\n${local}  stop (SIGTERM, SIGKILL at ${local}) by x\n\nNext: restart due at ${local} (attempt 2)\n`,
  );
  assert.match(
    formatStory({ ...story, Entries: [], Next: null }),
    /Nothing is known of it.*\n\nNext: nothing by itself\.\n$/s,
  );
});

test('elementsInListing: sets and maps of a table as nft prints them', () => {
  const listing = `table ip longshore {
\tset bridges {
\t\ttype ifname
\t\telements = { "longshore0", "br-1" }
\t}

\tset peers {
\t\ttype ifname . ifname
\t}

\tmap anywhere {
\t\ttype inet_proto . inet_service : ipv4_addr . inet_service
\t\telements = { tcp . 80 : 172.17.0.2 . 8080,
\t\t\t     udp . 53 : 172.17.0.3 . 53 }
\t}

\tchain guard {
\t\ttype filter hook prerouting priority raw; policy accept;
\t}
}`;
  assert.deepEqual(
    elementsInListing(listing),
    new Map([
      ['bridges', ['longshore0', 'br-1']],
      ['anywhere', ['tcp . 80 : 172.17.0.2 . 8080', 'udp . 53 : 172.17.0.3 . 53']],
    ]),
  );
});
