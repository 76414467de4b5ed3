// What several test files need.
import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { demoModel, Image } from '../lib/index.js';

export { demoModel };

/** A folder of its own for a test, gone at the test's end. */
export function temporaryFolder(context: { after(clean: () => void): void }): string {
  const folder = mkdtempSync(join(tmpdir(), 'torchbrush-test-'));
  context.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** A copy of the embedded checkpoint that a test may spoil. */
export function demoCopy(context: { after(clean: () => void): void }): string {
  const folder = join(temporaryFolder(context), 'model');
  cpSync(demoModel, folder, { recursive: true });
  return folder;
}

/** Noise, the same as `picture` of golden/generate_resize.py; `harsh` is black and white only. */
export function noiseImage([width, height]: [number, number], seed: number, harsh = false): Image {
  const data = new Uint8Array(width * height * 3);
  let state = seed;
  for (let i = 0; i < data.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const value = state >>> 24;
    data[i] = harsh ? (value > 127 ? 255 : 0) : value;
  }
  return Image.fromRaw(data, width, height);
}

/** A picture with something to see in every part. */
export function testImage(width = 64, height = 64): Image {
  const data = new Uint8Array(width * height * 3);
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      const at = (y * width + x) * 3;
      data[at] = (x * 255) / width;
      data[at + 1] = (y * 255) / height;
      data[at + 2] = (x * y) % 256;
    }
  }
  return Image.fromRaw(data, width, height);
}
