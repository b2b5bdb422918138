/**
 * Bundles the command and the kernel worker: one file each starts several times faster than some two hundred
 * modules, and the daemon's time to its first answer is a figure that users feel at each boot.
 */
import { build } from 'esbuild';

/**
 * An ES import of node:http reads each of its exports, and with them the getter of `WebSocket`, which loads all of
 * undici: some 80 ms of a start for something that is never used. As CommonJS, getters stay unread.
 */
const unreadGetters = {
  name: 'unread-getters',
  setup(bundle) {
    bundle.onResolve({ filter: /^node:https?$/ }, ({ path }) => ({ path, namespace: 'builtin' }));
    bundle.onLoad({ filter: /.*/, namespace: 'builtin' }, ({ path }) => ({
      contents: `module.exports = process.getBuiltinModule('${path}');`,
    }));
  },
};

const shared = {
  bundle: true,
  platform: 'node',
  target: 'node24',
  format: 'esm',
  legalComments: 'none',
  plugins: [unreadGetters],
  // Native, so it finds its own file; and what is only loaded when metrics, traces or regular expressions of logs are
  // asked for. Everything else is in the bundle.
  external: ['koffi', 're2js', 'yaml', 'prom-client', '@opentelemetry/*'],
  // CommonJS packages in an ESM bundle look for these.
  banner: { js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);" },
  logLevel: 'warning',
};
await build({ ...shared, entryPoints: ['src/cli/main.ts'], outfile: 'dist/longshore.js' });
await build({ ...shared, entryPoints: ['src/kernel/worker.ts'], outfile: 'dist/worker.js' });
