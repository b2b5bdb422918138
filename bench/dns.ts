/**
 * Answers of a container's resolver: how many a second, and the 99th percentile of a local name, alone and while names
 * are asked for whose server never answers.
 *
 *   node bench/dns.ts [SECONDS, default 5]
 */
import { TestDaemon } from '../test/support/daemon.ts';
import { loadDns } from '../test/support/dns-client.ts';

const SECONDS = Number(process.argv[2] ?? 5);

await using daemon = await TestDaemon.start('--log-level', 'info');
await daemon.image();
await daemon.ok('network', 'create', 'bench');
// Nobody has this address (RFC 5737).
const dns = ['--dns', '203.0.113.1'];
await daemon.ok('run', '-d', '--name', 'asks', '--network', 'bench', ...dns, 'bb:1', 'sleep', '10000');
await daemon.ok('run', '-d', '--name', 'target', '--network', 'bench', 'bb:1', 'sleep', '10000');
const namespace = await daemon.namespace('asks');
for (const inFlight of [1, 16, 64])
  for (const strangers of [0, 500]) {
    const load = await loadDns(namespace, { name: 'target', seconds: SECONDS, inFlight, strangers });
    console.log(
      `${inFlight} in flight${strangers > 0 ? `, ${strangers} unanswered names a second beside them` : ''}: ` +
        `${load.perSecond} answers/s, p50 ${load.p50Ms.toFixed(2)} ms, p99 ${load.p99Ms.toFixed(2)} ms, ${load.lost} lost`,
    );
  }
await daemon.ok('rm', '-f', 'asks', 'target');
await daemon.ok('network', 'rm', 'bench');
