// Pictures as CLIP's vision models take them, with the arithmetic of transformers' CLIPImageProcessor.
import { join } from 'node:path';

import { type JsonObject, readJsonObject } from '../checkpoints/json.js';
import { CheckpointError, expected, InvalidArgumentError } from '../errors.js';
import type { Image } from './image.js';
import type { PreprocessedImages } from './preprocess.js';
import type { ResizeFilter } from './resample.js';

/** What a `preprocessor_config.json` says. */
export interface ClipPreprocessor {
  /** The new length of the shorter side, or both; undefined leaves pictures as they are. */
  resize: { shortestEdge: number } | { height: number; width: number } | undefined;
  /** How pictures are resized. */
  filter: ResizeFilter;
  /** What is cut out of the middle; black where the picture is smaller. */
  crop: { height: number; width: number } | undefined;
  /** Bytes are multiplied by it. */
  rescaleFactor: number;
  /** Per channel: subtracted, then divided by. Undefined leaves the values as they are. */
  normalize: { mean: readonly number[]; std: readonly number[] } | undefined;
}

/** CLIP's own, which most checkpoints have. */
export const clipPreprocessor: ClipPreprocessor = {
  resize: { shortestEdge: 224 },
  filter: 'bicubic',
  crop: { height: 224, width: 224 },
  rescaleFactor: 1 / 255,
  normalize: {
    mean: [0.48145466, 0.4578275, 0.40821073],
    std: [0.26862954, 0.26130258, 0.27577711],
  },
};

/** Whether a value is what {@link readPreprocessor} gives. */
export function isPreprocessor(value: unknown): value is ClipPreprocessor {
  const { filter, rescaleFactor } = (value ?? {}) as Partial<ClipPreprocessor>;
  return typeof rescaleFactor === 'number' && filters.includes(filter as ResizeFilter);
}

// In the order of Pillow's numbers.
const filters: readonly ResizeFilter[] = [
  'nearest',
  'lanczos',
  'bilinear',
  'bicubic',
  'box',
  'hamming',
];

/**
 * Reads the `preprocessor_config.json` of a `feature_extractor` or `image_processor` folder, in the
 * forms of all releases. What it leaves out is as in CLIP.
 *
 * @throws CheckpointError (ERR_CHECKPOINT) that names the file and the field
 */
export async function readPreprocessor(folder: string): Promise<ClipPreprocessor> {
  const path = join(folder, 'preprocessor_config.json');
  const config = await readJsonObject(path);
  const read = new Fields(path, config);
  const named = config.image_processor_type ?? config.feature_extractor_type;
  if (named !== undefined && !/^CLIP(FeatureExtractor|ImageProcessor)/.test(String(named))) {
    throw read.fault('a CLIPImageProcessor', 'image_processor_type', named);
  }
  const { mean, std } = clipPreprocessor.normalize as { mean: number[]; std: number[] };
  return {
    resize: read.flag('do_resize') ? read.size() : undefined,
    filter: read.filter(),
    crop: read.flag('do_center_crop') ? read.cropSize() : undefined,
    rescaleFactor: read.flag('do_rescale') ? read.rescaleFactor() : 1,
    normalize: read.flag('do_normalize')
      ? {
          mean: read.perChannel('image_mean', mean, Number.isFinite),
          std: read.perChannel('image_std', std, (value) => Number.isFinite(value) && value > 0),
        }
      : undefined,
  };
}

/** The fields of one file. */
class Fields {
  readonly #path: string;
  readonly #config: JsonObject;

  constructor(path: string, config: JsonObject) {
    this.#path = path;
    this.#config = config;
  }

  flag(name: string): boolean {
    const value = this.#config[name] ?? true;
    if (typeof value !== 'boolean') throw this.fault('true or false', name, value);
    return value;
  }

  /** One number for the shorter side, `{ shortest_edge }`, `{ height, width }` or `[height, width]`. */
  size(): ClipPreprocessor['resize'] {
    const value = this.#config.size ?? 224;
    const shortestEdge = isObject(value) ? value.shortest_edge : value;
    if (isLength(shortestEdge) && !(isObject(value) && value.longest_edge != null)) {
      return { shortestEdge };
    }
    return this.#heightAndWidth('size', value);
  }

  /** One number for both sides, `{ height, width }` or `[height, width]`. */
  cropSize(): { height: number; width: number } {
    const value = this.#config.crop_size ?? 224;
    if (isLength(value)) return { height: value, width: value };
    return this.#heightAndWidth('crop_size', value);
  }

  filter(): ResizeFilter {
    const value = this.#config.resample ?? 3;
    const filter = typeof value === 'number' ? filters[value] : undefined;
    if (filter === undefined)
      throw this.fault("one of Pillow's filters, 0 to 5,", 'resample', value);
    return filter;
  }

