// The tree of commands. Building it loads nothing but commander: help and completion are there at
// once, and what a command needs is imported when it runs.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import { Command } from 'commander';

import { packageRoot } from '../package-root.js';
import { addBench } from './bench.js';
import { addCompletion } from './completion.js';
import { addConvert } from './convert.js';
import { addDoctor } from './doctor.js';
import { addExport } from './export.js';
import { addImageToImage, addTextToImage } from './generate.js';
import { addInspect } from './inspect.js';
import { addUpscale } from './upscale.js';

/** Lines that are read easily, whatever the terminal's width. */
const help = { helpWidth: Math.min(process.stdout.columns || 100, 110) };

export function buildProgram(): Command {
  const program = new Command('torchbrush')
    .description(
      'Image-to-image diffusion: Stable Diffusion checkpoints on libtorch, without Python.',
    )
    .version(version(), '-V, --version', 'print the version')
    .helpOption('-h, --help', 'print this')
    .helpCommand('help [command]', 'print the help of a command')
    .configureHelp(help)
    .showHelpAfterError('(torchbrush --help shows what is possible)')
    .exitOverride();
  program.commandsGroup('Drawing:');
  addImageToImage(program);
  addTextToImage(program);
  addUpscale(program);
  program.commandsGroup('Checkpoints:');
  addInspect(program);
  addConvert(program);
  addExport(program);
  program.commandsGroup('This machine:');
  addDoctor(program);
  addBench(program);
  addCompletion(program);
  program.addHelpText(
    'after',
    `
Try it with the embedded model:
  torchbrush txt2img --model demo --prompt "a fox, 3d style" --output fox.png
Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.`,
  );
  // Sub-commands inherit no settings that were made after them, so they are told one by one.
  for (const command of program.commands) {
    command
      .exitOverride()
      .helpOption('-h, --help', 'print this')
      .configureHelp(help)
      .showHelpAfterError(`(torchbrush ${command.name()} --help shows all options and examples)`);
  }
  return program;
}

function version(): string {
  const path = join(packageRoot, 'package.json');
  return (JSON.parse(readFileSync(path, 'utf8')) as { version: string }).version;
}
