import type { Sharp } from 'sharp';
import { checkKnownOptions, checkSignal } from '../checks.js';
import { expected } from '../errors.js';
import { type DecodeOptions, decode, isSharp } from './decode.js';
import { defaultPixelLimit, Image } from './image.js';
import { readSource } from './source.js';

/** What `loadImage` takes: a path, an address, the bytes of a file, or a picture already read. */
export type ImageSource = string | URL | Uint8Array | ArrayBuffer | Image | Sharp;

/** Options of `loadImage`. */
export interface LoadImageOptions {
  /** Colour behind transparent pixels: `'#rgb'` or `'#rrggbb'`; `'#ffffff'` unless given. */
  background?: string;
  /** Largest number of pixels; sharp's 268402689 unless given, `Infinity` for no limit. */
  limitInputPixels?: number;
  /** Largest number of bytes that are read; 256 MiB unless given. */
  limitInputBytes?: number;
  /** Milliseconds until an http(s) address must have sent everything; 60000 unless given. */
  timeout?: number;
  /** Convert by an embedded colour profile to sRGB; otherwise (default) the profile is ignored. */
  applyColorProfile?: boolean;
  /** Rejects with `signal.reason` when it is aborted. */
  signal?: AbortSignal;
}

const optionNames: readonly (keyof LoadImageOptions)[] = [
  'background',
  'limitInputPixels',
  'limitInputBytes',
  'timeout',
  'applyColorProfile',
  'signal',
];

/**
 * Reads a picture: from a file path, a `file:`, `http:`, `https:` or `data:` address, the bytes of
 * a file, or a sharp instance. An `Image` is given back as it is.
 *
 * The picture is turned as its EXIF orientation says and becomes 8-bit RGB, with the values that
 * Pillow's `convert('RGB')` gives; transparent pixels are laid on `background`. Of an animation
 * the first frame is taken.
 *
 * ```ts
 * const image = await loadImage('https://example.com/cat.png');
 * ```
 *
 * @throws ImageError (ERR_IMAGE) if the source cannot be read, is no image, is cut off, or is
 * larger than the limits; the message names the source
 */
export async function loadImage(
  source: ImageSource,
  options: LoadImageOptions = {},
): Promise<Image> {
  checkKnownOptions(options, optionNames, 'loadImage');
  const { signal, limitInputBytes = 256 * 2 ** 20, timeout = 60_000 } = options;
  checkSignal(signal);
  signal?.throwIfAborted();
  const decodeOptions: DecodeOptions = {
    background: parseColor(options.background ?? '#ffffff'),
    limitInputPixels: limit(options.limitInputPixels ?? defaultPixelLimit, 'limitInputPixels'),
    applyColorProfile: options.applyColorProfile ?? false,
  };
  limit(limitInputBytes, 'limitInputBytes');
  limit(timeout, 'timeout');
  if (source instanceof Image) return source;
  if (isSharp(source)) return await decode(source, 'the sharp instance', decodeOptions);
  const { bytes, name } = await readSource(source, { limitInputBytes, timeout, signal });
  const image = await decode(bytes, name, decodeOptions);
  signal?.throwIfAborted();
  return image;
}

function limit(value: unknown, name: string): number {
  if (typeof value === 'number' && value > 0) return value;
  throw expected('a number above 0', name, value);
}

function parseColor(color: unknown): [number, number, number] {
  const digits = typeof color === 'string' ? /^#([\da-f]{3}|[\da-f]{6})$/i.exec(color)?.[1] : '';
  if (!digits) throw expected("a colour like '#ffffff'", 'background', color);
  const long = digits.length === 6 ? digits : digits.replace(/./g, '$&$&');
  const value = Number.parseInt(long, 16);
  return [value >> 16, (value >> 8) & 255, value & 255];
}
