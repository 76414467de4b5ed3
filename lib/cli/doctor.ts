// torchbrush doctor: its flags.
import { type Command, Option } from 'commander';

export interface DoctorFlags {
  json?: boolean;
  selfTest: boolean;
  native?: boolean;
}

export function addDoctor(program: Command): void {
  program
    .command('doctor')
    .description('Check this machine: libtorch, devices, caches, and a test picture.')
    .option('--no-self-test', 'draw no test picture')
    .option('--json', 'for machines')
    // What loads libtorch runs in a process of its own: a broken one may take that down.
    .addOption(new Option('--native').hideHelp())
    .addHelpText(
      'after',
      `
Exit code 0 means that pictures can be drawn, 1 that something that matters fails. Every failure
comes with its cure.`,
    )
    .action(async (flags: DoctorFlags) => {
      const { doctor, nativeChecks } = await import('./run-doctor.js');
      await (flags.native === true ? nativeChecks(flags) : doctor(flags));
    });
}
