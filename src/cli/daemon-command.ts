/** `longshore daemon`: options, the engine, signals. */
import { readFile } from 'node:fs/promises';
import { flushCompileCache } from 'node:module';
import { setFlagsFromString } from 'node:v8';

import { EngineError, messageOf } from '../core/engine-error.ts';
import { openEngine } from '../daemon/engine.ts';
import { createLogger } from '../daemon/logger.ts';
import { daemonOptions, type DaemonOptions } from '../daemon/daemon-options.ts';
import { optionsHelp, parseConfig, parseFlags } from '../daemon/parse-options.ts';
import { writePidfile } from '../daemon/pidfile.ts';
import { VERSION } from '../daemon/version.ts';
import { systemClock } from '../core/clock.ts';

const HELP = `Usage: longshore daemon [OPTIONS]

Runs the engine in the foreground until SIGTERM or SIGINT. Containers keep running without it.
Options have dockerd's names and meanings, also as keys of the config file. What is not listed is refused.
${optionsHelp()}

Examples:
  longshore daemon --host unix:///run/longshore.sock
  longshore daemon --host unix:///run/l.sock --host tcp://127.0.0.1:2375 --data-root /srv/longshore --bip 172.30.0.1/16
`;

const CONFIG_FILE = '/etc/longshore/daemon.json';

export async function daemonCommand(argv: readonly string[]): Promise<number> {
  if (argv.includes('--help') || argv.includes('-h')) {
    process.stdout.write(HELP);
    return 0;
  }
  const options = await readOptions(argv);
  if (options.validate) {
    process.stderr.write('configuration OK\n');
    return 0;
  }
  const logger = createLogger({ level: options.logLevel, format: options.logFormat, clock: systemClock });
  // A bug in one request must not end the daemon of all containers; where it is unsafe to go on, the code aborts itself.
  process.on('unhandledRejection', (error) =>
    logger.error({ stack: error instanceof Error ? error.stack : messageOf(error) }, 'a bug: a promise was left alone'),
  );
  const asked = nextSignal();
  await using _pidfile = await writePidfile(options.pidfile);
  await using engine = await openEngine({ options, logger });
  tuneForStreams();
  logger.info({ version: VERSION, pid: process.pid, hosts: engine.addresses }, 'ready');
  const [first] = engine.addresses;
  process.stderr.write(
    `\nLongshore listens on ${engine.addresses.join(', ')}. Try:\n\n    docker -H ${first} version\n\n`,
  );
  const signal = await asked;
  logger.info(
    { signal },
    options.liveRestore ? 'shutting down; containers keep running' : 'shutting down; containers are stopped',
  );
  return 0;
}

/**
 * Incremental marking would begin again and again while bytes stream through, and keep the young generation from giving
 * back their buffers meanwhile: it doubles the processor time of a copy. Not as a flag of the command line: kept code
 * (NODE_COMPILE_CACHE) belongs to the flags it was compiled with, and is kept first.
 */
function tuneForStreams(): void {
  flushCompileCache();
  setFlagsFromString('--no-incremental-marking');
}

/** The daemon ends with the first; a second one, while it shuts down, ends it at once. */
function nextSignal(): Promise<NodeJS.Signals> {
  const { promise, resolve } = Promise.withResolvers<NodeJS.Signals>();
  let count = 0;
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.on(signal, () => {
      if (++count > 2) process.exit(1);
      resolve(signal);
    });
  }
  process.on('SIGPIPE', () => {}); // a reader of our log that went away
  process.on('SIGHUP', () => {}); // dockerd reloads here; there is nothing to reload yet
  return promise;
}

async function readOptions(argv: readonly string[]): Promise<DaemonOptions> {
  const flags = parseFlags(argv);
  const asked = flags['config-file'] as string | undefined; // its kind is text
  const path = asked ?? CONFIG_FILE;
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if (asked === undefined && (error as NodeJS.ErrnoException).code === 'ENOENT') return daemonOptions(flags, {});
    throw new EngineError(
      'PARAMETER_INVALID',
      `unable to configure the daemon with file ${path}: ${messageOf(error)}`,
      { cause: error },
    );
  }
  let config: unknown = {};
  try {
    if (text.trim() !== '') config = JSON.parse(text.trim()); // trim() takes a byte order mark, too
  } catch (error) {
    throw new EngineError(
      'PARAMETER_INVALID',
      `unable to configure the daemon with file ${path}: ${messageOf(error)}`,
      { cause: error },
    );
  }
  return daemonOptions(flags, parseConfig(config, path));
}
