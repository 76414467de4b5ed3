/**
 * Resampling as Pillow does it, bit for bit: a separable kernel whose support grows when the picture
 * shrinks, weights in fixed point with 22 fractional bits, and 8-bit rounding between the horizontal
 * and the vertical pass.
 */

/** Resampling filters, by Pillow's names. */
export type ResizeFilter = 'nearest' | 'box' | 'bilinear' | 'hamming' | 'bicubic' | 'lanczos';

/** RGB bytes, row by row. */
export interface Pixels {
  data: Uint8Array;
  width: number;
  height: number;
}

/** The part of a picture that is resampled, in pixels; edges may lie between pixels. */
export interface Box {
  left: number;
  top: number;
  right: number;
  bottom: number;
}

interface Kernel {
  /** The kernel is zero from here on, at scale 1. */
  support: number;
  weight(x: number): number;
}

const kernels: Record<Exclude<ResizeFilter, 'nearest'>, Kernel> = {
  box: { support: 0.5, weight: (x) => (x > -0.5 && x <= 0.5 ? 1 : 0) },
  bilinear: { support: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) },
  hamming: { support: 1, weight: hamming },
  bicubic: { support: 2, weight: bicubic },
  lanczos: { support: 3, weight: (x) => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0) },
};

export const resizeFilters: readonly ResizeFilter[] = [
  'nearest',
  'box',
  'bilinear',
  'hamming',
  'bicubic',
  'lanczos',
];

function sinc(x: number): number {
  if (x === 0) return 1;
  const radians = x * Math.PI;
  return Math.sin(radians) / radians;
}

function hamming(value: number): number {
  if (value === 0) return 1;
  const x = Math.abs(value);
  if (x >= 1) return 0;
  const radians = x * Math.PI;
  return (
    (Math.sin(radians) / radians) * (Math.fround(0.54) + Math.fround(0.46) * Math.cos(radians))
  );
}

function bicubic(value: number): number {
  const a = -0.5;
  const x = Math.abs(value);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}

const fractionBits = 22;
const half = 1 << (fractionBits - 1);

/** For each output position: the first input it takes, how many, and their weights. */
interface Taps {
  first: Int32Array;
  count: Int32Array;
  weights: Int32Array;
  stride: number;
}

function computeTaps(
  size: number,
  start: number,
  end: number,
  outputSize: number,
  kernel: Kernel,
): Taps {
  const scale = (end - start) / outputSize;
  const kernelScale = Math.max(scale, 1);
  const support = kernel.support * kernelScale;
  const stride = Math.ceil(support) * 2 + 1;
  const first = new Int32Array(outputSize);
  const count = new Int32Array(outputSize);
  const weights = new Int32Array(outputSize * stride);
  const row = new Float64Array(stride);
  const inverse = 1 / kernelScale;
  for (let i = 0; i < outputSize; i++) {
    const center = start + (i + 0.5) * scale;
    const low = Math.max(0, Math.trunc(center - support + 0.5));
    const high = Math.min(size, Math.trunc(center + support + 0.5));
    let sum = 0;
    for (let n = 0; n < high - low; n++) {
      const weight = kernel.weight((n + low - center + 0.5) * inverse);
      row[n] = weight;
      sum += weight;
    }
    first[i] = low;
    count[i] = high - low;
    for (let n = 0; n < high - low; n++) {
      const weight = sum === 0 ? (row[n] as number) : (row[n] as number) / sum;
      const fixed = weight * (1 << fractionBits);
      weights[i * stride + n] = Math.trunc(fixed < 0 ? fixed - 0.5 : fixed + 0.5);
    }
  }
  return { first, count, weights, stride };
}

