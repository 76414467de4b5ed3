// What the pipelines with ControlNets have in common: the part, the options and the control pictures.
import { existsSync } from 'node:fs';
import { requireComponent } from '../checkpoints/folder.js';
import { familyDefaults } from '../defaults.js';
import { expected, InvalidArgumentError } from '../errors.js';
import { defaultPixelLimit } from '../images/image.js';
import { canonicalArchitecture } from '../networks/architecture.js';
import type { Autoencoder } from '../networks/autoencoder.js';
import { ControlNetModel } from '../networks/controlnet.js';
import type { LoadNetworkOptions } from '../networks/load-entries.js';
import type { UNet } from '../networks/unet.js';
import { repeatInterleave } from '../ops.js';
import { checkBoolean, checkInteger, checkNumber } from '../options.js';
import type { SchedulerRun } from '../schedulers/scheduler.js';
import type { Tensor } from '../tensor.js';
import type { ComponentKind, ComponentSlot } from './components.js';
import { ControlGuide, type ControlPart, type ControlRequest } from './controlnet-guide.js';
import type { Size } from './first-noise.js';
import type { GenerationRequest } from './generation.js';
import { type InitImage, type PreparedImage, readImages } from './init-image.js';

/** One ControlNet, or several whose residuals are added up. */
export type ControlNets = ControlNetModel | readonly ControlNetModel[];

/** What ControlNet pipelines have besides. */
export interface ControlNetComponents {
  /** One ControlNet, or several whose outputs add up. */
  controlnet: ControlNets;
}

const controlNetKind: ComponentKind<ControlNets> = {
  what: 'a ControlNetModel or an array of them',
  hint: 'Load one with ControlNetModel.fromPretrained(folder).',
  is: (value): value is ControlNets =>
    value instanceof ControlNetModel ||
    (Array.isArray(value) &&
      value.length > 0 &&
      value.every((item) => item instanceof ControlNetModel)),
  load: async ({ checkpoint, name, ...options }) => {
    const classes = ['ControlNetModel', 'MultiControlNetModel'];
    const { folder, className } = requireComponent(checkpoint, name, classes);
    return className === 'ControlNetModel'
      ? await ControlNetModel.load(folder, options)
      : await loadNets(folder, options);
  },
};

export const controlNetSlot: ComponentSlot<ControlNets> = {
  name: 'controlnet',
  kind: controlNetKind,
};

/** `controlnet`, `controlnet_1`, `controlnet_2` … side by side, as diffusers saves several. */
async function loadNets(folder: string, options: LoadNetworkOptions): Promise<ControlNetModel[]> {
  const nets: ControlNetModel[] = [];
  try {
    for (let path = folder; existsSync(path); path = `${folder}_${nets.length}`) {
      nets.push(await ControlNetModel.load(path, options));
    }
    return nets;
  } catch (error) {
    for (const net of nets) net.dispose();
    throw error;
  }
}

/** Why the ControlNets cannot steer this UNet, in words; undefined where they can. */
export function misfitOfControl(
  components: ControlNetComponents & { unet: UNet; vae: Autoencoder },
): string | undefined {
  const { unet, vae } = components;
  const theirs = canonicalArchitecture(unet.network.className, unet.network.config).config;
  for (const net of netsOf(components)) {
    const own = canonicalArchitecture(net.network.className, net.network.config).config;
    for (const field of [
      'in_channels',
      'block_out_channels',
      'layers_per_block',
      'cross_attention_dim',
    ]) {
      const [wanted, found] = [theirs[field], own[field]].map((value) => JSON.stringify(value));
      if (wanted === found) continue;
      return `the unet has ${field} ${wanted} and the controlnet ${found}: it is made for another kind of checkpoint`;
    }
    if (net.conditioningChannels !== 3) {
      return `the controlnet takes pictures of ${net.conditioningChannels} channels, not 3`;
    }
    if (net.scaleFactor !== vae.scaleFactor) {
      return `the controlnet shrinks pictures by ${net.scaleFactor} and the vae by ${vae.scaleFactor}`;
    }
  }
  return undefined;
}

function netsOf({ controlnet }: ControlNetComponents): readonly ControlNetModel[] {
  return [controlnet].flat();
}