  rescaleFactor(): number {
    const value = this.#config.rescale_factor ?? clipPreprocessor.rescaleFactor;
    if (typeof value === 'number' && Number.isFinite(value)) return value;
    throw this.fault('a number', 'rescale_factor', value);
  }

  perChannel(name: string, usual: number[], isFine: (value: number) => boolean): number[] {
    const value = this.#config[name] ?? usual;
    const values: unknown[] = Array.isArray(value) ? value : [value, value, value];
    if (values.length === 3 && values.every((one) => typeof one === 'number' && isFine(one))) {
      return values as number[];
    }
    throw this.fault('three numbers', name, value);
  }

  fault(what: string, name: string, value: unknown): CheckpointError {
    return new CheckpointError(
      `Expected ${what} for ${name} in ${this.#path} but received ${JSON.stringify(value)}.`,
    );
  }

  #heightAndWidth(name: string, value: unknown): { height: number; width: number } {
    const [height, width] = Array.isArray(value)
      ? (value as unknown[])
      : isObject(value)
        ? [value.height, value.width]
        : [];
    if (isLength(height) && isLength(width)) return { height, width };
    throw this.fault(`whole numbers of pixels up to ${longestSide}`, name, value);
  }
}

/** Far above what any vision model takes; a file that says more is broken. */
const longestSide = 4096;

const isLength = (value: unknown): value is number =>
  Number.isSafeInteger(value) && Number(value) > 0 && Number(value) <= longestSide;

function isObject(value: unknown): value is JsonObject {
  return value !== null && typeof value === 'object' && !Array.isArray(value);
}

/**
 * Pictures as CLIP's vision models take them, [B,3,H,W]: resized as Pillow does, cut to the middle,
 * rescaled in float64, normalised in float32.
 *
 * @throws InvalidArgumentError (ERR_INVALID_ARGUMENT) if the results differ in size
 */
export function preprocessForClip(
  images: readonly Image[],
  preprocessor: ClipPreprocessor = clipPreprocessor,
): PreprocessedImages {
  const sized = images.map((image) => resize(image, preprocessor));
  const [first] = sized;
  if (first === undefined) throw expected('at least one image', 'images', images);
  const { height, width } = preprocessor.crop ?? first;
  const values = [0, 1, 2].map((channel) => valuesOfBytes(preprocessor, channel));
  const area = height * width;
  const data = new Float32Array(images.length * 3 * area);
  for (const [n, image] of sized.entries()) {
    if (preprocessor.crop === undefined && (image.height !== height || image.width !== width)) {
      throw new InvalidArgumentError(
        'Expected images of one size, for nothing is cut off them, but received ' +
          `${width}×${height} and ${image.width}×${image.height}. Resize them first.`,
      );
    }
    for (const [channel, table] of values.entries()) {
      const plane = data.subarray((3 * n + channel) * area, (3 * n + channel + 1) * area);
      cutMiddle(plane, image, channel, { height, width }, table);
    }
  }
  return { data, shape: [images.length, 3, height, width] };
}

function resize(image: Image, { resize: size, filter }: ClipPreprocessor): Image {
  if (size === undefined) return image;
  if ('height' in size) return image.resize(size.width, size.height, { filter });
  const shorter = Math.min(image.width, image.height);
  const along = (length: number) => Math.trunc((size.shortestEdge * length) / shorter);
  return image.resize(along(image.width), along(image.height), { filter });
}

/** What each of the 256 bytes becomes in a channel. */
function valuesOfBytes(
  { rescaleFactor, normalize }: ClipPreprocessor,
  channel: number,
): Float32Array {
  const rescaled = Float32Array.from({ length: 256 }, (_, byte) => byte * rescaleFactor);
  if (normalize === undefined) return rescaled;
  const mean = Math.fround(normalize.mean[channel] as number);
  const std = Math.fround(normalize.std[channel] as number);
  return rescaled.map((value) => Math.fround(value - mean) / std);
}

/** One channel of the middle of a picture; where the picture ends, black goes on. */
function cutMiddle(
  plane: Float32Array,
  { data, width, height }: Image,
  channel: number,
  cut: { height: number; width: number },
  values: Float32Array,
): void {
  const top = Math.floor((height - cut.height) / 2);
  const left = Math.floor((width - cut.width) / 2);
  for (let y = 0, out = 0; y < cut.height; y++) {
    const row = y + top;
    for (let x = 0; x < cut.width; x++, out++) {
      const column = x + left;
      const isInside = row >= 0 && row < height && column >= 0 && column < width;
      const byte = isInside ? (data[(row * width + column) * 3 + channel] as number) : 0;
      plane[out] = values[byte] as number;
    }
  }
}
