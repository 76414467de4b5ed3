// Pictures that go through an autoencoder in tiles, as diffusers cuts and blends them.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { promisify } from 'node:util';

import { Generator, memoryStats, Tensor } from '../../lib/index.js';
import { Autoencoder } from '../../lib/networks/autoencoder.js';
import { AutoencoderTiny } from '../../lib/networks/autoencoder-tiny.js';
import { MoVQ } from '../../lib/networks/movq.js';
import { Network } from '../../lib/networks/network.js';
import { linearCombination } from '../../lib/ops.js';
import { packageRoot } from '../../lib/package-root.js';
import { ensurePython } from '../../scripts/python.js';
import { distance } from '../drawing.js';
import type { TensorFile } from './case.js';
import {
  exportCheckpointPrograms,
  pythonEnvironment,
  pythonScripts,
  readTensorFile,
  runFolder,
} from './workspace.js';

const checkpoint = join(packageRoot, 'test', 'golden', 'pipelines', 'checkpoint');
const python = await ensurePython({ log: (line) => console.error(line) });
const { folder, remove } = await runFolder();
after(remove);
await promisify(execFile)(python, [join(pythonScripts, 'tiling.py'), checkpoint, folder], {
  env: pythonEnvironment,
});
await exportCheckpointPrograms(python, [checkpoint, folder]);
const answers = JSON.parse(await readFile(join(folder, 'answers.json'), 'utf8')) as Record<
  string,
  TensorFile
>;
const placement = { dtype: 'float32', device: 'cpu' } as const;

async function read(name: string): Promise<Tensor> {
  const file = answers[name] as TensorFile;
  return Tensor.fromArray(await readTensorFile(file), file.shape);
}

async function differenceFrom(name: string, actual: Tensor): Promise<number> {
  const file = answers[name] as TensorFile;
  assert.deepEqual([...actual.shape], file.shape, name);
  return distance(await actual.toFloat32Array(), await readTensorFile(file));
}

async function assertClose(actual: Tensor, name: string): Promise<void> {
  const difference = await differenceFrom(name, actual);
  assert.ok(difference < 1e-4, `${name} differs by ${difference}`);
}

for (const name of ['both', 'wide', 'sliver']) {
  for (const slicing of [false, true]) {
    const how = slicing ? 'picture by picture' : 'all pictures at once';
    test(`AutoencoderKL in tiles, ${name}, ${how}`, async () => {
      const before = memoryStats();
      const network = await Network.load(join(checkpoint, 'vae'), 'AutoencoderKL', placement);
      try {
        const vae = new Autoencoder(network);
        vae.tiling = true;
        vae.slicing = slicing;
        using pixels = await read(`kl.${name}.pixels`);
        using latents = await vae.encode(pixels, new Generator().manualSeed(7));
        await assertClose(latents, `kl.${name}.latents`);
        using raw = await read(`kl.${name}.raw`);
        using scaled = linearCombination([vae.scalingFactor], [raw]);
        using decoded = await vae.decode(scaled);
        await assertClose(decoded, `kl.${name}.decoded`);
        // What is compared above would not do without tiles.
        assert.ok((await differenceFrom(`kl.${name}.whole`, decoded)) > 1e-2);
        vae.tiling = false;
        using whole = await vae.decode(scaled);
        await assertClose(whole, `kl.${name}.whole`);
      } finally {
        network.dispose();
      }
      assert.deepEqual(memoryStats(), before);
    });
  }
}

test('AutoencoderTiny in tiles', async () => {
  const before = memoryStats();
  const vae = await AutoencoderTiny.load(join(folder, 'vae'), placement);
  try {
    vae.tiling = true;
    using pixels = await read('tiny.pixels');
    using latents = await vae.encode(pixels);
    await assertClose(latents, 'tiny.latents');
    using raw = await read('tiny.raw');
    using decoded = await vae.decode(raw);
    await assertClose(decoded, 'tiny.decoded');
  } finally {
    vae.network.dispose();
  }
  assert.deepEqual(memoryStats(), before);
});

test('a picture no larger than a tile goes through whole', async () => {
  const network = await Network.load(join(checkpoint, 'vae'), 'AutoencoderKL', placement);
  try {
    for (const coder of [new Autoencoder(network), new MoVQ(network)]) {
      using raw = await read('kl.wide.raw');
      using part = linearCombination([1], [raw]);
      const draw = async (): Promise<Float32Array> => {
        using small = Tensor.fromArray(
          (await part.toFloat32Array()).slice(0, 4 * 24 * 24),
          [1, 4, 24, 24],
        );
        using decoded = await coder.decode(small);
        return await decoded.toFloat32Array();
      };
      const plain = await draw();
      coder.tiling = true;
      assert.deepEqual(await draw(), plain);
    }
  } finally {
    network.dispose();
  }
});
