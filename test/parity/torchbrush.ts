// Runs torchbrush on the cases that diffusers ran.
import {
  AutoencoderTiny,
  ControlNetModel,
  type ControlNets,
  type DiffusionPipeline,
  Generator,
  type Image,
  type StepCallback,
  schedulerClass,
  Tensor,
} from '../../lib/index.js';
import {
  type CaseImage,
  controlOption,
  type ParityCase,
  pipelines,
  type TensorFile,
} from './case.js';
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

/** Any pipeline, with options that only the cases know. */
type Pipeline = DiffusionPipeline & {
  generate(options: Record<string, unknown>): Promise<{ images: Tensor | Image[] }>;
};

type PipelineClass = {
  fromPretrained(path: string, options: object): Promise<Pipeline>;
  fromPipe(pipe: Pipeline, parts: object): Promise<Pipeline>;
};

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
      if (one.controlImage !== undefined) {
        const images = [one.controlImage].flat().map((image) => this.#image(image, read));
        const list = await Promise.all(images);
        options[controlOption(one)] = Array.isArray(one.controlImage) ? list : list[0];
      }
      options.outputType = one.output ?? 'tensor';
      const start = performance.now();
      const { images } = await pipe.generate(options);
      const seconds = (performance.now() - start) / 1000;
      const output = await this.#output(one, images);
      return { seconds, timesteps, steps: await Promise.all(steps), ...output };
    } finally {
      pipe.scheduler = own;
      for (const tensor of inputs) tensor.dispose();
    }
  }

  async #pipeline(one: ParityCase): Promise<Pipeline> {
    const { checkpoint, variant, pipeline, controlnet, vae } = one;
    const key = `${checkpoint} ${variant} ${vae}`;
    if (key !== this.#key) this.#disposePipelines();
    this.#key = key;
    const name = `${pipeline} ${controlnet}`;
    const known = this.#pipelines.get(name);
    if (known !== undefined) return known;
    const [first] = this.#pipelines.values();
    const fresh = await load(one, first);
    this.#pipelines.set(name, fresh);
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

const placement = { dtype: 'float32', device: 'cpu' } as const;

async function load(one: ParityCase, shared: Pipeline | undefined): Promise<Pipeline> {
  const { pipeline, checkpoint, variant } = one;
  const Class = pipelines[pipeline] as unknown as PipelineClass;
  const options = { ...placement, ...(variant && { variant }) };
  const nets = await Promise.all(
    [one.controlnet ?? []].flat().map((path) => ControlNetModel.fromPretrained(path, options)),
  );
  const vae = one.vae === undefined ? undefined : await AutoencoderTiny.load(one.vae, placement);
  try {
    const controlnet: ControlNets | undefined = Array.isArray(one.controlnet) ? nets : nets[0];
    const parts = { ...(controlnet && { controlnet }), ...(vae && { vae }) };
    if (shared !== undefined) return await Class.fromPipe(shared, parts);
    return await Class.fromPretrained(checkpoint, { ...options, ...parts });
  } finally {
    for (const net of nets) net.dispose();
    vae?.network.dispose();
  }
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
