// torchbrush inspect: what a checkpoint consists of, and whether everything is there to run it.
// Touches no libtorch.
import { existsSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { basename } from 'node:path';

import type { Command } from 'commander';

import { openCheckpointFolder } from '../checkpoints/folder.js';
import { readWeights } from '../checkpoints/weights.js';
import { CheckpointError } from '../errors.js';
import { architectureClasses } from '../networks/architecture.js';
import { readComponentConfig } from '../networks/component-config.js';
import { bundledProgramFolder, findProgramRecords } from '../networks/programs.js';

export interface ComponentReport {
  name: string;
  className: string;
  architecture?: string;
  program?: 'bundled' | 'exported' | 'missing';
  files?: { name: string; bytes: number }[];
  parameters?: number;
  dtypes?: string[];
  problem?: string;
}

export interface CheckpointReport {
  folder: string;
  className: string;
  components: ComponentReport[];
  /** Whether everything that runs has weights and a program. */
  ready: boolean;
}

export async function inspectCheckpoint(path: string, variant?: string): Promise<CheckpointReport> {
  // To look at a checkpoint is no reason to download it.
  const checkpoint = await openCheckpointFolder(path, { localFilesOnly: true });
  const components: ComponentReport[] = [];
  for (const [name, { className, folder }] of checkpoint.components) {
    components.push(await inspectComponent(name, className, folder, variant));
  }
  const ready = components.every(
    ({ problem, program }) => problem === undefined && program !== 'missing',
  );
  return { folder: checkpoint.folder, className: checkpoint.className, components, ready };
}

async function inspectComponent(
  name: string,
  className: string,
  folder: string,
  variant: string | undefined,
): Promise<ComponentReport> {
  const report: ComponentReport = { name, className };
  const isNetwork = architectureClasses.includes(className);
  // A feature extractor and the like may be missing: what it says has defaults.
  if (!isNetwork && !/tokenizer|scheduler/.test(name)) return report;
  if (!existsSync(folder)) return { ...report, problem: `the folder ${name}/ is missing` };
  if (!isNetwork) return report;
  try {
    const { architecture } = await readComponentConfig(folder, className);
    const { key } = architecture;
    report.architecture = key;
    const found = await findProgramRecords(key);
    report.program =
      found === undefined
        ? 'missing'
        : found.folder === bundledProgramFolder
          ? 'bundled'
          : 'exported';
    const { tensors, files } = await readWeights(folder, className, variant);
    report.files = await Promise.all(
      files.map(async (file) => ({ name: basename(file), bytes: (await stat(file)).size })),
    );
    const all = [...tensors.values()];
    report.parameters = all.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
    report.dtypes = [...new Set(all.map(({ dtype }) => dtype))];
  } catch (error) {
    if (!(error instanceof CheckpointError)) throw error;
    report.problem = error.message;
  }
  return report;
}

export function addInspect(program: Command): void {
  program
    .command('inspect')
    .description('Shows what a checkpoint consists of and what is missing to run it.')
    .argument('<checkpoint>', 'checkpoint folder, or org/name of one in the Hugging Face cache')
    .option('--variant <name>', 'weight files to look at, such as fp16')
    .option('--json', 'for machines')
    .action(async (path: string, flags: { variant?: string; json?: boolean }) => {
      const report = await inspectCheckpoint(path, flags.variant);
      console.log(flags.json === true ? JSON.stringify(report, undefined, 2) : inWords(report));
      if (!report.ready) process.exitCode = 1;
    });
}

function inWords(report: CheckpointReport): string {
  const lines = [`${report.folder}: ${report.className}`];
  for (const component of report.components) {
    lines.push(`  ${component.name}: ${component.className}`);
    if (component.parameters !== undefined) {
      const count = (component.parameters / 1e6).toFixed(1);
      const files = (component.files ?? []).map(
        ({ name, bytes }) => `${name} (${megabytes(bytes)})`,
      );
      lines.push(`    ${count} M numbers, ${component.dtypes?.join(', ')}; ${files.join(', ')}`);
    }
    if (component.program !== undefined) {
      lines.push(`    architecture ${component.architecture}, program ${component.program}`);
    }
    if (component.problem !== undefined) lines.push(`    problem: ${component.problem}`);
  }
  if (report.components.some(({ program }) => program === 'missing')) {
    lines.push(`Make the missing programs with: npx torchbrush export "${report.folder}"`);
  }
  lines.push(report.ready ? 'ready to run' : 'not ready to run');
  return lines.join('\n');
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}
