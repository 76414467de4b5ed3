// Checkpoints in one file, in the layout of the original implementations: their tensors under
// today's names, and the configurations that such files leave out.
import { existsSync } from 'node:fs';
import { join } from 'node:path';

import { CheckpointError, expected } from '../errors.js';
import { type CheckpointFolder, openCheckpointFolder } from './folder.js';
import { resolveCheckpoint, resolveFile } from './hub.js';
import { type HubAccess, withoutRevision } from './hub-settings.js';
import { type JsonObject, readJsonObject } from './json.js';
import { modernName } from './layouts.js';
import { type Family, familyNames, findFamily } from './single-file-families.js';
import { convertKeys, type KeyKind, keyLayouts } from './single-file-keys.js';
import type { StoredTensor } from './stored-tensor.js';
import { readTensors } from './weights.js';

/** A network in the file: all that is needed to load it. */
export interface SingleFileComponent {
  className: string;
  /** As a config.json would have it, snake_case. */
  config: JsonObject;
  /** Under today's names. */
  tensors: Map<string, StoredTensor>;
}

export interface SingleFile {
  file: string;
  /** The pipeline's class, or the network's where the file holds just one. */
  className: string;
  /** By name; networks that the file lacks are missing here. It never holds a tokenizer. */
  components: Map<string, SingleFileComponent>;
  /** What a scheduler_config.json would say. Undefined for a single network. */
  scheduler: JsonObject | undefined;
  /** What a model_index.json would say beside the parts, camelCase. */
  values: Readonly<JsonObject>;
}

export interface OpenSingleFileOptions {
  /**
   * A checkpoint as diffusers writes it, or a network's for a file of one network: its configurations
   * are used in place of the known ones. Its weights are not needed.
   */
  config?: string | undefined;
  /** How the file is come by, where it is on the hub; and the configuration, but for its revision. */
  access?: HubAccess;
}

interface Part {
  name: string;
  kind: KeyKind;
  /** What its tensors' names start with; the first one that occurs counts. */
  prefixes: readonly string[];
}

const parts: readonly Part[] = [
  { name: 'unet', kind: 'unet', prefixes: ['model.diffusion_model.'] },
  { name: 'vae', kind: 'vae', prefixes: ['first_stage_model.', 'vae.'] },
  {
    name: 'text_encoder',
    kind: 'clip',
    prefixes: ['cond_stage_model.transformer.', 'conditioner.embedders.0.transformer.'],
  },
  { name: 'text_encoder', kind: 'openClip', prefixes: ['cond_stage_model.model.'] },
  {
    name: 'text_encoder_2',
    kind: 'openClip',
    prefixes: ['conditioner.embedders.1.model.', 'conditioner.embedders.0.model.'],
  },
];
/** Files of one network need no prefix. */
const soleParts: Readonly<Record<string, Part>> = {
  ControlNetModel: { name: 'controlnet', kind: 'controlnet', prefixes: ['control_model.', ''] },
  AutoencoderKL: { name: 'vae', kind: 'vae', prefixes: ['first_stage_model.', 'vae.', ''] },
};

/**
 * Reads what a checkpoint file in the original layout holds: `.safetensors`, or `.ckpt` as torch.save
 * writes it. Nothing is loaded yet.
 *
 * @throws CheckpointError when the file is damaged or of an unknown architecture
 * @throws UntrustedFileError when a `.ckpt` holds more than tensors
 */
