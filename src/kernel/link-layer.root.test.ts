import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { createConnection, Socket } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';

import { withScratch, type Scratch } from './scratch.ts';

/** What `ip` says inside the namespace; a second opinion on our own netlink. */
function inside(namespace: string, ...command: string[]): string {
  return execFileSync('nsenter', [`--net=${namespace}`, ...command], { encoding: 'utf8' });
}

async function bridged(
  { kernel, directory, prefix }: Scratch,
  action: (bridge: string, namespace: string) => Promise<void>,
): Promise<void> {
  const bridge = `${prefix}b`;
  const namespace = join(directory, 'ns');
  await kernel.network.ensureBridge({
    name: bridge,
    mtu: 1500,
    addresses: [
      { address: '10.213.0.1', prefixLength: 24 },
      { address: 'fdaa:213::1', prefixLength: 64 },
    ],
  });
  await kernel.network.createNamespace(namespace);
  try {
    await action(bridge, namespace);
  } finally {
    await kernel.network.removeNamespace(namespace);
    await kernel.network.removeLink(bridge);
  }
}

const endpoint = (bridge: string, namespace: string, hostName: string) => ({
  namespace,
  hostName,
  bridge,
  containerName: 'eth0',
  mac: '02:42:0a:d5:00:02',
  mtu: 1400,
  addresses: [
    { address: '10.213.0.2', prefixLength: 24 },
    { address: 'fdaa:213::2', prefixLength: 64 },
  ],
  gateways: ['10.213.0.1', 'fdaa:213::1'],
});

test('connectVeth: name, MAC, MTU, addresses and routes as asked, and packets pass', () =>
  withScratch(async (scratch) => {
    await bridged(scratch, async (bridge, namespace) => {
      const { kernel, prefix } = scratch;
      // A namespace that says no to IPv6 by default: the endpoint has it all the same.
      await kernel.network.setSysctlIn(namespace, 'net.ipv6.conf.default.disable_ipv6', '1');
      await kernel.network.connectVeth({ ...endpoint(bridge, namespace, `${prefix}v`), isolated: true });
      const shown = inside(namespace, 'ip', '-o', 'addr', 'show', 'dev', 'eth0');
      assert.match(shown, /inet 10\.213\.0\.2\/24 brd 10\.213\.0\.255 scope global eth0/);
      assert.match(shown, /inet6 fdaa:213::2\/64 scope global nodad/);
      const link = inside(namespace, 'ip', '-o', 'link', 'show', 'dev', 'eth0');
      assert.match(link, /mtu 1400/);
      assert.match(link, /link\/ether 02:42:0a:d5:00:02/);
      assert.match(inside(namespace, 'ip', '-o', 'link', 'show', 'dev', 'lo'), /LOOPBACK,UP/);
      assert.equal(inside(namespace, 'ip', 'route').split('\n')[0]?.trim(), 'default via 10.213.0.1 dev eth0');
      assert.match(inside(namespace, 'ip', '-6', 'route'), /default via fdaa:213::1 dev eth0/);
      assert.match(
        execFileSync('ip', ['-d', 'link', 'show', `${prefix}v`], { encoding: 'utf8' }),
        /bridge_slave.* isolated on/,
      );
      const { fd, port } = await kernel.network.bindSocket({ namespace, type: 'tcp', address: '10.213.0.2', port: 0 });
      await new Promise<void>((resolve, reject) => {
        const socket = createConnection(port, '10.213.0.2', () => socket.destroy())
          .on('error', reject)
          .on('close', () => resolve());
      });
      await kernel.processes.closeDescriptor(fd);
      const host = (await kernel.network.links()).find((each) => each.name === `${prefix}v`);
      assert.equal(host?.kind, 'veth');
      assert.equal(host?.master, (await kernel.network.links()).find((each) => each.name === bridge)?.index);
      assert.ok((await kernel.network.routes()).includes('10.213.0.0/24'));
      assert.ok(
        (await kernel.network.addresses()).some(
          ({ address, prefixLength }) => address === 'fdaa:213::1' && prefixLength === 64,
        ),
      );
    });
  }));

