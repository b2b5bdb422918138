/** Execs without the OCI runtime against execs by it: nothing may differ, and nothing of the host may be in reach. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { suite, test } from 'node:test';

import { NO_RESOURCES } from '../core/container-spec.ts';
import { RuntimeStartError } from './port.ts';
import { execHelperPath, facts, launch, open, readAll, withoutFrames } from './runtime-fixture.ts';
import { buildExecProcess } from './spec/process.ts';
import { plainInput, plainSpec } from './spec/spec-fixture.ts';

/** Everything that a process inherits or is given. What differs from one to the next (pids) is left out. */
const STATUS = `
grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp|Sig[PBIC]|Shd|Umask|Cpus_allowed|Mems_allowed|Speculation|THP|Threads|CoreDump)' /proc/self/status
cat /proc/self/limits /proc/self/cgroup /proc/self/oom_score_adj /proc/self/timerslack_ns /proc/self/setgroups
cat /proc/self/attr/current 2>&1; ls -l /proc/self/ns | cut -d'>' -f2; awk '{print $1,$2,$5,$6,$7,$8,$9}' /proc/keys; ls -1 /proc/self/fd
cut -d' ' -f 18,19,40,41 /proc/self/stat; [ -t 0 ] && { stty size; echo > /dev/tty && echo controlling terminal; }
[ "$(cut -d' ' -f6 /proc/$$/stat)" = $$ ] && echo session leader; [ "$(cut -d' ' -f4 /proc/$$/stat)" = 0 ] && echo no parent
for fd in 0 1 2; do stat -L -c '%F %u' /proc/self/fd/$fd; done; env | sort; pwd; calls`;

for (const name of ['crun', 'runc'] as const) {
  suite(`direct execs in containers of ${name}`, () => {
    test('exec: without the runtime a process has exactly what the runtime gives it', async () => {
      const { runtime } = await open();
      const { runtime: slow } = await open(null);
      const limits = {
        ...NO_RESOURCES,
        ulimits: [{ name: 'nofile', soft: 150, hard: 150 /* runc 1.1.5 raises the soft one */ }],
      };
      for (const [host, user, privileged] of [
        [{}, { uid: 0, gid: 0, additionalGids: [], home: '/root' }, false],
        [{}, { uid: 1000, gid: 7, additionalGids: [7, 9], home: '/' }, true],
        [{ privileged: true }, { uid: 0, gid: 0, additionalGids: [3], home: '/' }, true],
        [
          { securityOpt: ['no-new-privileges'], oomScoreAdj: name === 'runc' ? 77 : 0, resources: limits },
          { uid: 5, gid: 5, additionalGids: [], home: '/' },
          false,
        ],
        [
          { securityOpt: ['seccomp=unconfined'], capAdd: ['SYS_ADMIN'], pidMode: 'host' },
          { uid: 0, gid: 5, additionalGids: [], home: '/' },
          false,
        ],
        [{ cgroupnsMode: 'private' }, { uid: 0, gid: 0, additionalGids: [], home: '/' }, false],
      ] as const) /* prettier-ignore */ {
        const one = launch(['sleep', '1000'], { runtime: name, host });
        await runtime.start(one, []);
        await using _ = { [Symbol.asyncDispose]: () => runtime.release(one.id) };
        await slow.recover(one.id, 1);
        const spec = plainSpec(
          {},
          { ...host, resources: { ...NO_RESOURCES, ...('resources' in host && host.resources) } },
        );
        for (const tty of [false, true]) {
          const process = buildExecProcess(
            { spec, user, host: facts, daemon: plainInput().daemon },
            { args: ['sh', '-c', STATUS], env: ['A=b c', 'E='], workingDir: '/tmp', tty, privileged, linkEnv: [], consoleSize: [7, 9] },
          ); // prettier-ignore
          const said: string[] = [];
          for (const by of [runtime, slow]) {
            const exec = { execId: `x${said.length}`, process, tty, consoleSize: [0, 0] as const, record: '' };
            const { stream } = await by.exec(one.id, exec, { stdin: true, stdout: true, stderr: true });
            said.push(withoutStrangers(withoutFrames(await readAll(stream!), tty), one.id));
          }
          const [direct, byRuntime] = said.map((text) => (name === 'runc' ? text : asCrun(text)));
          assert.equal(direct, byRuntime, JSON.stringify({ host, tty }));
          if (tty) assert.match(said[0] as string, /^7 9$/m);
          assert.match(said[0] as string, /session leader[^]*A=b c[^]*\/tmp/);
          if (!JSON.stringify(host).includes('unconfined') && !('privileged' in host))
            assert.match(said[0] as string, /38 1 1/);
        }
      }
    });

    test('exec: a program that is itself, a directory that is the host’s, a fork bomb’s last place', async () => {
      const { runtime, event } = await open();
      const one = launch(['sleep', '1000'], {
        runtime: name,
        host: { resources: { ...NO_RESOURCES, pidsLimit: 2 } },
      });
      await runtime.start(one, []);
      await using _ = { [Symbol.asyncDispose]: () => runtime.release(one.id) };
      const before = readFileSync(execHelperPath);
      const run = (execId: string, args: string[], cwd = '/'): Promise<unknown> =>
        runtime.exec(
          one.id,
          {
            execId,
            process: { args, env: ['PATH=/bin'], cwd, user: { uid: 0, gid: 0 }, capabilities: {} },
            tty: false,
            consoleSize: [0, 0],
            record: '',
          },
          null,
        );
      for (const execId of ['last', 'above']) await run(execId, ['sleep', '1000']);
      // What is run as /proc/self/exe is a sealed copy in memory, which wants other arguments.
      await run('self', ['/proc/self/exe']);
      assert.deepEqual(await event('exec-exited', one.id), {
        kind: 'exec-exited',
        id: one.id,
        execId: 'self',
        exitCode: 2,
      });
      for (let fd = 3; fd < 16; fd++)
        await assert.rejects(run(`fd${fd}`, ['true'], `/proc/self/fd/${fd}`), RuntimeStartError, `descriptor ${fd}`);
      assert.ok(readFileSync(execHelperPath).equals(before));
    });
  });
}

/** Keyrings of other containers of the same user are seen as well. */
function withoutStrangers(text: string, id: string): string {
  return text.replaceAll(/^.* keyring .*\n/gm, (line) => (line.includes(id) ? line : ''));
}

/**
 * What crun 1.8.1 does otherwise than runc: the session is led by a process outside of the container, a terminal stays
 * root's, the keyring is that of who started it, and
 * the size may come too late.
 */
function asCrun(text: string): string {
  return text
    .replace('session leader\n', '')
    .replace(/^(7 9|stty:.*)\n/m, '')
    .replaceAll(/(character special file) \d+/g, '$1')
    .replaceAll(/^.* keyring .*\n/gm, '');
}