/**
 * For one ControlNet a picture, or one per prompt. For several an array with a picture (or a Tensor
 * of a picture per prompt) for each of them, or such an array for each prompt.
 */
export type ControlImages = InitImage | readonly InitImage[] | readonly (readonly InitImage[])[];

/** Options of all pipelines with ControlNets. Arrays have a number for each ControlNet. */
export interface ControlNetOptions extends Partial<Size> {
  /** How much of what the ControlNet says is added; 1 in text-to-image, 0.8 in image-to-image. */
  controlnetConditioningScale?: number | readonly number[];
  /** Lets the ControlNet guess without a prompt; false. Works best with guidanceScale 3 to 5. */
  guessMode?: boolean;
  /** Share of the steps, 0 to 1, from which the ControlNet counts; 0. */
  controlGuidanceStart?: number | readonly number[];
  /** Share of the steps, 0 to 1, up to which the ControlNet counts; 1. */
  controlGuidanceEnd?: number | readonly number[];
  /** Pixels, rounded down to a multiple of 8; the control picture's unless given. */
  height?: number;
  /** Pixels; as `height`. */
  width?: number;
}

const controlNetOptionNames = [
  'controlnetConditioningScale',
  'guessMode',
  'controlGuidanceStart',
  'controlGuidanceEnd',
  'height',
  'width',
];

/** What text-to-image with ControlNets takes besides, in every family. */
export interface ControlledTextToImage extends ControlNetOptions {
  /** What the ControlNets follow, such as edges; sets the size unless height and width do. */
  image: ControlImages;
  /** Noise [B,C,height/8,width/8] to start from, of standard deviation 1. Not disposed. */
  latents?: Tensor;
}

export const controlledTextToImage = {
  optionNames: [...controlNetOptionNames, 'image', 'latents'],
  defaultScale: familyDefaults.controlledTextToImage.controlnetConditioningScale,
} as const;

/** What image-to-image with ControlNets takes besides, in every family. */
export interface ControlledImageToImage extends ControlNetOptions {
  /** The picture to start from, as in image-to-image without ControlNets. */
  image: InitImage | readonly InitImage[];
  /** What the ControlNets follow, such as edges; of the same size as `image` unless both are resized. */
  controlImage: ControlImages;
  /** Share of the schedule that runs, 0 to 1: how much of the picture is redrawn; 0.8. */
  strength?: number;
  /** Latents [B,C,h,w] to denoise as they are, instead of the image's with noise. Not disposed. */
  latents?: Tensor;
}

export const controlledImageToImage = {
  optionNames: [...controlNetOptionNames, 'image', 'controlImage', 'strength', 'latents'],
  defaultScale: familyDefaults.controlledImageToImage.controlnetConditioningScale,
} as const;

/** @throws InvalidArgumentError before any network runs */
export function checkControl(
  components: ControlNetComponents,
  options: ControlNetOptions,
  defaultScale: number,
): ControlRequest {
  const nets = netsOf(components);
  const isSeveral = Array.isArray(components.controlnet);
  const each = (value: unknown, name: string, limits?: { min: number; max: number }) => {
    if (!Array.isArray(value)) {
      const number = checkNumber(value, name, limits);
      return nets.map(() => number);
    }
    // As in diffusers, the scale of a single net is no array.
    if (value.length === nets.length && (isSeveral || name !== scaleName)) {
      return value.map((item) => checkNumber(item, name, limits));
    }
    const wanted = isSeveral ? `${nets.length} numbers, one per ControlNet,` : 'one number';
    throw expected(wanted, name, value);
  };
  const scales = each(options.controlnetConditioningScale ?? defaultScale, scaleName);
  const share = { min: 0, max: 1 };
  const starts = each(options.controlGuidanceStart ?? 0, 'controlGuidanceStart', share);
  const ends = each(options.controlGuidanceEnd ?? 1, 'controlGuidanceEnd', share);
  const parts = nets.map((net, index): ControlPart => {
    const [start, end] = [starts[index] as number, ends[index] as number];
    if (start < end) return { net, scale: scales[index] as number, start, end };
    throw new InvalidArgumentError(
      `Expected controlGuidanceStart (${start}) to be less than controlGuidanceEnd (${end}).`,
    );
  });
  for (const side of ['height', 'width'] as const) {
    if (options[side] !== undefined) checkInteger(options[side], side, 1);
  }
  const { height = 1, width = 1 } = options;
  if (height * width > defaultPixelLimit) {
    throw expected(`at most ${defaultPixelLimit} pixels`, 'height and width', height * width);
  }
  const { guessMode = false } = options;
  checkBoolean(guessMode, 'guessMode');
  return { parts, guessMode: guessMode || nets[0]?.globalPoolConditions === true };
}

