// Runs torchbrush on the cases of Kandinsky 2.2 that diffusers ran.
import {
  DDIMScheduler,
  DDPMScheduler,
  type DiffusionPipeline,
  Generator,
  type KandinskyEmbeddings,
  KandinskyV22CombinedPipeline,
  KandinskyV22Img2ImgCombinedPipeline,
  KandinskyV22Img2ImgPipeline,
  KandinskyV22Pipeline,
  KandinskyV22PriorPipeline,
  loadImage,
  type StepCallback,
  Tensor,
} from '../../lib/index.js';
import type { TensorFile } from './case.js';
import type { Ingredient, KandinskyCase } from './kandinsky-cases.js';
import { readTensorFile } from './workspace.js';

const classes = {
  KandinskyV22PriorPipeline,
  KandinskyV22Pipeline,
  KandinskyV22Img2ImgPipeline,
  KandinskyV22CombinedPipeline,
  KandinskyV22Img2ImgCombinedPipeline,
};
const schedulers = { DDPMScheduler, DDIMScheduler };

type Pipeline = InstanceType<(typeof classes)[keyof typeof classes]>;
/** The folders of each checkpoint. */
export type KandinskyCheckpoints = Record<string, { prior: string; decoder: string }>;

export interface KandinskyResult {
  tensors: Record<string, Float32Array>;
  shapes: Record<string, readonly number[]>;
}

/** Keeps the pipelines; those of a checkpoint share what they can. */
export class KandinskyRunner {
  readonly #checkpoints: KandinskyCheckpoints;
  readonly #pipelines = new Map<string, Pipeline>();

  constructor(checkpoints: KandinskyCheckpoints) {
    this.#checkpoints = checkpoints;
  }

  async run(one: KandinskyCase): Promise<KandinskyResult> {
    const pipe = await this.#pipeline(one);
    const own = pipe.scheduler;
    const inputs: Tensor[] = [];
    const steps: Promise<Float32Array>[] = [];
    const onStep: StepCallback = ({ latents }) => {
      steps.push(latents.toFloat32Array());
    };
    try {
      if (one.scheduler !== undefined) {
        const { class: name, config = {} } = one.scheduler;
        pipe.scheduler = schedulers[name].fromConfig(own.config, config);
      }
      const options = await optionsOf(one, inputs);
      if (pipe instanceof KandinskyV22PriorPipeline) {
        const isMixture = one.pipeline === 'interpolate';
        const made = isMixture
          ? pipe.interpolate(options as never)
          : pipe.generate(options as never);
        return await readEmbeddings(await made);
      }
      const { images } = await (pipe as KandinskyV22Pipeline).generate({
        ...options,
        onStep,
        outputType: 'tensor',
      } as never);
      using picture = images as unknown as Tensor;
      const latents = (await Promise.all(steps)).flatMap((step) => Array.from(step));
      return {
        tensors: { picture: await picture.toFloat32Array(), steps: Float32Array.from(latents) },
        shapes: { picture: picture.shape },
      };
    } finally {
      pipe.scheduler = own;
      for (const tensor of inputs) tensor.dispose();
    }
  }

  async #pipeline({ checkpoint, pipeline }: KandinskyCase): Promise<Pipeline> {
    const name = pipeline === 'interpolate' ? 'KandinskyV22PriorPipeline' : pipeline;
    const key = `${checkpoint} ${name}`;
    const known = this.#pipelines.get(key);
    if (known !== undefined) return known;
    const folders = this.#checkpoints[checkpoint];
    if (folders === undefined) throw new Error(`there is no checkpoint "${checkpoint}"`);
    const { prior, decoder } = folders;
    const placement = { dtype: 'float32', device: 'cpu' } as const;
    const Class = classes[name];
    const similar = [...this.#pipelines].find(
      ([other, pipe]) => other.startsWith(`${checkpoint} `) && 'movq' in pipe.components,
    )?.[1] as DiffusionPipeline | undefined;
    const fromPrior = Class === KandinskyV22PriorPipeline;
    const canShare =
      similar !== undefined &&
      !fromPrior &&
      (!name.includes('Combined') || 'priorPrior' in similar.components);
    const load = Class as unknown as typeof KandinskyV22Pipeline;
    const fresh = canShare
      ? await load.fromPipe(similar)
      : await load.fromPretrained(fromPrior ? prior : decoder, placement);
    this.#pipelines.set(key, fresh);
    return fresh;
  }

  dispose(): void {
    for (const pipe of this.#pipelines.values()) pipe.dispose();
    this.#pipelines.clear();
  }
}

async function optionsOf(one: KandinskyCase, inputs: Tensor[]): Promise<Record<string, unknown>> {
  const read = async (file: TensorFile) => {
    const tensor = Tensor.fromArray(await readTensorFile(file), file.shape);
    inputs.push(tensor);
    return tensor;
  };
  const options: Record<string, unknown> = { ...one.options };
  for (const [name, file] of Object.entries(one.tensors ?? {})) options[name] = await read(file);
  if (one.images !== undefined) options.image = one.images;
  if (one.ingredients !== undefined) {
    const ingredient = (item: Ingredient) => {
      if ('text' in item) return item.text;
      return 'file' in item ? loadImage(item.file) : read(item.tensor);
    };
    options.imagesAndPrompts = await Promise.all(one.ingredients.map(ingredient));
  }
  const { seeds } = one;
  if (typeof seeds === 'number') options.seed = seeds;
  else options.generator = seeds?.map((seed) => new Generator().manualSeed(seed));
  return options;
}

async function readEmbeddings({
  imageEmbeds,
  negativeImageEmbeds,
}: KandinskyEmbeddings): Promise<KandinskyResult> {
  using positive = imageEmbeds;
  using negative = negativeImageEmbeds;
  return {
    tensors: {
      imageEmbeds: await positive.toFloat32Array(),
      negativeImageEmbeds: await negative.toFloat32Array(),
    },
    shapes: { imageEmbeds: positive.shape, negativeImageEmbeds: negative.shape },
  };
}
