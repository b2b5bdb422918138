/** On one host with dockerd, which sets the policy of FORWARD to DROP: both engines' containers go on being reached. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { test } from 'node:test';

import { eventually, run, TestDaemon } from '../support/daemon.ts';
import { Hosts } from '../support/hosts.ts';

const DOCKERD = ['/usr/sbin/dockerd', '/usr/bin/dockerd'].find((path) => existsSync(path));

test(
  'beside dockerd: published ports and ways out of both, DOCKER-USER is obeyed, and nothing is left in its tables',
  { skip: DOCKERD === undefined && 'dockerd is not installed', timeout: 120_000 },
  async () => {
    await using hosts = await Hosts.make();
    await hosts.in('a', 'sysctl', '-qw', 'net.ipv4.ip_forward=0'); // or dockerd leaves the policy alone
    const directory = mkdtempSync('/tmp/longshore-dockerd-');
    const socket = `${directory}/s.sock`;
    const options = ['--data-root', `${directory}/data`, '--exec-root', `${directory}/exec`, '-H', `unix://${socket}`];
    const more = ['--pidfile', `${directory}/pid`, '--storage-driver', 'vfs', '--bip', '10.77.0.1/24'];
    const dockerd = spawn('nsenter', [`--net=${hosts.path('a')}`, DOCKERD!, ...options, ...more], { stdio: 'ignore' });
    const ended = new Promise((resolve) => dockerd.once('exit', resolve));
    try {
      const docker = (...argv: string[]): ReturnType<typeof run> => run('docker', ['-H', `unix://${socket}`, ...argv]);
      await eventually('dockerd answers', async () => (await docker('version')).code === 0, 30_000);
      const rules = (): Promise<string> => hosts.in('a', 'iptables', '-S');
      assert.match(await rules(), /^-P FORWARD DROP$/m);
      {
        await using d = await TestDaemon.startIn(hosts.path('a'));
        await d.image();
        await d.ok('network', 'create', 'user');
        await d.ok('run', '-d', '--name', 'web', '--network', 'user', '-p', '8080:80', 'bb:1', 'sleep', '600');
        const web = await d.namespace('web');
        await hosts.serve(web, 'web', 80);
        await hosts.serve(hosts.path('b'), 'peer', 80);
        assert.equal(await hosts.ask('b', '192.0.2.1', 8080), 'web 192.0.2.2');
        assert.equal(await hosts.ask(web, '192.0.2.2', 80), 'peer 192.0.2.1');
        assert.match(await hosts.ask('a', '127.0.0.1', 8080), /^web /);
        // What an administrator wrote for Docker's ports holds for ours.
        await hosts.in('a', 'iptables', '-I', 'DOCKER-USER', '-s', '192.0.2.2', '-j', 'DROP');
        assert.equal(await hosts.ask('b', '192.0.2.1', 8080), 'refused');
        await hosts.in('a', 'iptables', '-D', 'DOCKER-USER', '-s', '192.0.2.2', '-j', 'DROP');
        assert.match(await rules(), /-A FORWARD -j DOCKER-USER\n-A FORWARD -j LONGSHORE-\w+\n/);
        // A firewall that was loaded anew is seen at the latest with the next container.
        await hosts.in('a', 'iptables', '-F', 'FORWARD');
        assert.equal(await hosts.ask('b', '192.0.2.1', 8080), 'refused');
        await d.ok('network', 'create', 'more');
        assert.equal(await hosts.ask('b', '192.0.2.1', 8080), 'web 192.0.2.2');
        await d.ok('rm', '-f', 'web');
        await d.ok('network', 'rm', 'user', 'more');
      }
      assert.doesNotMatch(await rules(), /LONGSHORE/);
      assert.match(await rules(), /^-P FORWARD DROP$/m);
    } finally {
      dockerd.kill('SIGTERM');
      await ended;
      rmSync(directory, { recursive: true, force: true });
    }
  },
);
