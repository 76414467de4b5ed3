// The command line. Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import { Command, CommanderError } from 'commander';

import { TorchbrushError } from '../errors.js';
import { packageRoot } from '../package-root.js';
import { addBench } from './bench.js';
import { addDoctor } from './doctor.js';
import { addExport } from './export.js';
import { addImageToImage, addTextToImage } from './generate.js';
import { addInspect } from './inspect.js';
import { signal } from './interrupt.js';

const { version } = JSON.parse(readFileSync(join(packageRoot, 'package.json'), 'utf8')) as {
  version: string;
};

const program = new Command('torchbrush')
  .description(
    'Image-to-image diffusion: Stable Diffusion checkpoints on libtorch, without Python.',
  )
  .version(version)
  .showHelpAfterError('(--help shows what is possible)')
  .exitOverride();

addImageToImage(program);
addTextToImage(program);
addExport(program);
addInspect(program);
addDoctor(program);
addBench(program);
// Sub-commands inherit no settings that were made after them, so they are told one by one.
for (const command of program.commands) command.exitOverride().showHelpAfterError();

try {
  await program.parseAsync(process.argv.slice(2), { from: 'user' });
} catch (error) {
  process.exitCode = report(error);
}

function report(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
  if (signal.aborted) {
    console.error('interrupted');
    return 130;
  }
  if (error instanceof TorchbrushError) {
    console.error(`error: ${error.message} (${error.code})`);
    // An argument that cannot be meant is wrong usage, wherever it is noticed.
    return error.code === 'ERR_INVALID_ARGUMENT' ? 2 : 1;
  }
  console.error(`error: ${error instanceof Error ? error.message : String(error)} (ERR_UNKNOWN)`);
  return 1;
}