const scaleName = 'controlnetConditioningScale';

interface ControlSource {
  images: ControlImages;
  /** The option's name. */
  name: string;
  size: Partial<Size>;
  control: ControlRequest;
  request: GenerationRequest & { prompt: { guided: boolean; numImagesPerPrompt: number } };
  run: SchedulerRun;
}

/** The guide, and the size in pixels of its pictures. Dispose the guide. */
export interface ReadControl extends Size {
  guide: ControlGuide;
}

/** @throws InvalidArgumentError, ImageError */
export async function readControl(
  components: ControlNetComponents & { vae: Autoencoder },
  { images, name, size, control, request, run }: ControlSource,
): Promise<ReadControl> {
  const { batch, signal, prompt } = request;
  const prompts = batch / prompt.numImagesPerPrompt;
  const groups = groupImages(components.controlnet, images, name);
  const pictures: Tensor[] = [];
  const sizes: Size[] = [];
  try {
    for (const [index, { net }] of control.parts.entries()) {
      const { height, width } = size;
      const sizing = { height, width, normalize: false, name };
      using prepared = await readImages(groups[index] ?? [], components.vae, signal, sizing);
      const { tensor } = prepared;
      const [count = 0, , rows = 0, columns = 0] = tensor.shape;
      if (prepared.kind !== 'pixels') throw expected('pixels (3 channels)', name, 'latents');
      if (count !== 1 && count !== prompts) {
        throw expected(`one picture or ${prompts}, one per prompt,`, name, count);
      }
      using placed = tensor.to({ dtype: net.network.dtype, device: net.network.device });
      pictures.push(repeatInterleave(placed, batch / (count === 1 ? 1 : prompts)));
      sizes.push({ height: rows, width: columns });
    }
    const [first = { height: 0, width: 0 }] = sizes;
    for (const other of sizes) checkSameSize([name, first], [name, other]);
    const guide = new ControlGuide(control, pictures, run.timesteps.length, prompt.guided);
    return { guide, ...first };
  } catch (error) {
    for (const picture of pictures) picture.dispose();
    throw error;
  }
}

/** The pictures for each net. */
function groupImages(controlnet: ControlNets, images: ControlImages, name: string): InitImage[][] {
  if (!Array.isArray(controlnet)) return [[images].flat() as InitImage[]];
  const count = controlnet.length;
  const isForEach = (list: unknown): list is readonly unknown[] =>
    Array.isArray(list) && list.length === count;
  const lists = Array.isArray(images) && images.some(Array.isArray) ? images : [images];
  if (!lists.every(isForEach)) {
    throw expected(`an array of ${count} pictures, one per ControlNet,`, name, images);
  }
  return controlnet.map((_, index) => lists.map((list) => list[index] as InitImage));
}

/**
 * diffusers fails where the networks' tensors meet.
 *
 * @throws InvalidArgumentError that names both sizes
 */
function checkSameSize([a, first]: [string, Size], [b, second]: [string, Size]): void {
  if (first.height === second.height && first.width === second.width) return;
  throw new InvalidArgumentError(
    `Expected pictures of one size but ${a} is ${first.width}×${first.height} and ${b} ` +
      `${second.width}×${second.height} pixels. Resize one, or give height and width.`,
  );
}

/** Init image and control picture. @throws InvalidArgumentError that names both sizes */
export function checkInitSize(
  { kind, tensor }: PreparedImage,
  control: Size,
  { scaleFactor }: Autoencoder,
): void {
  const factor = kind === 'latents' ? scaleFactor : 1;
  const [, , rows = 0, columns = 0] = tensor.shape;
  const size = { height: rows * factor, width: columns * factor };
  checkSameSize(['image', size], ['controlImage', control]);
}
