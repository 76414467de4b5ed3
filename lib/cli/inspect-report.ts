// What inspect finds out about checkpoints and networks. Touches no libtorch.
import { existsSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { basename, join } from 'node:path';

import { type CheckpointFolder, openCheckpointFolder } from '../checkpoints/folder.js';
import { resolveCheckpoint } from '../checkpoints/hub.js';
import { readJsonObject } from '../checkpoints/json.js';
import { openSingleFile } from '../checkpoints/single-file.js';
import type { StoredTensor } from '../checkpoints/stored-tensor.js';
import { readWeights } from '../checkpoints/weights.js';
import { CheckpointError, UntrustedFileError } from '../errors.js';
import { type Architecture, architectureClasses } from '../networks/architecture.js';
import { checkComponentConfig, readComponentConfig } from '../networks/component-config.js';
import { bundledProgramFolder, findProgramRecords } from '../networks/programs.js';
import { hasAutoPipeline } from '../pipelines/auto-classes.js';
import type { InspectFlags } from './inspect.js';

export interface ComponentReport {
  name: string;
  className: string;
  architecture?: string;
  program?: 'bundled' | 'exported' | 'missing';
  /** Names of the programs that fit. */
  programs?: string[];
  files?: { name: string; bytes: number }[];
  parameters?: number;
  dtypes?: string[];
  /** Looked at without its weights. */
  withoutWeights?: true;
  problem?: string;
}

export interface CheckpointReport {
  kind: 'checkpoint' | 'network';
  /** Folder, or file. */
  path: string;
  form: 'folder' | 'hub' | 'file';
  className: string;
  components: ComponentReport[];
  parameters: number;
  /** Size of the weight files. */
  bytes: number;
  /** Bytes that the weights take once they are loaded. */
  memory: { float32: number; float16: number };
  /** Commands that it works with. */
  commands: string[];
  /** What has to be named besides. */
  needs: string[];
  /** What is wrong with the checkpoint as a whole. */
  problems: string[];
  /** Whether everything that runs has weights and a program. */
  ready: boolean;
}

const upscalers = ['StableDiffusionLatentUpscalePipeline', 'StableDiffusionUpscalePipeline'];

export async function inspectFolder(path: string, flags: InspectFlags): Promise<CheckpointReport> {
  // To look at a checkpoint is no reason to download it.
  const access = { localFilesOnly: flags.online !== true, revision: flags.revision };
  const { folder, snapshot } = await resolveCheckpoint(path, access);
  const form = snapshot === undefined ? 'folder' : 'hub';
  const isOneNetwork =
    snapshot === undefined
      ? !existsSync(join(folder, 'model_index.json')) && existsSync(join(folder, 'config.json'))
      : !snapshot.has('model_index.json') && snapshot.has('config.json');
  if (isOneNetwork) {
    await snapshot?.fetch(['config.json']);
    const { _class_name: named, architectures } = await readJsonObject(join(folder, 'config.json'));
    const [listed] = Array.isArray(architectures) ? (architectures as unknown[]) : [];
    const className = String(named ?? listed ?? 'network');
    const component = await inspectComponent(basename(path), className, folder, flags);
    return summed({ kind: 'network', path: folder, form, className, components: [component] });
  }
  const checkpoint = await openCheckpointFolder(path, access);
  if (flags.online === true) await fetchConfigurations(checkpoint);
  const components: ComponentReport[] = [];
  for (const [name, { className, folder: part }] of checkpoint.components) {
    components.push(await inspectComponent(name, className, part, flags));
  }
  const { className } = checkpoint;
  return summed({ kind: 'checkpoint', path: checkpoint.folder, form, className, components });
}

async function fetchConfigurations({ components, snapshot }: CheckpointFolder): Promise<void> {
  const parts = [...components].map(([folder, { className }]) => ({ folder, className }));
  await snapshot?.fetchParts(parts, { variant: undefined, weights: false });
}

/** A checkpoint, or one network, in the layout of the original implementations. */
export async function inspectFile(path: string, flags: InspectFlags): Promise<CheckpointReport> {
  const { config } = flags;
  const access = { localFilesOnly: flags.online !== true };
  const opened = await openSingleFile(path, { config, access });
  const components: ComponentReport[] = [];
  for (const [name, { className, config: figures, tensors }] of opened.components) {
    const { architecture } = checkComponentConfig(opened.file, className, figures);
    components.push({ name, className, ...(await programOf(architecture)), ...sums(tensors) });
  }
  const { size } = await stat(opened.file);
  const isPipeline = opened.scheduler !== undefined;
  return {
    ...summed({
      kind: isPipeline ? 'checkpoint' : 'network',
      path: opened.file,
      form: 'file',
      className: opened.className,
      components,
    }),
    bytes: size,
    needs:
      isPipeline && config === undefined
        ? ['a tokenizer, which such files do not hold: name a checkpoint folder with --config']
        : [],
  };
}

function summed(
  found: Pick<CheckpointReport, 'kind' | 'path' | 'form' | 'className' | 'components'>,
): CheckpointReport {
  const { components, className, kind } = found;
  const total = (count: (one: ComponentReport) => number) =>
    components.reduce((sum, one) => sum + count(one), 0);
  const parameters = total((one) => one.parameters ?? 0);
  const commands = commandsFor(className, kind);
  const problems =
    commands.length > 0 || kind === 'network'
      ? []
      : [`there is no pipeline for a ${className} here`];
  const isWhole = components.every(
    ({ problem, program }) => problem === undefined && program !== 'missing',
  );
  return {
    ...found,
    parameters,
    bytes: total((one) => (one.files ?? []).reduce((sum, file) => sum + file.bytes, 0)),
    memory: { float32: 4 * parameters, float16: 2 * parameters },
    commands,
    needs: [],
    problems,
    ready: isWhole && problems.length === 0,
  };
}

function commandsFor(className: string, kind: CheckpointReport['kind']): string[] {
  if (kind === 'network') {
    if (className === 'ControlNetModel') return ['img2img --controlnet', 'txt2img --controlnet'];
    return /^Autoencoder(KL|Tiny)$/.test(className) ? ['img2img --vae', 'txt2img --vae'] : [];
  }
  if (upscalers.includes(className)) return ['upscale'];
  if (className === 'KandinskyV22PriorPipeline') return ['img2img --prior', 'txt2img --prior'];
  return hasAutoPipeline(className) ? ['img2img', 'txt2img'] : [];
}

async function inspectComponent(
  name: string,
  className: string,
  folder: string,
  { variant, online }: InspectFlags,
): Promise<ComponentReport> {
  const report: ComponentReport = { name, className };
  const isNetwork = architectureClasses.includes(className);
  // A feature extractor and the like may be missing: what it says has defaults.
  if (!isNetwork && !/tokenizer|scheduler/.test(name)) return report;
  if (!existsSync(folder)) return { ...report, problem: `the folder ${name}/ is missing` };
  if (!isNetwork) return report;
  try {
    const { architecture } = await readComponentConfig(folder, className);
    Object.assign(report, await programOf(architecture));
    const weights = await readWeights(folder, className, variant).catch((error: unknown) => {
      if (online !== true) throw error;
      report.withoutWeights = true;
      return undefined;
    });
    if (weights === undefined) return report;
    report.files = await Promise.all(
      weights.files.map(async (file) => ({ name: basename(file), bytes: (await stat(file)).size })),
    );
    return { ...report, ...sums(weights.tensors) };
  } catch (error) {
    if (!(error instanceof CheckpointError || error instanceof UntrustedFileError)) throw error;
    return { ...report, problem: error.message };
  }
}

async function programOf({
  key,
}: Architecture): Promise<Pick<ComponentReport, 'architecture' | 'program' | 'programs'>> {
  const found = await findProgramRecords(key);
  if (found === undefined) return { architecture: key, program: 'missing' };
  return {
    architecture: key,
    program: found.folder === bundledProgramFolder ? 'bundled' : 'exported',
    programs: found.records.map(({ file }) => file.replace(/\.pt(\.br)?$/, '')),
  };
}

export function sums(tensors: ReadonlyMap<string, StoredTensor>): {
  parameters: number;
  dtypes: string[];
} {
  const all = [...tensors.values()];
  const count = ({ shape }: StoredTensor) => shape.reduce((a, b) => a * b, 1);
  return {
    parameters: all.reduce((sum, tensor) => sum + count(tensor), 0),
    dtypes: [...new Set(all.map(({ dtype }) => dtype))],
  };
}
