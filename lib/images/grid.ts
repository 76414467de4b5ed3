import { checkInteger, checkKnownOptions } from '../checks.js';
import { expected, InvalidArgumentError } from '../errors.js';
import { Image } from './image.js';

/** Options of `makeImageGrid`. */
export interface GridOptions {
  /** Pictures from top to bottom; 1 or more. */
  rows: number;
  /** Pictures from left to right; 1 or more. */
  cols: number;
  /** Makes every picture a square of this many pixels first. */
  resize?: number;
}

/**
 * Lays pictures out in a grid, row by row. A cell has the size of the first picture; smaller ones
 * leave black, larger ones reach into the next cells, where later pictures cover them, and end at
 * the grid's edge.
 *
 * ```ts
 * const grid = makeImageGrid(images, { rows: 2, cols: 3 });
 * ```
 *
 * @throws InvalidArgumentError (ERR_INVALID_ARGUMENT) unless there are `rows · cols` pictures
 */
export function makeImageGrid(images: readonly Image[], options: GridOptions): Image;
/** The same with diffusers' order of arguments. */
export function makeImageGrid(
  images: readonly Image[],
  rows: number,
  cols: number,
  resize?: number,
): Image;
export function makeImageGrid(
  images: readonly Image[],
  options: GridOptions | number,
  colCount?: number,
  side?: number,
): Image {
  if (typeof options !== 'number') {
    checkKnownOptions(options, ['rows', 'cols', 'resize'], 'makeImageGrid');
  }
  const { rows, cols, resize } =
    typeof options === 'number' ? { rows: options, cols: colCount, resize: side } : options;
  const rowCount = checkInteger(rows, 'rows', 1);
  const columns = checkInteger(cols, 'cols', 1);
  checkImages(images, rowCount, columns);
  const cells = resize === undefined ? images : images.map((image) => image.resize(resize, resize));
  const { width, height } = cells[0] as Image;
  const grid = {
    data: new Uint8Array(rowCount * columns * width * height * 3),
    width: columns * width,
    height: rowCount * height,
  };
  for (const [i, image] of cells.entries()) {
    paste(grid, image, (i % columns) * width, Math.floor(i / columns) * height);
  }
  return Image.fromRaw(grid.data, grid.width, grid.height);
}

interface Canvas {
  data: Uint8Array;
  width: number;
  height: number;
}

function paste(canvas: Canvas, image: Image, left: number, top: number): void {
  const rowLength = Math.min(image.width, canvas.width - left) * 3;
  const rows = Math.min(image.height, canvas.height - top);
  for (let y = 0; y < rows; y++) {
    const from = y * image.width * 3;
    const row = image.data.subarray(from, from + rowLength);
    canvas.data.set(row, ((top + y) * canvas.width + left) * 3);
  }
}

function checkImages(images: readonly Image[], rows: number, cols: number): void {
  if (!Array.isArray(images)) throw expected('an array of Image', 'images', images);
  const stranger: unknown = images.find((image) => !(image instanceof Image));
  if (stranger !== undefined) throw expected('only Image instances', 'images', stranger);
  if (images.length === rows * cols) return;
  throw new InvalidArgumentError(
    `Expected ${rows * cols} images for ${rows} rows and ${cols} columns but received ` +
      `${images.length}.`,
  );
}
