// What export does.
import { existsSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';

import { openCheckpointFolder } from '../checkpoints/folder.js';
import { readJsonObject } from '../checkpoints/json.js';
import { CheckpointError } from '../errors.js';
import { architectureClasses } from '../networks/architecture.js';
import { readComponentConfig } from '../networks/component-config.js';
import { type ExportRequest, exportPrograms } from '../networks/export.js';
import { findProgramRecords, programCacheFolder } from '../networks/programs.js';
import type { ExportFlags } from './export.js';
import { signal } from './interrupt.js';
import { printJson, printResult } from './output.js';
import { writeLine } from './progress.js';

export async function exportCheckpoint(folder: string, flags: ExportFlags): Promise<void> {
  const wanted = await requestsOf(resolve(folder));
  const requests: ExportRequest[] = [];
  const programs: object[] = [];
  const say = (record: object, text: string) => {
    programs.push(record);
    if (flags.json !== true) printResult(text);
  };
  for (const request of wanted) {
    const { key, name } = request;
    const known = flags.force === true ? undefined : await findProgramRecords(key);
    if (known === undefined) requests.push(request);
    else {
      const record = { name, key, folder: known.folder, made: false };
      say(record, `${name}: ${key} is in ${known.folder} already`);
    }
  }
  if (requests.length > 0) {
    const outDir = programCacheFolder();
    const python = flags.python ?? process.env.TORCHBRUSH_PYTHON ?? 'python3';
    const onLine = (line: string) => writeLine(line);
    const made = await exportPrograms({ requests, outDir, python, signal, onLine });
    for (const { name, entry, key, file } of made) {
      const path = join(outDir, key, file);
      say({ name, entry, key, file: path, made: true }, `${name} ${entry}: ${path}`);
    }
  }
  if (flags.json === true) printJson({ type: 'export', programs });
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
