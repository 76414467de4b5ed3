import { expected, expectedShape, InvalidArgumentError } from '../errors.js';
import { Image } from './image.js';
import type { ResizeFilter } from './resample.js';

export interface PreprocessOptions {
  /** Height and width of the result; the first picture's unless given. Reduced to `multipleOf`. */
  height?: number;
  width?: number;
  /** The autoencoder's scale factor; sizes are rounded down to a multiple of it. */
  multipleOf: number;
  filter: ResizeFilter;
  reducingGap?: number;
  /** −1..1 if true (default), 0..1 if false (control pictures). */
  normalize?: boolean;
}

/** Pictures as numbers. */
export interface PreprocessedImages {
  /** [B,3,H,W] */
  data: Float32Array;
  /** Of `data`: pictures, 3, height, width. */
  shape: [number, number, number, number];
}

/**
 * Pictures as the network takes them: [B,3,H,W], −1..1. The arithmetic is that of diffusers'
 * `VaeImageProcessor.preprocess` for PIL images: all pictures get the first one's size (rounded down,
 * never up), bytes are divided by 255 in float32, then 2x − 1 in float32.
 *
 * @throws InvalidArgumentError (ERR_INVALID_ARGUMENT) if a side is shorter than `multipleOf`
 */
export function preprocessImages(
  images: readonly Image[],
  options: PreprocessOptions,
): PreprocessedImages {
  const { multipleOf, filter, reducingGap, normalize = true } = options;
  const first = images[0];
  if (first === undefined) throw expected('at least one image', 'image', images);
  const [givenHeight, givenWidth] = [options.height ?? first.height, options.width ?? first.width];
  const height = givenHeight - (givenHeight % multipleOf);
  const width = givenWidth - (givenWidth % multipleOf);
  if (height < 1 || width < 1) {
    throw new InvalidArgumentError(
      `Expected an image of at least ${multipleOf}×${multipleOf} pixels but received ` +
        `${givenWidth}×${givenHeight}. Resize it first.`,
    );
  }
  const values = valuesOfBytes(normalize);
  const area = height * width;
  const data = new Float32Array(images.length * 3 * area);
  for (const [n, image] of images.entries()) {
    const sameSize = image.width === width && image.height === height;
    const sized = sameSize ? image : image.resize(width, height, { filter, reducingGap });
    const bytes = sized.data;
    const [red, green, blue] = [3 * n * area, (3 * n + 1) * area, (3 * n + 2) * area];
    for (let i = 0, byte = 0; i < area; i++, byte += 3) {
      data[red + i] = values[bytes[byte] as number] as number;
      data[green + i] = values[bytes[byte + 1] as number] as number;
      data[blue + i] = values[bytes[byte + 2] as number] as number;
    }
  }
  return { data, shape: [images.length, 3, height, width] };
}

/** What each of the 256 bytes becomes; a Float32Array rounds like float32 arithmetic. */
function valuesOfBytes(normalize: boolean): Float32Array {
  const values = Float32Array.from({ length: 256 }, (_, byte) => byte / 255);
  return normalize ? values.map((value) => Math.fround(2 * value) - 1) : values;
}

/**
 * Pictures from values in 0..1, [B,3,H,W]: 255·x in float32, rounded to the nearest byte and halves
 * to the even one, as numpy rounds. Values outside are cut off.
 */
export function postprocessToImages(data: Float32Array, shape: readonly number[]): Image[] {
  const [count = 0, channels = 0, height = 0, width = 0] = shape;
  if (shape.length !== 4 || channels !== 3 || data.length !== count * 3 * height * width) {
    throw expectedShape(['B', 3, 'H', 'W'], 'data', shape);
  }
  const area = height * width;
  return Array.from({ length: count }, (_, n) => {
    // A clamped array rounds halves to even by itself.
    const bytes = new Uint8ClampedArray(area * 3);
    const [red, green, blue] = [3 * n * area, (3 * n + 1) * area, (3 * n + 2) * area];
    for (let i = 0, byte = 0; i < area; i++, byte += 3) {
      bytes[byte] = Math.fround((data[red + i] as number) * 255);
      bytes[byte + 1] = Math.fround((data[green + i] as number) * 255);
      bytes[byte + 2] = Math.fround((data[blue + i] as number) * 255);
    }
    return Image.fromRaw(bytes, width, height);
  });
}