export async function openSingleFile(
  path: string,
  { config, access = {} }: OpenSingleFileOptions = {},
): Promise<SingleFile> {
  if (typeof path !== 'string' || path === '') throw expected('a file', 'checkpoint', path);
  const file = await resolveFile(path, access);
  const tensors = await readTensors(file);
  const family = config === undefined ? findFamily(tensors) : await readFamily(config, access);
  if (family === undefined) {
    throw new CheckpointError(
      `${file} holds no architecture that is known by its tensors. Known are ${familyNames.join(', ')}, in the original layout. For another one of that layout name a diffusers folder with its configurations: { config: 'FOLDER' }.`,
    );
  }
  const components: SingleFile['components'] = new Map();
  const sole = Object.hasOwn(soleParts, family.className) ? soleParts[family.className] : undefined;
  for (const part of sole === undefined ? parts : [sole]) {
    const figures = family.components[part.name];
    const own = figures === undefined ? [] : tensorsOf(part, tensors);
    if (figures === undefined || own.length === 0) continue;
    components.set(part.name, { ...figures, tensors: converted(part, figures, own) });
  }
  if (components.size === 0) {
    throw new CheckpointError(`${file} holds no network of a ${family.className}.`);
  }
  const { className, scheduler, values = {} } = family;
  return { file, className, components, scheduler, values };
}

function tensorsOf({ prefixes }: Part, tensors: ReadonlyMap<string, StoredTensor>) {
  for (const prefix of prefixes) {
    const own = [...tensors].filter(([name]) => name.startsWith(prefix));
    const entries = own.map(([name, tensor]) => [name.slice(prefix.length), tensor] as const);
    if (entries.length > 0) return entries;
  }
  return [];
}

function converted(
  { kind }: Part,
  { className, config }: { className: string; config: JsonObject },
  tensors: readonly (readonly [string, StoredTensor])[],
): Map<string, StoredTensor> {
  const current = convertKeys(tensors, keyLayouts[kind](config, className));
  return new Map([...current].map(([name, tensor]) => [modernName(className, name), tensor]));
}

/** The figures of a checkpoint that diffusers wrote. */
async function readFamily(path: string, access: HubAccess): Promise<Family> {
  if (typeof path !== 'string' || path === '') throw expected('a folder', 'config', path);
  const { folder, snapshot } = await resolveCheckpoint(path, withoutRevision(access));
  if (snapshot?.has('model_index.json') === false) await snapshot.fetch(['config.json']);
  const file = join(folder, 'config.json');
  if (!existsSync(file)) return familyOfFolder(await openConfiguration(path, access));
  const config = await readJsonObject(file);
  const className = String(config._class_name);
  const part = Object.hasOwn(soleParts, className) ? soleParts[className] : undefined;
  if (part === undefined) {
    const known = Object.keys(soleParts).join(' or ');
    throw new CheckpointError(
      `${file} is for a ${className}; expected ${known}, or a whole checkpoint.`,
    );
  }
  return { name: path, className, components: { [part.name]: { className, config } } };
}

/** A checkpoint of which everything but its weights is there. */
export async function openConfiguration(
  path: string,
  access: HubAccess,
): Promise<CheckpointFolder> {
  const checkpoint = await openCheckpointFolder(path, withoutRevision(access));
  const isRead = (name: string) =>
    /^(tokenizer|scheduler)/.test(name) || parts.some((part) => part.name === name);
  const wanted = [...checkpoint.components]
    .filter(([name]) => isRead(name))
    .map(([folder, { className }]) => ({ folder, className }));
  await checkpoint.snapshot?.fetchParts(wanted, { variant: undefined, weights: false });
  return checkpoint;
}

async function familyOfFolder(checkpoint: CheckpointFolder): Promise<Family> {
  const { folder, className, values } = checkpoint;
  const components: Record<string, { className: string; config: JsonObject }> = {};
  for (const { name } of parts) {
    const part = checkpoint.components.get(name);
    if (part === undefined) continue;
    const config = await readJsonObject(join(part.folder, 'config.json'));
    components[name] = { className: part.className, config };
  }
  const scheduler = await readJsonObject(join(folder, 'scheduler', 'scheduler_config.json'));
  const named = checkpoint.components.get('scheduler')?.className ?? scheduler._class_name;
  const schedulerConfig = { ...scheduler, _class_name: named };
  return { name: folder, className, components, scheduler: schedulerConfig, values };
}
