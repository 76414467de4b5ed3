// Pictures with a line of text under them, put together to a sheet.
import { createRequire } from 'node:module';

import sharp, { type OverlayOptions } from 'sharp';

import { Image } from '../lib/index.js';

const fontfile = createRequire(import.meta.url).resolve('dejavu-fonts-ttf/ttf/DejaVuSans.ttf');

export interface Cell {
  image: Image;
  label: string;
}

const gap = 8;
const textHeight = 22;

async function labelled({ image, label }: Cell, side: number): Promise<Buffer> {
  const escaped = label.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
  const text = await sharp({
    text: { text: escaped, font: 'DejaVu Sans 10', fontfile, rgba: true, dpi: 90 },
  })
    .png()
    .toBuffer();
  const { width = 0, height = 0 } = await sharp(text).metadata();
  const fitted = width > side ? await sharp(text).resize({ width: side }).toBuffer() : text;
  const top = side + Math.max(0, Math.floor((textHeight - height) / 2));
  return sharp({
    create: { width: side, height: side + textHeight, channels: 3, background: '#fff' },
  })
    .composite([
      {
        input: await image.resize(side, side, { filter: 'lanczos' }).toBuffer('png'),
        left: 0,
        top: 0,
      },
      { input: fitted, left: Math.max(0, Math.floor((side - width) / 2)), top },
    ])
    .png()
    .toBuffer();
}

/** A sheet of rows, each cell `side` pixels wide. */
export async function labelledSheet(
  rows: readonly (readonly Cell[])[],
  side: number,
): Promise<Image> {
  const columns = Math.max(...rows.map((row) => row.length));
  const pieces: OverlayOptions[] = [];
  for (const [y, row] of rows.entries()) {
    for (const [x, cell] of row.entries()) {
      const left = gap + x * (side + gap);
      const top = gap + y * (side + textHeight + gap);
      pieces.push({ input: await labelled(cell, side), left, top });
    }
  }
  const width = gap + columns * (side + gap);
  const height = gap + rows.length * (side + textHeight + gap);
  const { data } = await sharp({ create: { width, height, channels: 3, background: '#f2f2f2' } })
    .composite(pieces)
    .removeAlpha()
    .raw()
    .toBuffer({ resolveWithObject: true });
  return Image.fromRaw(new Uint8Array(data), width, height);
}