test('connectVeth: a step that fails takes away what was made, and nothing else', () =>
  withScratch(async (scratch) => {
    await bridged(scratch, async (bridge, namespace) => {
      const { kernel, prefix } = scratch;
      const good = endpoint(bridge, namespace, `${prefix}v`);
      const names = async (): Promise<string[]> =>
        (await kernel.network.links()).map(({ name }) => name).filter((name) => name.startsWith(prefix));
      const unreachable = kernel.network.connectVeth({ ...good, gateways: ['192.0.2.99'] });
      await assert.rejects(unreachable, {
        name: 'KernelError',
        syscall: 'RTM_NEWROUTE',
        code: 'ENETUNREACH',
        detail: 'default via 192.0.2.99',
      });
      assert.deepEqual(await names(), [bridge]);
      await assert.rejects(kernel.network.connectVeth({ ...good, bridge: `${prefix}none` }), {
        code: 'ENODEV',
        detail: `name=${prefix}none`,
      });
      await kernel.network.connectVeth(good);
      // The host's name is taken: the one that has it stays.
      await assert.rejects(kernel.network.connectVeth({ ...good, containerName: 'eth1' }), {
        syscall: 'RTM_NEWLINK',
        code: 'EEXIST',
      });
      assert.deepEqual(await names(), [bridge, `${prefix}v`]);
      assert.equal(await kernel.network.removeLinkIn(namespace, 'eth0'), true);
      assert.equal(await kernel.network.removeLinkIn(namespace, 'eth0'), false);
      assert.equal(await kernel.network.removeLinkIn(`${namespace}-none`, 'eth0'), false);
      assert.equal(await kernel.network.removeLink(`${prefix}v`), false);
    });
  }));

test('setDefaultRoutes: replaces, and takes away', () =>
  withScratch(async (scratch) => {
    await bridged(scratch, async (bridge, namespace) => {
      const { network } = scratch.kernel;
      await network.connectVeth(endpoint(bridge, namespace, `${scratch.prefix}v`));
      const defaults = (): string[] =>
        [...inside(namespace, 'ip', 'route').split('\n'), ...inside(namespace, 'ip', '-6', 'route').split('\n')]
          .filter((line) => line.startsWith('default'))
          .map((line) => line.split(' ')[2] ?? '');
      assert.deepEqual(defaults(), ['10.213.0.1', 'fdaa:213::1']);
      await network.setDefaultRoutes(namespace, ['10.213.0.7', 'fdaa:213::7']);
      assert.deepEqual(defaults(), ['10.213.0.7', 'fdaa:213::7']);
      inside(namespace, 'ip', 'route', 'add', 'default', 'via', '10.213.0.9', 'metric', '7');
      await network.setDefaultRoutes(namespace, ['10.213.0.7']);
      assert.deepEqual(defaults(), ['10.213.0.7']);
      await network.setDefaultRoutes(namespace, []);
      assert.deepEqual(defaults(), []);
    });
  }));

test('connectVlan: macvlan and ipvlan, under a name that the host has too', () =>
  withScratch(async (scratch) => {
    await bridged(scratch, async (bridge, namespace) => {
      const { network } = scratch.kernel;
      const base = {
        namespace,
        parent: bridge,
        mtu: 1500,
        gateways: [],
        addresses: [{ address: '10.213.1.2', prefixLength: 24 }],
      };
      await network.connectVlan({
        ...base,
        kind: 'macvlan',
        mode: 'bridge',
        containerName: 'lo1',
        mac: '02:42:00:00:00:09',
        gateways: ['10.213.1.1'],
      });
      assert.match(
        inside(namespace, 'ip', '-d', 'link', 'show', 'lo1'),
        /link\/ether 02:42:00:00:00:09[^]*macvlan mode bridge/,
      );
      await assert.rejects(
        network.connectVlan({ ...base, kind: 'macvlan', mode: 'nonsense', containerName: 'lo2', mac: '' }),
        { code: 'EINVAL', text: 'no such mode' },
      );
      assert.equal(await network.removeLinkIn(namespace, 'lo1'), true);
      // The parent's own name, which the host's namespace has.
      execFileSync('ip', ['link', 'set', bridge, 'mtu', '1400']);
      await network.connectVlan({
        ...base,
        mtu: null,
        kind: 'macvlan',
        mode: 'private',
        containerName: bridge,
        mac: '',
        defaultByDevice: true,
      });
      assert.match(inside(namespace, 'ip', 'link', 'show', bridge), /mtu 1400 /);
      execFileSync('ip', ['link', 'set', bridge, 'mtu', '1500']);
      assert.match(inside(namespace, 'ip', 'route'), new RegExp(`default dev ${bridge} scope link`));
      await assert.rejects(
        network.connectVlan({ ...base, kind: 'macvlan', mode: 'private', containerName: bridge, mac: '' }),
        { code: 'EEXIST' },
      );
      await assert.rejects(
        network.connectVlan({ ...base, kind: 'ipvlan', mode: 'bridge', containerName: 'eth0', mac: '' }),
        { code: 'EINVAL', text: 'no such mode' },
      );
      const ipvlan = await network
        .connectVlan({ ...base, kind: 'ipvlan', mode: 'l3', containerName: 'eth0', mac: '', parent: bridge })
        .then(() => 'made', String);
      // One device cannot be the parent of both kinds; and not every kernel has ipvlan.
      assert.match(ipvlan, /EBUSY|EINVAL|Unknown device type/);
      assert.equal(inside(namespace, 'ip', '-o', 'link').trim().split('\n').length, 2);
    });
  }));

