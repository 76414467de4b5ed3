// A LoRA on a full-size UNet: how long it takes to set and to take away, and what the next step costs.
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { LoraAdapters } from '../../../lib/adapters/lora.js';
import { Generator } from '../../../lib/generator.js';
import { Network } from '../../../lib/networks/network.js';
import { UNet } from '../../../lib/networks/unet.js';
import { randn } from '../../../lib/ops.js';
import type { BenchContext, ComparisonResult } from '../context.js';
import { type Side, timed } from '../measure.js';

const rank = 16;
type Shapes = [name: string, shape: number[]][];

export async function measureAdapters(context: BenchContext): Promise<ComparisonResult> {
  const { model = '', device } = context.settings;
  const dtype = 'float32';
  const options = { dtype, device } as const;
  const network = await Network.load(join(model, 'unet'), 'UNet2DConditionModel', options);
  const unet = new UNet(network);
  const lora = new LoraAdapters({ unet: network });
  const generator = new Generator().manualSeed(0);
  using sample = randn([2, 4, 32, 32], { generator, device });
  using text = randn([2, 77, 768], { generator, device });
  const folder = mkdtempSync(join(tmpdir(), 'torchbrush-bench-'));
  let weight = 0.5;
  const predict = async () => {
    using result = await unet.predict(sample, 500, text);
    return await result.toFloat32Array();
  };
  const side = (name: string, work: () => Promise<unknown>): Side => {
    return { name, isOurs: true, dtype, run: async () => (await timed(work))[0] };
  };
  try {
    const file = join(folder, 'lora.safetensors');
    writeTensors(file, factors(network.parameters));
    const before = await predict();
    await lora.load(file, { adapterName: 'a' });
    const setAnother = () => {
      weight = (weight + 0.1) % 1;
      return lora.set(['a'], [weight]);
    };
    const sides = [
      side('set another weight', setAnother),
      side('first guided step with it, 32×32 latents', predict),
      side('next step', predict),
      side('take it away', () => lora.set([], [])),
      side('first step without it', predict),
    ];
    const title = `LoRA of rank ${rank} on every weight of the UNet, ${dtype}`;
    const result = await context.compare(title, sides);
    const after = await predict();
    const same = after.every((value, i) => value === before[i]);
    result.notes.push(`${same ? 'the same' : 'OTHER'} bits afterwards as before`);
    return result;
  } finally {
    network.dispose();
    rmSync(folder, { recursive: true });
  }
}

function factors(parameters: ReadonlyMap<string, readonly number[]>): Shapes {
  return [...parameters].flatMap(([name, [rows = 0, ...rest]]): Shapes => {
    if (rest.length === 0) return [];
    const layer = `unet.${name.slice(0, -'.weight'.length)}`;
    return [
      [`${layer}.lora_A.weight`, [rank, ...rest]],
      [`${layer}.lora_B.weight`, [rows, rank, ...rest.slice(1).map(() => 1)]],
    ];
  });
}

const sizeOf = (shape: readonly number[]) => shape.reduce((product, size) => product * size, 1);

/** Random tensors whose spread keeps activations near one. */
function writeTensors(path: string, shapes: Shapes): void {
  let end = 0;
  const entries = shapes.map(([key, shape]) => {
    const begin = end;
    end += 4 * sizeOf(shape);
    return [key, { dtype: 'F32', shape, data_offsets: [begin, end] }];
  });
  const written = JSON.stringify(Object.fromEntries(entries));
  const header = written.padEnd(Math.ceil(written.length / 8) * 8);
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(BigInt(header.length));
  const file = openSync(path, 'w');
  writeSync(file, Buffer.concat([prefix, Buffer.from(header)]));
  const noise = Float32Array.from({ length: 1 << 20 }, () => Math.random() * 3.4 - 1.7);
  for (const [, shape] of shapes) {
    let left = sizeOf(shape);
    const spread = 0.3 / Math.sqrt(left / (shape[0] ?? 1));
    const scaled = noise.map((value) => value * spread);
    for (; left > 0; left -= scaled.length) {
      const part = scaled.subarray(0, left);
      writeSync(file, new Uint8Array(part.buffer, 0, part.byteLength));
    }
  }
  closeSync(file);
}
