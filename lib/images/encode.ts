import { randomUUID } from 'node:crypto';
import { open, realpath, rename, rm } from 'node:fs/promises';
import { basename, dirname, extname, join } from 'node:path';
import type { Sharp } from 'sharp';
import { checkKnownOptions } from '../checks.js';
import { expected, ImageError } from '../errors.js';

/** File formats that pictures are written in. */
export type ImageFormat = 'png' | 'jpeg' | 'webp';

/** Options of `Image.save` and `Image.toBuffer`. */
export interface SaveOptions {
  /** 1 to 100 for JPEG and WebP, 95 unless given; PNG keeps every pixel anyway. */
  quality?: number;
}

const formats: readonly ImageFormat[] = ['png', 'jpeg', 'webp'];
const extensions: Readonly<Record<string, ImageFormat>> = {
  '.png': 'png',
  '.jpg': 'jpeg',
  '.jpeg': 'jpeg',
  '.webp': 'webp',
};
const defaultQuality = 95;

/** The bytes of a file in the given format. */
export async function encodeImage(
  picture: Sharp,
  format: ImageFormat,
  given: SaveOptions,
): Promise<Buffer> {
  checkKnownOptions(given, ['quality'], 'A picture that is written');
  const { quality = defaultQuality } = given;
  if (!formats.includes(format)) throw expected(`one of ${formats.join(', ')}`, 'format', format);
  if (!Number.isInteger(quality) || quality < 1 || quality > 100) {
    throw expected('a whole number between 1 and 100', 'quality', quality);
  }
  const options = format === 'png' ? {} : { quality };
  try {
    return await picture.toFormat(format, options).toBuffer();
  } catch (error) {
    throw new ImageError(`Cannot write the picture as ${format}: ${(error as Error).message}.`, {
      cause: error,
    });
  }
}

/** Writes a picture to a file that is complete from the moment it has its name. */
export async function saveImage(picture: Sharp, path: string, options: SaveOptions): Promise<void> {
  if (typeof path !== 'string' || path === '') throw expected('a file path', 'path', path);
  const format = extensions[extname(path).toLowerCase()];
  if (format === undefined) {
    throw expected(
      `a file name that ends in ${Object.keys(extensions).join(', ')}`,
      'path',
      path,
      'For other formats use toSharp().',
    );
  }
  const bytes = await encodeImage(picture, format, options);
  // A link's target is replaced, not the link.
  const target = await realpath(path).catch(() => path);
  const temporary = join(dirname(target), `.${basename(target)}.${randomUUID()}.tmp`);
  try {
    const file = await open(temporary, 'wx');
    try {
      await file.writeFile(bytes);
      // On the disk before the rename: after a power cut there is the old file or the new one.
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, target);
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => {});
    throw new ImageError(`Cannot save ${path}: ${reason(error, path)}`, { cause: error });
  }
}

function reason(error: unknown, path: string): string {
  const { code, message } = error as NodeJS.ErrnoException;
  switch (code) {
    case 'ENOENT':
    case 'ENOTDIR':
      return `there is no folder ${dirname(path)}. Make it first.`;
    case 'EISDIR':
      return 'it is a folder.';
    case 'EACCES':
    case 'EPERM':
    case 'EROFS':
      return 'writing there is not allowed.';
    case 'ENOSPC':
      return 'the disk is full.';
    default:
      return `${message}.`;
  }
}
