/** The `longshore` command: picks the subcommand, and turns an expected error into one line and an exit code. */

import { EngineError, messageOf } from '../core/engine-error.ts';
import { daemonCommand } from './daemon-command.ts';
import { doctorCommand } from './doctor.ts';
import { VERSION } from '../daemon/version.ts';
import { whyCommand } from './why.ts';

const HELP = `Longshore ${VERSION}: a container engine that serves the Docker Engine API.

Usage: longshore COMMAND [OPTIONS]

Commands:
  daemon     Run the engine in the foreground (longshore daemon --help lists its options)
  why        Tell what happened to a container, and why
  doctor     Find (and remove) what crashes left behind; name records that cannot be read
  version    Print the version
  help       Print this text

The first steps:
  longshore daemon --host unix:///run/longshore.sock &
  docker -H unix:///run/longshore.sock run --rm -it IMAGE sh
`;

async function main([command = 'help', ...argv]: readonly string[]): Promise<number> {
  switch (command) {
    case 'daemon':
      return daemonCommand(argv);
    case 'why':
      return whyCommand(argv);
    case 'doctor':
      return doctorCommand(argv);
    case 'version':
    case '--version':
    case '-v':
      process.stdout.write(`Longshore ${VERSION}\n`);
      return 0;
    case 'help':
    case '--help':
    case '-h':
      process.stdout.write(HELP);
      return 0;
    default:
      process.stderr.write(`longshore: '${command}' is not a longshore command. See 'longshore help'\n`);
      return 2;
  }
}

let code = 1;
try {
  code = await main(process.argv.slice(2));
} catch (error) {
  process.stderr.write(
    `longshore: ${error instanceof EngineError ? error.message : error instanceof Error ? error.stack : messageOf(error)}\n`,
  );
}
// Not by running dry: connections to the shims of containers that live on would keep the process for ever.
process.exit(code);
