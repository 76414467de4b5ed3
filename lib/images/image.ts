import type { Sharp } from 'sharp';
import { checkKnownOptions } from '../checks.js';
import { expected } from '../errors.js';
import { encodeImage, type ImageFormat, type SaveOptions, saveImage } from './encode.js';
import { reduce } from './reduce.js';
import { type Pixels, type ResizeFilter, resample, resizeFilters } from './resample.js';
import { openSharp } from './sharp.js';

/** The largest picture that `resize` makes and `loadImage` takes unless told otherwise; sharp's. */
export const defaultPixelLimit = 0x3fff * 0x3fff;

/** Options of `Image.resize`. */
export interface ResizeOptions {
  /** `'bicubic'` unless given. */
  filter?: ResizeFilter;
  /**
   * Shrinks the picture first by a whole factor, which leaves the filter a picture at least this
   * many times as large as the result; 1 or more. Off unless given.
   */
  reducingGap?: number;
}

/**
 * A picture in memory: 8-bit sRGB without transparency. It needs no disposing.
 *
 * ```ts
 * const image = await loadImage('photo.jpg');
 * await image.resize(768, 512, { filter: 'lanczos' }).save('small.png');
 * ```
 */
export class Image {
  /** In pixels. */
  readonly width: number;
  /** In pixels. */
  readonly height: number;
  /** Red, green and blue bytes, row by row from the top: `width · height · 3` of them. */
  readonly data: Uint8Array;

  private constructor({ data, width, height }: Pixels) {
    this.data = data;
    this.width = width;
    this.height = height;
  }

  /**
   * A picture from RGB bytes, row by row from the top. The bytes are not copied: the picture goes on
   * using `data`.
   *
   * @throws InvalidArgumentError (ERR_INVALID_ARGUMENT) if there are not `width · height · 3` bytes
   */
  static fromRaw(data: Uint8Array | Uint8ClampedArray, width: number, height: number): Image {
    checkSide(width, 'width');
    checkSide(height, 'height');
    if (!(data instanceof Uint8Array || data instanceof Uint8ClampedArray)) {
      throw expected('a Uint8Array', 'data', data);
    }
    if (data.length !== width * height * 3) {
      throw expected(
        `${width * height * 3} bytes (3 for each of ${width}×${height} pixels)`,
        'data',
        data.length,
        'Only RGB is taken: leave transparency out, or pass the picture to loadImage.',
      );
    }
    const bytes =
      data instanceof Uint8Array
        ? data
        : new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    return new Image({ data: bytes, width, height });
  }

  /**
   * The picture in another size, stretched to it; byte for byte what Pillow's `Image.resize` gives.
   * The same size gives a copy.
   *
   * @throws InvalidArgumentError (ERR_INVALID_ARGUMENT)
   */
  resize(width: number, height: number, options: ResizeOptions = {}): Image {
    checkKnownOptions(options, ['filter', 'reducingGap'], 'resize');
    const { filter = 'bicubic', reducingGap } = options;
    checkSide(width, 'width');
    checkSide(height, 'height');
    if (width * height > defaultPixelLimit) {
      throw expected(`at most ${defaultPixelLimit} pixels`, 'width and height', width * height);
    }
    if (!resizeFilters.includes(filter)) throw expected(resizeFilters.join(', '), 'filter', filter);
    if (reducingGap !== undefined && !(reducingGap >= 1)) {
      throw expected('a number of at least 1', 'reducingGap', reducingGap);
    }
    if (width === this.width && height === this.height) {
      return new Image({ data: this.data.slice(), width, height });
    }
    let pixels: Pixels = this;
    let box = { left: 0, top: 0, right: this.width, bottom: this.height };
    if (reducingGap !== undefined && filter !== 'nearest') {
      const factorX = Math.max(1, Math.trunc(this.width / width / reducingGap));
      const factorY = Math.max(1, Math.trunc(this.height / height / reducingGap));
      if (factorX > 1 || factorY > 1) {
        pixels = reduce(this, factorX, factorY);
        // The last reduced pixel may stand for less than a whole one.
        box = { left: 0, top: 0, right: this.width / factorX, bottom: this.height / factorY };
      }
    }
    return new Image(resample(pixels, width, height, filter, box));
  }

  /**
   * The picture as the bytes of a file.
   *
   * @throws InvalidArgumentError (ERR_INVALID_ARGUMENT), ImageError (ERR_IMAGE)
   */
  async toBuffer(format: ImageFormat = 'png', options: SaveOptions = {}): Promise<Buffer> {
    return encodeImage(this.toSharp(), format, options);
  }

  /**
   * Writes the picture to a file; the extension names the format (.png, .jpg, .jpeg, .webp). The
   * file appears, or takes the old one's place, only when it is complete.
   *
   * @throws InvalidArgumentError (ERR_INVALID_ARGUMENT) for another extension; ImageError
   * (ERR_IMAGE) if the file cannot be written
   */
  async save(path: string, options: SaveOptions = {}): Promise<void> {
    await saveImage(this.toSharp(), path, options);
  }

  /** The picture as a sharp instance, for everything that sharp can do. */
  toSharp(): Sharp {
    const { width, height } = this;
    return openSharp(this.data, { raw: { width, height, channels: 3 }, limitInputPixels: false });
  }
}

function checkSide(value: unknown, name: string): void {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 1) {
    throw expected('a whole number of pixels, 1 or more,', name, value);
  }
}
