// Runs torchbrush on the cases that diffusers ran.
import {
  Generator,
  type Image,
  StableDiffusionImg2ImgPipeline,
  StableDiffusionPipeline,
  type StepCallback,
  schedulerClass,
  Tensor,
} from '../../lib/index.js';
import type { CaseImage, ParityCase, TensorFile } from './case.js';
import { readTensorFile } from './workspace.js';

export interface TorchbrushResult {
  seconds: number;
  timesteps: number[];
  /** Latents after each step. */
  steps: Float32Array[];
  /** Pixels [B,3,H,W] in 0..1, or undefined where only latents were asked for. */
  picture: Float32Array | undefined;
  shape: readonly number[];
}

type Pipeline = StableDiffusionPipeline | StableDiffusionImg2ImgPipeline;

/** Keeps the pipelines of one checkpoint at a time, and the latents that later cases start from. */
export class TorchbrushRunner {
  #key = '';
  #pipelines = new Map<string, Pipeline>();
  #latents = new Map<string, Tensor>();

  async run(one: ParityCase): Promise<TorchbrushResult> {
    const pipe = await this.#pipeline(one);
    const own = pipe.scheduler;
    const inputs: Tensor[] = [];
    const read = async (file: TensorFile) => {
      const tensor = Tensor.fromArray(await readTensorFile(file), file.shape);
      inputs.push(tensor);
      return tensor;
    };
    const steps: Promise<Float32Array>[] = [];
    const timesteps: number[] = [];
    const onStep: StepCallback = ({ latents, timestep }) => {
      timesteps.push(timestep);
      steps.push(latents.toFloat32Array());
    };
    try {
      if (one.scheduler !== undefined) {
        const { class: name, config = {} } = one.scheduler;
        pipe.scheduler = schedulerClass(name).fromConfig(own.config, config);
      }
      const options: Record<string, unknown> = { ...one.options, ...seeding(one), onStep };
      for (const [name, file] of Object.entries(one.tensors ?? {}))
        options[name] = await read(file);
      if (one.image !== undefined) options.image = await this.#image(one.image, read);
      options.outputType = one.output ?? 'tensor';
      const start = performance.now();
      const { images } = await (pipe as StableDiffusionPipeline).generate(options as never);
      const seconds = (performance.now() - start) / 1000;
      const output = await this.#output(one, images as Tensor | Image[]);
      return { seconds, timesteps, steps: await Promise.all(steps), ...output };
    } finally {
      pipe.scheduler = own;
      for (const tensor of inputs) tensor.dispose();
    }
  }

  async #pipeline({ checkpoint, variant, pipeline }: ParityCase): Promise<Pipeline> {
    const key = `${checkpoint} ${variant}`;
    if (key !== this.#key) this.#disposePipelines();
    this.#key = key;
    const known = this.#pipelines.get(pipeline);
    if (known !== undefined) return known;
    const [first] = this.#pipelines.values();
    const fresh = await load(pipeline, checkpoint, variant, first);
    this.#pipelines.set(pipeline, fresh);
    return fresh;
  }

  async #image(
    image: CaseImage,
    read: (file: TensorFile) => Promise<Tensor>,
  ): Promise<string | string[] | Tensor | undefined> {
    if ('files' in image) return image.files.length === 1 ? image.files[0] : image.files;
    if ('tensor' in image) return read(image.tensor);
    return this.#latents.get(image.latentsOf);
  }

  async #output(
    one: ParityCase,
    images: Tensor | Image[],
  ): Promise<{ picture: Float32Array | undefined; shape: readonly number[] }> {
    if (!(images instanceof Tensor)) return planes(images);
    const { shape } = images;
    if (one.output === 'latent') {
      this.#latents.set(one.name, images);
      return { picture: undefined, shape };
    }
    const picture = await images.toFloat32Array();
    images.dispose();
    return { picture, shape };
  }

  #disposePipelines(): void {
    for (const pipe of this.#pipelines.values()) pipe.dispose();
    this.#pipelines.clear();
  }

  dispose(): void {
    this.#disposePipelines();
    for (const latents of this.#latents.values()) latents.dispose();
    this.#latents.clear();
  }
}

function load(
  name: ParityCase['pipeline'],
  checkpoint: string,
  variant: string | undefined,
  shared: Pipeline | undefined,
): Promise<Pipeline> {
  const pipelines = { StableDiffusionPipeline, StableDiffusionImg2ImgPipeline };
  if (shared !== undefined) return pipelines[name].fromPipe(shared);
  const placement = { dtype: 'float32', device: 'cpu' } as const;
  return pipelines[name].fromPretrained(checkpoint, { ...placement, ...(variant && { variant }) });
}

function seeding({ seeds }: ParityCase): { seed?: number; generator?: Generator[] } {
  if (seeds === undefined) return {};
  if (typeof seeds === 'number') return { seed: seeds };
  return { generator: seeds.map((seed) => new Generator().manualSeed(seed)) };
}

/** Pictures as one array [B,3,H,W] in 0..1. */
function planes(images: Image[]): { picture: Float32Array; shape: number[] } {
  const [{ width, height }] = images as [Image];
  const pixels = width * height;
  const picture = new Float32Array(images.length * 3 * pixels);
  for (const [index, image] of images.entries()) {
    for (const [at, value] of image.data.entries()) {
      picture[(index * 3 + (at % 3)) * pixels + Math.floor(at / 3)] = value / 255;
    }
  }
  return { picture, shape: [images.length, 3, height, width] };
}
