// From the flags to a loaded pipeline: checkpoint, parts, adapters and scheduler.
import { existsSync } from 'node:fs';
import { join } from 'node:path';

import { resolveCheckpoint } from '../checkpoints/hub.js';
import { readJsonObject } from '../checkpoints/json.js';
import { openSingleFile } from '../checkpoints/single-file.js';
import { CheckpointError } from '../errors.js';
import { configure } from '../native.js';
import { Autoencoder } from '../networks/autoencoder.js';
import { AutoencoderTiny } from '../networks/autoencoder-tiny.js';
import { ControlNetModel } from '../networks/controlnet.js';
import { Network } from '../networks/network.js';
import { resolvePlacement } from '../options.js';
import { AutoPipelineForImage2Image, AutoPipelineForText2Image } from '../pipelines/auto.js';
import type { ImageToImagePipeline, TextToImagePipeline } from '../pipelines/auto-classes.js';
import type { LoadProgress } from '../pipelines/components.js';
import type { DiffusionPipeline } from '../pipelines/pipeline.js';
import { StableDiffusionPipeline } from '../pipelines/stable-diffusion-text2img.js';
import { StableDiffusionXLImg2ImgPipeline } from '../pipelines/stable-diffusion-xl-img2img.js';
import { StableDiffusionXLPipeline } from '../pipelines/stable-diffusion-xl-text2img.js';
import { schedulerClass } from '../schedulers/index.js';
import type { DrawFlags, GenerateFlags, ModelFlags } from './flags.js';
import { signal } from './interrupt.js';
import { byteCount, Progress } from './progress.js';

/** Shows files that come from the hub, then the parts that are loaded. */
export class LoadingProgress {
  readonly #quiet: boolean;
  #downloading: Progress | undefined;
  #loading: Progress | undefined;

  constructor(quiet = false) {
    this.#quiet = quiet;
  }

  readonly report = (progress: LoadProgress): void => {
    const quiet = this.#quiet;
    if (progress.status === 'downloading') {
      this.#downloading ??= new Progress('downloading', {
        quiet,
        amount: byteCount,
        rate: (perSecond) => `${byteCount(perSecond)}/s`,
      });
      const { bytes, size, repository } = progress;
      this.#downloading.update(bytes, size, repository);
      return;
    }
    this.#downloading?.stop();
    this.#downloading = undefined;
    this.#loading ??= new Progress('loading', { quiet, rate: () => '' });
    this.#loading.update(progress.done, progress.count, progress.component);
  };

  stop(): void {
    this.#downloading?.stop();
    this.#loading?.stop();
  }
}

type Access = ReturnType<typeof accessOf>;

export function accessOf(flags: ModelFlags, loading: LoadingProgress) {
  const { offline, revision } = flags;
  return { localFilesOnly: offline, revision, signal, onProgress: loading.report };
}

function isSingleFile(model: string): boolean {
  return /\.(safetensors|ckpt)$/i.test(model);
}

/** The pipeline that the flags describe; the caller disposes it. */
export async function loadGenerator<Task extends 'textToImage' | 'imageToImage'>(
  task: Task,
  flags: GenerateFlags,
): Promise<Task extends 'textToImage' ? TextToImagePipeline : ImageToImagePipeline> {
  if (flags.threads !== undefined) configure({ threads: flags.threads });
  const loading = new LoadingProgress(flags.quiet);
  const access = accessOf(flags, loading);
  const { dtype, device, variant } = flags;
  const options = { dtype, device, variant, ...access };
  const Auto = task === 'textToImage' ? AutoPipelineForText2Image : AutoPipelineForImage2Image;
  const held: { dispose(): void }[] = [];
  let pipe: DiffusionPipeline | undefined;
  try {
    const parts = {
      controlnet: await loadControlNets(flags, access, held),
      vae: flags.vae === undefined ? undefined : await loadAutoencoder(flags.vae, flags, access),
      prior: flags.prior,
      safetyChecker: flags.safetyChecker ? undefined : null,
    };
    if (parts.vae !== undefined) held.push(parts.vae.network);
    pipe = isSingleFile(flags.model)
      ? await fromSingleFile(Auto, flags, { ...options, vae: parts.vae }, parts.controlnet)
      : await Auto.fromPretrained(flags.model, { ...options, ...parts });
    await addAdapters(pipe, flags, access);
    chooseScheduler(pipe, flags);
    return pipe as Awaited<ReturnType<typeof loadGenerator<Task>>>;
  } catch (error) {
    pipe?.dispose();
    throw error;
  } finally {
    // The pipeline holds its parts itself.
    for (const part of held) part.dispose();
    loading.stop();
  }
}