/** Resizes the part `box` of a picture to `width`×`height`. */
export function resample(
  pixels: Pixels,
  width: number,
  height: number,
  filter: ResizeFilter,
  box: Box,
): Pixels {
  if (filter === 'nearest') return nearest(pixels, width, height, box);
  const kernel = kernels[filter];
  // Pillow keeps the box in single precision.
  const [left, right] = [Math.fround(box.left), Math.fround(box.right)];
  const [top, bottom] = [Math.fround(box.top), Math.fround(box.bottom)];
  const rows =
    width === pixels.width && left === 0 && right === width
      ? undefined
      : computeTaps(pixels.width, left, right, width, kernel);
  const columns =
    height === pixels.height && top === 0 && bottom === height
      ? undefined
      : computeTaps(pixels.height, top, bottom, height, kernel);
  const inRows = (input: Pixels) => (rows ? resampleRows(input, width, rows) : input);
  const inColumns = (input: Pixels) => (columns ? resampleColumns(input, height, columns) : input);
  // Since version 13 Pillow begins with the columns where that leaves clearly less to do.
  const lost = { width: pixels.width - width, height: pixels.height - height };
  const columnsFirst = lost.height > 0 && lost.height > 2 * lost.width;
  return columnsFirst ? inRows(inColumns(pixels)) : inColumns(inRows(pixels));
}

// The indices below are in range by construction; `as number` only tells the compiler. The sums fit
// 32 bits: Math.imul and `| 0` keep the engine from computing them as floating-point numbers.

function resampleRows(
  { data, width: oldWidth, height }: Pixels,
  width: number,
  taps: Taps,
): Pixels {
  const { first, count, weights, stride } = taps;
  const output = new Uint8Array(width * height * 3);
  let out = 0;
  for (let y = 0; y < height; y++) {
    const rowStart = y * oldWidth;
    for (let x = 0; x < width; x++) {
      let input = (rowStart + (first[x] as number)) * 3;
      const end = x * stride + (count[x] as number);
      let red = half;
      let green = half;
      let blue = half;
      for (let tap = x * stride; tap < end; tap++) {
        const weight = weights[tap] as number;
        red = (red + Math.imul(data[input] as number, weight)) | 0;
        green = (green + Math.imul(data[input + 1] as number, weight)) | 0;
        blue = (blue + Math.imul(data[input + 2] as number, weight)) | 0;
        input += 3;
      }
      output[out] = toByte(red);
      output[out + 1] = toByte(green);
      output[out + 2] = toByte(blue);
      out += 3;
    }
  }
  return { data: output, width, height };
}

function resampleColumns({ data, width }: Pixels, height: number, taps: Taps): Pixels {
  const { first, count, weights, stride } = taps;
  const rowLength = width * 3;
  const output = new Uint8Array(rowLength * height);
  const sums = new Int32Array(rowLength);
  for (let y = 0; y < height; y++) {
    sums.fill(half);
    for (let tap = 0; tap < (count[y] as number); tap++) {
      const weight = weights[y * stride + tap] as number;
      const input = ((first[y] as number) + tap) * rowLength;
      for (let i = 0; i < rowLength; i++) {
        sums[i] = (sums[i] as number) + Math.imul(data[input + i] as number, weight);
      }
    }
    const out = y * rowLength;
    for (let i = 0; i < rowLength; i++) output[out + i] = toByte(sums[i] as number);
  }
  return { data: output, width, height };
}

function toByte(sum: number): number {
  const value = sum >> fractionBits;
  return Math.max(0, Math.min(value, 255));
}

function nearest(
  { data, width: oldWidth, height: oldHeight }: Pixels,
  width: number,
  height: number,
  box: Box,
): Pixels {
  const columns = nearestPositions(width, oldWidth, box.left, box.right);
  const rows = nearestPositions(height, oldHeight, box.top, box.bottom);
  const output = new Uint8Array(width * height * 3);
  let out = 0;
  for (const row of rows) {
    for (const column of columns) {
      if (row >= 0 && column >= 0) {
        const input = (row * oldWidth + column) * 3;
        output[out] = data[input] as number;
        output[out + 1] = data[input + 1] as number;
        output[out + 2] = data[input + 2] as number;
      }
      out += 3;
    }
  }
  return { data: output, width, height };
}

/** Pillow adds the step up, so that rounding errors add up too. −1 where they lead outside. */
function nearestPositions(count: number, size: number, start: number, end: number): Int32Array {
  const step = (end - start) / count;
  const positions = new Int32Array(count);
  let position = start + step * 0.5;
  for (let i = 0; i < count; i++) {
    positions[i] = position >= 0 && position < size ? Math.trunc(position) : -1;
    position += step;
  }
  return positions;
}
