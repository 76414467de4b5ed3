// LoRA and textual inversion files for tests, with repeatable numbers.
import { join } from 'node:path';

import { type StoredArray, writeArrays } from './safetensors-writer.js';

/** Numbers in −1..1 that look like noise; another seed gives others. */
export function noise(count: number, seed: number): Float32Array {
  return Float32Array.from({ length: count }, (_, i) => {
    const value = Math.sin((i + 1) * 12.9898 + seed * 78.233) * 43758.5453;
    return (value - Math.floor(value)) * 2 - 1;
  });
}

export function float32(values: Float32Array, shape: number[]): StoredArray {
  return { dtype: 'F32', shape, data: new Uint8Array(values.buffer) };
}

export function array(shape: number[], seed: number, scale: number): StoredArray {
  const count = shape.reduce((product, size) => product * size, 1);
  const values = noise(count, seed).map((value) => value * scale);
  return float32(values, shape);
}

export function write(folder: string, name: string, arrays: Record<string, StoredArray>): string {
  const file = join(folder, `${name}.safetensors`);
  writeArrays(file, new Map(Object.entries(arrays)));
  return file;
}

/** Attention, feed-forward, a convolution and a text encoder's layer, in peft's form. */
export function someLayers(seed: number, rank = 4): Record<string, StoredArray> {
  const unet = 'unet.mid_block.attentions.0';
  const block = `${unet}.transformer_blocks.0`;
  const layers: [string, number, number[]][] = [
    [`${unet}.proj_in`, 128, [128, 1, 1]],
    [`${block}.attn1.to_q`, 128, [128]],
    [`${block}.attn2.to_v`, 128, [128]],
    [`${block}.ff.net.2`, 128, [512]],
    ['unet.conv_in', 80, [4, 3, 3]],
    ['unet.down_blocks.0.resnets.0.conv1', 80, [80, 3, 3]],
    ['text_encoder.text_model.encoder.layers.1.self_attn.q_proj', 128, [128]],
  ];
  return Object.fromEntries(
    layers.flatMap(([name, rows, inputs], i) => {
      const ones = inputs.slice(1).map(() => 1);
      return [
        [`${name}.lora_A.weight`, array([rank, ...inputs], seed + i, 0.1)],
        [`${name}.lora_B.weight`, array([rows, rank, ...ones], seed + i + 50, 0.1)],
      ];
    }),
  );
}