interface SingleFileLoader {
  fromSingleFile(path: string, options: object): Promise<DiffusionPipeline>;
}

/** By what the file holds; then with the class for the task at hand. */
async function fromSingleFile(
  Auto: typeof AutoPipelineForText2Image | typeof AutoPipelineForImage2Image,
  { model, config }: GenerateFlags,
  options: object,
  controlnet: ControlNetModel | ControlNetModel[] | undefined,
): Promise<DiffusionPipeline> {
  const { className } = await openSingleFile(model, { config, access: options as Access });
  const classes: Record<string, SingleFileLoader> = {
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    StableDiffusionXLImg2ImgPipeline,
  };
  const Class = Object.hasOwn(classes, className) ? classes[className] : undefined;
  if (Class === undefined) {
    throw new CheckpointError(
      `${model} holds one network, a ${className}, and no pipeline. A ControlNet goes into --controlnet.`,
    );
  }
  using pipe = await Class.fromSingleFile(model, { config, ...options });
  return await Auto.fromPipe(pipe, { controlnet });
}

async function loadControlNets(
  { controlnet: paths = [], dtype, device, variant }: GenerateFlags,
  access: Access,
  held: { dispose(): void }[],
): Promise<ControlNetModel | ControlNetModel[] | undefined> {
  const nets: ControlNetModel[] = [];
  for (const path of paths) {
    // A revision is that of the checkpoint.
    const { revision: _, ...rest } = access;
    const net = isSingleFile(path)
      ? await ControlNetModel.fromSingleFile(path, { dtype, device, ...rest })
      : await ControlNetModel.fromPretrained(path, { dtype, device, variant, ...rest });
    nets.push(net);
    held.push(net);
  }
  return nets.length > 1 ? nets : nets[0];
}

async function loadAutoencoder(
  path: string,
  { dtype, device, variant }: GenerateFlags,
  { revision: _, ...access }: Access,
): Promise<Autoencoder> {
  const { folder, snapshot } = await resolveCheckpoint(path, access);
  const part = { folder: '', className: 'AutoencoderKL' };
  await snapshot?.fetchParts([part], { variant, weights: true });
  // Of a whole checkpoint its autoencoder is meant.
  const own = existsSync(join(folder, 'model_index.json')) ? join(folder, 'vae') : folder;
  const { _class_name: named } = await readJsonObject(join(own, 'config.json'));
  const className = named === 'AutoencoderTiny' ? named : 'AutoencoderKL';
  const network = await Network.load(own, className, {
    ...resolvePlacement({ dtype, device }),
    variant,
  });
  return className === 'AutoencoderTiny' ? new AutoencoderTiny(network) : new Autoencoder(network);
}

async function addAdapters(
  pipe: DiffusionPipeline,
  { lora = [], textualInversion = [] }: GenerateFlags,
  { revision: _, ...access }: Access,
): Promise<void> {
  const names = lora.map((_, i) => `lora_${i}`);
  for (const [i, { path }] of lora.entries()) {
    await pipe.loadLoraWeights(path, { adapterName: names[i] as string, ...access });
  }
  if (lora.length > 0) {
    await pipe.setAdapters(
      names,
      lora.map(({ scale }) => scale),
    );
  }
  for (const { path, token } of textualInversion) {
    await pipe.loadTextualInversion(path, { ...(token !== undefined && { token }), ...access });
  }
}

export function chooseScheduler(
  pipe: DiffusionPipeline,
  { scheduler, schedulerConfig }: DrawFlags,
): void {
  if (scheduler === undefined && schedulerConfig === undefined) return;
  const { config, className } = pipe.scheduler;
  pipe.scheduler = schedulerClass(scheduler ?? className).fromConfig(config, schedulerConfig);
}