test('createNamespace: removable twice, never over one that lives, over a file that a reboot left', () =>
  withScratch(async ({ kernel, directory }) => {
    const path = join(directory, 'ns');
    await kernel.network.createNamespace(path);
    await assert.rejects(kernel.network.createNamespace(path), { code: 'EEXIST', text: 'a namespace is bound there' });
    await kernel.network.removeNamespace(path);
    await kernel.network.removeNamespace(path);
    writeFileSync(path, '');
    await kernel.network.createNamespace(path);
    await kernel.network.removeNamespace(path);
    await assert.rejects(kernel.network.createNamespace(join(directory, 'none', 'ns')), { code: 'ENOENT' });
    await assert.rejects(kernel.network.setSysctlIn('/etc/passwd', 'net/ipv4/ip_forward', '1'), {
      syscall: 'setns',
      code: 'EINVAL',
    });
  }));

test('bindSocket, setSysctlIn, redirectPortIn: happen in the namespace and not on the host', () =>
  withScratch(async ({ kernel, directory }) => {
    const namespace = join(directory, 'ns');
    await kernel.network.createNamespace(namespace);
    try {
      const { fd, port } = await kernel.network.bindSocket({ namespace, type: 'tcp', address: '127.0.0.1', port: 0 });
      const udp = await kernel.network.bindSocket({ namespace, type: 'udp', address: '::1', port: 5353 });
      assert.equal(udp.port, 5353);
      assert.match(inside(namespace, 'ss', '-Hltn'), new RegExp(`127\\.0\\.0\\.1:${port}\\b`));
      assert.match(inside(namespace, 'ss', '-Hlun'), /\[::1\]:5353/);
      await assert.rejects(kernel.network.bindSocket({ namespace, type: 'udp', address: '::1', port: 5353 }), {
        syscall: 'bind',
        code: 'EADDRINUSE',
        detail: 'udp ::1 port=5353',
      });
      const refused = await new Promise((resolve) => createConnection(port, '127.0.0.1').on('error', resolve));
      assert.equal((refused as NodeJS.ErrnoException).code, 'ECONNREFUSED');
      await kernel.processes.closeDescriptor(fd);
      await kernel.processes.closeDescriptor(udp.fd);

      const ofHost = readFileSync('/proc/sys/net/ipv4/ip_default_ttl', 'utf8');
      await kernel.network.setSysctlIn(namespace, 'net.ipv4.ip_default_ttl', '77');
      assert.equal(inside(namespace, 'cat', '/proc/sys/net/ipv4/ip_default_ttl').trim(), '77');
      assert.equal(readFileSync('/proc/sys/net/ipv4/ip_default_ttl', 'utf8'), ofHost);
      for (const name of ['kernel.pid_max', 'net', 'net/../kernel/pid_max', 'net/ipv4//x', '../net/ipv4/x']) {
        await assert.rejects(
          kernel.network.setSysctlIn(namespace, name, '1'),
          { syscall: 'sysctl', code: 'EINVAL' },
          name,
        );
      }

      await kernel.nftables.run('list tables'); // its socket is there before the numbers below
      // Numbers above FD_SETSIZE, which libnftables does not survive.
      const many = Array.from({ length: 1100 }, () => openSync('/dev/null', 'r'));
      try {
        for (const to of [4053, 5053]) {
          const redirection = { table: 'longshoretest', address: '127.0.0.11', port: 53, to };
          await kernel.network.redirectPortIn(namespace, redirection);
        }
        assert.doesNotMatch(await kernel.nftables.run('list tables'), /longshoretest/);
      } finally {
        for (const fd of many) closeSync(fd);
      }
      const rule = (protocol: string): string =>
        `\t\tip daddr 127.0.0.11 ${protocol} dport 53 dnat to 127.0.0.11:5053\n`;
      assert.equal(
        inside(namespace, 'nft', 'list', 'ruleset'),
        'table ip longshoretest {\n\tchain output {\n\t\ttype nat hook output priority -100; policy accept;\n' +
          `${rule('tcp')}${rule('udp')}\t}\n}\n`,
      );
      await assert.rejects(
        kernel.network.redirectPortIn(namespace, { table: 'x'.repeat(300), address: '127.0.0.11', port: 53, to: 1 }),
        { syscall: 'NFT_MSG_NEWTABLE' },
      );
    } finally {
      await kernel.network.removeNamespace(namespace);
    }
  }));

