import type { Pixels } from './resample.js';

/**
 * Shrinks a picture by whole factors: each output pixel is the mean of `factorX`×`factorY` pixels,
 * of what is left of them at the right and lower edge. Same rounding as Pillow's `Image.reduce`.
 */
export function reduce({ data, width, height }: Pixels, factorX: number, factorY: number): Pixels {
  const [outWidth, outHeight] = [Math.ceil(width / factorX), Math.ceil(height / factorY)];
  const output = new Uint8Array(outWidth * outHeight * 3);
  let out = 0;
  for (let y = 0; y < outHeight; y++) {
    const [top, bottom] = [y * factorY, Math.min(height, (y + 1) * factorY)];
    for (let x = 0; x < outWidth; x++) {
      const [left, right] = [x * factorX, Math.min(width, (x + 1) * factorX)];
      const area = (right - left) * (bottom - top);
      // A division by the area as a multiplication with a rounded-down reciprocal.
      const reciprocal = Math.floor(Math.fround(2 ** 32 / Math.fround(256 * area)));
      const bias = area >>> 1;
      for (let channel = 0; channel < 3; channel++) {
        let sum = bias;
        for (let row = top; row < bottom; row++) {
          let input = (row * width + left) * 3 + channel;
          for (let column = left; column < right; column++) {
            sum += data[input] as number;
            input += 3;
          }
        }
        output[out++] = Math.floor((sum * reciprocal) / 2 ** 24);
      }
    }
  }
  return { data: output, width: outWidth, height: outHeight };
}
