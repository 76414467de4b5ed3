// The pictures in docs/guide.md: what its examples draw with the embedded model, enlarged.
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

import { type Image, loadImage } from '../../lib/index.js';
import { packageRoot } from '../../lib/package-root.js';
import { guide } from './sections.js';

const enlargement = 3;

/** Compression makes about 1.1 of it; another seed makes 2.4 or more. */
export const largestPictureDifference = 2;

/** Names of the pictures that the guide shows; an example saves `NAME.png`. */
export async function shownPictures(): Promise<string[]> {
  const markdown = await readFile(guide, 'utf8');
  const places = markdown.matchAll(/!\[[^\]]*\]\(images\/guide-([\w-]+)\.webp\)/g);
  return Array.from(places, ([, name]) => name as string);
}

function fileOf(name: string): string {
  return join(packageRoot, 'docs', 'images', `guide-${name}.webp`);
}

async function drawn(name: string, folder: string): Promise<Image> {
  const image = await loadImage(join(folder, `${name}.png`));
  const [width, height] = [image.width * enlargement, image.height * enlargement];
  return image.resize(width, height, { filter: 'lanczos' });
}

/** Puts what an example has drawn into the docs. */
export async function keepPicture(name: string, folder: string): Promise<void> {
  await (await drawn(name, folder)).save(fileOf(name), { quality: 90 });
}

/**
 * How far what an example has drawn is from what the guide shows: on average, of 255; which it also
 * is where the example has drawn nothing, or in another size.
 */
export async function pictureDifference(name: string, folder: string): Promise<number> {
  if (!existsSync(join(folder, `${name}.png`))) return 255;
  const [ours, shown] = [await drawn(name, folder), await loadImage(fileOf(name))];
  if (ours.width !== shown.width || ours.height !== shown.height) return 255;
  const sum = ours.data.reduce(
    (total, value, i) => total + Math.abs(value - Number(shown.data[i])),
    0,
  );
  return sum / ours.data.length;
}