test('nftables: a script is one transaction, and errors carry what nft says', () =>
  withScratch(async ({ kernel, prefix }) => {
    await kernel.nftables.run(`add table ip ${prefix}; add set ip ${prefix} s { type ipv4_addr; }`);
    try {
      const bad = kernel.nftables.run(`add element ip ${prefix} s { 10.0.0.1 }; add rule ip ${prefix} nochain accept`);
      await assert.rejects(
        bad,
        (error: Error) => error.name === 'KernelError' && /No such file or directory/.test(error.message),
      );
      assert.doesNotMatch(await kernel.nftables.run(`list set ip ${prefix} s`), /10\.0\.0\.1/);
      await assert.rejects(kernel.nftables.run(`add table ip x\0y`), { code: 'EINVAL' });
      const many = Array.from({ length: 50 }, (_, index) =>
        kernel.nftables.run(`add element ip ${prefix} s { 10.0.1.${index} }`),
      );
      await Promise.all(many);
      assert.equal((await kernel.nftables.run(`list set ip ${prefix} s`)).match(/10\.0\.1\.\d+/g)?.length, 50);
    } finally {
      await kernel.nftables.run(`delete table ip ${prefix}`);
    }
  }));

test('interface names and MTUs: hostile ones are refused with a name, not cut', () =>
  withScratch(async ({ kernel, directory }) => {
    for (const name of ['', '.', '..', 'a b', 'a\nb', 'a/b', 'a\0b', 'veth%d', 'sixteen-bytes-xx', 'ééééééééé']) {
      await assert.rejects(
        kernel.network.ensureBridge({ name, mtu: 1500, addresses: [] }),
        { name: 'KernelError', code: 'EINVAL' },
        JSON.stringify(name),
      );
      await assert.rejects(
        kernel.network.removeLink(name),
        { name: 'KernelError', code: 'EINVAL' },
        JSON.stringify(name),
      );
    }
    await assert.rejects(kernel.network.ensureBridge({ name: 'lo', mtu: 1500, addresses: [] }), { code: 'EEXIST' });
    await assert.rejects(kernel.network.createNamespace(join(directory, 'a\0b')), { code: 'EINVAL' });
  }));

test('a socket made inside goes to Node whole', () =>
  withScratch(async ({ kernel }) => {
    const [mine, theirs] = await kernel.processes.socketPair();
    const left = new Socket({ fd: mine, readable: true, writable: true });
    const right = new Socket({ fd: theirs, readable: true, writable: true });
    left.write('hello');
    assert.equal(String(await new Promise((resolve) => right.once('data', resolve))), 'hello');
    const closed = Promise.all([left, right].map((socket) => new Promise((resolve) => socket.once('close', resolve))));
    left.destroy();
    right.destroy();
    await closed;
  }));
