// What a converted checkpoint will consist of.
import { existsSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { basename, join } from 'node:path';

import { CheckpointError } from '../errors.js';
import type { ConvertOptions } from './convert.js';
import { openCheckpointFolder } from './folder.js';
import { resolveCheckpoint } from './hub.js';
import { withoutRevision } from './hub-settings.js';
import { type JsonObject, readJsonObject } from './json.js';
import { layoutOf } from './layouts.js';
import { openConfiguration, openSingleFile, type SingleFileComponent } from './single-file.js';
import type { StoredTensor } from './stored-tensor.js';
import { readStoredWeights } from './weights.js';

export interface ConversionPlan {
  className: string;
  networks: PlannedNetwork[];
  copies: { from: string; to: string }[];
  /** Files of JSON, by name. */
  texts: Map<string, JsonObject>;
}

interface PlannedNetwork {
  name: string;
  className: string;
  /** In the new folder. */
  file: string;
  tensors: ReadonlyMap<string, StoredTensor>;
}

/** From a checkpoint in one file, or a file of one network. */
export async function planFile({
  source,
  config,
  access = {},
}: ConvertOptions): Promise<ConversionPlan> {
  const single = await openSingleFile(source, { config, access });
  const { className, components, scheduler, values, file } = single;
  const plan: ConversionPlan = { className, networks: [], copies: [], texts: new Map() };
  const isSole = scheduler === undefined;
  for (const [name, part] of components) {
    const folder = isSole ? '' : `${name}/`;
    const weights = `${folder}${layoutOf(part.className).fileStem}.safetensors`;
    const tensors = publishedNames(part);
    plan.networks.push({ name, className: part.className, file: weights, tensors });
    plan.texts.set(`${folder}config.json`, configOf(part));
  }
  if (isSole) {
    if (config !== undefined) {
      const { folder } = await resolveCheckpoint(config, withoutRevision(access));
      takeVerbatim(plan, join(folder, 'config.json'), 'config.json');
    }
    return plan;
  }
  if (!components.has('unet')) {
    throw new CheckpointError(
      `${file} holds ${[...components.keys()].join(', ')} and no unet. Name the folder of that network alone with --config.`,
    );
  }
  if (config === undefined) {
    throw new CheckpointError(
      `${file} holds no tokenizer, and a folder needs one. Name a checkpoint of the same architecture with --config, a folder or a name on the hub; its weights are not needed.`,
    );
  }
  const configuration = await openConfiguration(config, access);
  const index: JsonObject = { _class_name: className, _diffusers_version: '0.30.0' };
  for (const [name, value] of Object.entries(values)) index[snakeCase(name)] = value;
  for (const name of partsOf(className)) index[name] = [null, null];
  for (const [name, { className: own }] of components) {
    index[name] = [/^CLIP/.test(own) ? 'transformers' : 'diffusers', own];
    const folder = configuration.components.get(name)?.folder;
    if (folder === undefined) continue;
    takeVerbatim(plan, join(folder, 'config.json'), `${name}/config.json`);
  }
  for (const [name, { className: own, folder }] of configuration.components) {
    if (!name.startsWith('tokenizer')) continue;
    index[name] = ['transformers', own];
    plan.copies.push(...(await filesOf(folder, `${name}/`)));
  }
  index.scheduler = ['diffusers', scheduler._class_name];
  const schedulerFile = 'scheduler/scheduler_config.json';
  plan.texts.set(schedulerFile, scheduler);
  takeVerbatim(plan, join(configuration.folder, schedulerFile), schedulerFile);
  plan.texts.set('model_index.json', index);
  return plan;
}

/** Written anew, 1.0 would become 1, which transformers does not take for a float. */
function takeVerbatim({ copies, texts }: ConversionPlan, from: string, to: string): void {
  texts.delete(to);
  copies.push({ from, to });
}

/** Parts that diffusers' class expects an entry for, also where there are none. */
function partsOf(className: string): string[] {
  if (className === 'StableDiffusionPipeline') return ['safety_checker', 'feature_extractor'];
  return ['text_encoder', 'tokenizer', 'text_encoder_2', 'tokenizer_2'];
}

function configOf({ className, config }: SingleFileComponent): JsonObject {
  if (!/^CLIP/.test(className)) return { _class_name: className, ...config };
  return { architectures: [className], model_type: 'clip_text_model', ...config };
}

/**
 * Text encoders with the names that published files have: every version of transformers knows those,
 * and today's only its own besides.
 */
function publishedNames({ className, tensors }: SingleFileComponent): Map<string, StoredTensor> {
  const kept = [...tensors].filter(([name]) => !name.endsWith('position_ids'));
  if (!/^CLIPTextModel/.test(className)) return new Map(kept);
  return new Map(
    kept.map(([name, tensor]) => [
      name.startsWith('text_projection.') ? name : `text_model.${name}`,
      tensor,
    ]),
  );
}

/** From a folder, or a name on the hub, with weights of any form. Names of tensors stay. */
export async function planFolder({
  source,
  variant,
  access = {},
}: ConvertOptions): Promise<ConversionPlan> {
  const { folder, snapshot } = await resolveCheckpoint(source, access);
  const isSole =
    snapshot === undefined
      ? !existsSync(join(folder, 'model_index.json')) && existsSync(join(folder, 'config.json'))
      : !snapshot.has('model_index.json');
  if (isSole) {
    await snapshot?.fetch(['config.json']);
    const { _class_name, architectures } = await readJsonObject(join(folder, 'config.json'));
    const [listed] = Array.isArray(architectures) ? (architectures as unknown[]) : [];
    const className = String(_class_name ?? listed);
    await snapshot?.fetchParts([{ folder: '', className }], { variant, weights: true });
    const name = basename(source);
    const part = { name, className, library: '', folder };
    const { network, copies } = await planComponent(part, '', variant);
    if (network === undefined) throw new CheckpointError(`${folder} has no weights.`);
    return { className, networks: [network], copies, texts: new Map() };
  }
  const checkpoint = await openCheckpointFolder(source, access);
  const components = [...checkpoint.components];
  await checkpoint.snapshot?.fetchParts(
    components.map(([name, { className }]) => ({ folder: name, className })),
    { variant, weights: true },
  );
  const plan: ConversionPlan = {
    className: checkpoint.className,
    networks: [],
    copies: await filesOf(folder, ''),
    texts: new Map(),
  };
  for (const [name, component] of components) {
    // A part that pipelines can do without, a safety checker, may have been left out of the download.
    if (!existsSync(component.folder)) continue;
    const { network, copies } = await planComponent({ name, ...component }, `${name}/`, variant);
    if (network !== undefined) plan.networks.push(network);
    plan.copies.push(...copies);
  }
  if (plan.networks.length === 0) throw new CheckpointError(`${folder} has no weights.`);
  return plan;
}

async function planComponent(
  component: { name: string; className: string; library: string; folder: string },
  prefix: string,
  variant: string | undefined,
): Promise<{ network: PlannedNetwork | undefined; copies: ConversionPlan['copies'] }> {
  const { name, className, library, folder } = component;
  const copies = await filesOf(folder, prefix);
  if (!existsSync(join(folder, 'config.json'))) return { network: undefined, copies };
  // Of the networks of transformers all have the same names of files.
  const like = library === 'transformers' ? 'CLIPTextModel' : className;
  const all = await readStoredWeights(folder, like, variant);
  const tensors = new Map([...all].filter(([key]) => !key.endsWith('position_ids')));
  const file = `${prefix}${layoutOf(like).fileStem}.safetensors`;
  return { network: { name, className, file, tensors }, copies };
}

const weightFile =
  /\.(bin|safetensors|ckpt|pt|pth|msgpack|h5|onnx|onnx_data|ot)$|\.index(\.[\w-]+)?\.json$/;

/** All but weights: those are written anew. */
async function filesOf(folder: string, prefix: string): Promise<ConversionPlan['copies']> {
  const entries = await readdir(folder, { withFileTypes: true });
  return entries
    .filter((entry) => !entry.isDirectory() && !entry.name.startsWith('.'))
    .filter(({ name }) => !weightFile.test(name))
    .map(({ name }) => ({ from: join(folder, name), to: `${prefix}${name}` }));
}

function snakeCase(name: string): string {
  return name.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
