import type { Metadata, OutputInfo, Sharp } from 'sharp';
import { ImageError } from '../errors.js';
import { Image } from './image.js';
import { openSharp } from './sharp.js';

export interface DecodeOptions {
  background: readonly [number, number, number];
  limitInputPixels: number;
  applyColorProfile: boolean;
}

interface RawPixels {
  data: Uint8Array;
  width: number;
  height: number;
  channels: number;
}

/** Whether a value is a sharp instance, of whichever copy of sharp. */
export function isSharp(value: unknown): value is Sharp {
  if (typeof value !== 'object' || value === null) return false;
  const candidate = value as Record<string, unknown>;
  return ['clone', 'metadata', 'raw', 'toColourspace'].every(
    (name) => typeof candidate[name] === 'function',
  );
}

/** Decodes the bytes of a file, or runs a copy of a sharp pipeline, to RGB. */
export async function decode(
  source: Uint8Array | Sharp,
  name: string,
  options: DecodeOptions,
): Promise<Image> {
  try {
    const metadata = await open(source, options).metadata();
    checkSize(metadata, name, options.limitInputPixels);
    const naiveCmyk = metadata.space === 'cmyk' && !options.applyColorProfile && !isSharp(source);
    const picture = naiveCmyk
      ? open(source, options).pipelineColourspace('cmyk').toColourspace('cmyk')
      : open(source, options).toColourspace('srgb');
    const output: { data: Buffer; info: OutputInfo } = await picture
      .autoOrient()
      .raw()
      .toBuffer({ resolveWithObject: true });
    const { width, height, channels } = output.info;
    const raw = { data: output.data, width, height, channels };
    return toRgb(raw, options.background, naiveCmyk);
  } catch (error) {
    if (error instanceof ImageError) throw error;
    const message = oneLine(error as Error);
    const why = isSharp(source) ? `${message}.` : problem(message);
    throw new ImageError(`Cannot read ${name}: ${why}`, { cause: error });
  }
}

function open(source: Uint8Array | Sharp, options: DecodeOptions): Sharp {
  if (isSharp(source)) return source.clone();
  // The size is checked here, with a message that says more; warnings alone spoil no picture.
  return openSharp(source, {
    limitInputPixels: false,
    failOn: 'error',
    ignoreIcc: !options.applyColorProfile,
  });
}

function checkSize({ width, height }: Metadata, name: string, limit: number): void {
  if (width * height <= limit) return;
  throw new ImageError(
    `Cannot read ${name}: it has ${width}×${height} = ${width * height} pixels, more than the ` +
      `limit of ${limit}. Pass a larger limitInputPixels if you trust it, or make it smaller.`,
  );
}

function problem(message: string): string {
  return /unsupported image format|is empty/i.test(message)
    ? 'it is not an image of a kind that can be read (JPEG, PNG, WebP, GIF, AVIF, TIFF, SVG).'
    : `it is damaged or cut off (${message}).`;
}

/** libvips repeats a complaint on a line of its own each time. */
function oneLine({ message }: Error): string {
  return [...new Set(message.split('\n').map((line) => line.trim()))].filter(Boolean).join('; ');
}

/** Grey and colour, with and without transparency, or CMYK, to RGB. */
function toRgb(raw: RawPixels, background: readonly number[], isCmyk: boolean): Image {
  const { data, width, height, channels } = raw;
  if (channels === 3) return Image.fromRaw(plainBytes(data), width, height);
  const output = new Uint8Array(width * height * 3);
  if (isCmyk) convertCmyk(data, output, channels);
  else composite(data, output, channels, background);
  return Image.fromRaw(output, width, height);
}

/** sharp gives Buffers; their other methods would only surprise whoever uses `data`. */
function plainBytes(data: Uint8Array): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

/** Lays pixels on the background, rounding to the nearest value as Pillow's `paste` does. */
function composite(
  data: Uint8Array,
  output: Uint8Array,
  channels: number,
  background: readonly number[],
): void {
  const hasAlpha = channels === 2 || channels === 4;
  const colors = hasAlpha ? channels - 1 : channels;
  for (let input = 0, out = 0; out < output.length; input += channels, out += 3) {
    const alpha = hasAlpha ? (data[input + colors] as number) : 255;
    for (let channel = 0; channel < 3; channel++) {
      const value = data[input + Math.min(channel, colors - 1)] as number;
      const behind = background[channel] as number;
      output[out + channel] = dividedBy255(value * alpha + behind * (255 - alpha));
    }
  }
}

/** Ink on paper without a profile: each colour is what cyan, magenta or yellow and black let pass. */
function convertCmyk(data: Uint8Array, output: Uint8Array, channels: number): void {
  for (let input = 0, out = 0; out < output.length; input += channels, out += 3) {
    const light = 255 - (data[input + 3] as number);
    for (let channel = 0; channel < 3; channel++) {
      output[out + channel] = light - dividedBy255((data[input + channel] as number) * light);
    }
  }
}

/** value / 255, rounded to the nearest, in whole numbers. */
function dividedBy255(value: number): number {
  const shifted = value + 128;
  return (shifted + (shifted >> 8)) >> 8;
}
