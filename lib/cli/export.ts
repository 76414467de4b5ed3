// torchbrush export: makes the programs that a checkpoint needs and that are not there yet.
import { existsSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';

import type { Command } from 'commander';

import { openCheckpointFolder } from '../checkpoints/folder.js';
import { readJsonObject } from '../checkpoints/json.js';
import { CheckpointError } from '../errors.js';
import { architectureClasses } from '../networks/architecture.js';
import { readComponentConfig } from '../networks/component-config.js';
import { type ExportRequest, exportPrograms } from '../networks/export.js';
import { findProgramRecords, programCacheFolder } from '../networks/programs.js';
import { signal } from './interrupt.js';

export function addExport(program: Command): void {
  program
    .command('export')
    .description(
      'Makes the programs of a checkpoint whose architecture is not bundled. Needs Python.',
    )
    .argument('<folder>', 'checkpoint folder, or the folder of one component')
    .option(
      '--python <path>',
      'Python with torch and diffusers; TORCHBRUSH_PYTHON or python3 unless given',
    )
    .option('--force', 'makes them anew even where there are some')
    .action(async (folder: string, flags: { python?: string; force?: boolean }) => {
      const wanted = await requestsOf(resolve(folder));
      const requests: ExportRequest[] = [];
      for (const request of wanted) {
        const known = flags.force === true ? undefined : await findProgramRecords(request.key);
        if (known === undefined) requests.push(request);
        else console.log(`${request.name}: ${request.key} is in ${known.folder} already`);
      }
      if (requests.length === 0) return;
      const outDir = programCacheFolder();
      const python = flags.python ?? process.env.TORCHBRUSH_PYTHON ?? 'python3';
      const made = await exportPrograms({
        requests,
        outDir,
        python,
        signal,
        onLine: (line) => console.error(line),
      });
      for (const { name, entry, key, file } of made) {
        console.log(`${name} ${entry}: ${join(outDir, key, file)}`);
      }
    });
}

/** One request per network of a checkpoint, or the one of a component folder. */
async function requestsOf(folder: string): Promise<ExportRequest[]> {
  if (!existsSync(join(folder, 'model_index.json'))) {
    return [await requestOf(basename(folder), folder, undefined)];
  }
  const { components } = await openCheckpointFolder(folder);
  // A part that pipelines can do without, a safety checker, may have been left out of the download.
  const networks = [...components].filter(
    ([, { className, folder: part }]) =>
      architectureClasses.includes(className) && existsSync(part),
  );
  return Promise.all(
    networks.map(([name, component]) => requestOf(name, component.folder, component.className)),
  );
}

async function requestOf(
  name: string,
  folder: string,
  className: string | undefined,
): Promise<ExportRequest> {
  const path = join(folder, 'config.json');
  if (!existsSync(path)) {
    throw new CheckpointError(
      `${folder} is neither a checkpoint (model_index.json) nor a component (config.json).`,
    );
  }
  const config = await readJsonObject(path);
  const [listed] = Array.isArray(config.architectures) ? (config.architectures as unknown[]) : [];
  const named = className ?? config._class_name ?? listed;
  if (typeof named !== 'string') throw new CheckpointError(`${path} names no class.`);
  const { architecture } = await readComponentConfig(folder, named);
  return { name, ...architecture };
}
