// Networks that were compiled with AOTInductor, their weights outside.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { cpSync, existsSync, rmSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { promisify } from 'node:util';

import { readJsonObject } from '../../lib/checkpoints/json.js';
import { memoryStats, Tensor, UNet } from '../../lib/index.js';
import { callAsync, native } from '../../lib/native.js';
import { canonicalArchitecture } from '../../lib/networks/architecture.js';
import { Network } from '../../lib/networks/network.js';
import { packageRoot } from '../../lib/package-root.js';
import { ensurePython } from '../../scripts/python.js';
import { noise } from '../adapter-files.js';
import { distance } from '../drawing.js';
import { readArrays, writeArrays } from '../safetensors-writer.js';
import { pythonEnvironment, runFolder } from './workspace.js';

const golden = join(packageRoot, 'test', 'golden', 'pipelines');
process.env.TORCHBRUSH_PROGRAMS = join(golden, 'programs');
const className = 'UNet2DConditionModel';
const nothing = { tensors: 0, tensorBytes: 0, networks: 0 };
const placement = { dtype: 'float32', device: 'cpu' } as const;
const trusted = { ...placement, trustTorchScript: true };
const sizes = { batch: 2, height: 16, width: 12, length: 9 };

const python = await ensurePython({ log: (line) => console.error(line) });
const { folder, remove } = await runFolder();
after(remove);
const unet = join(folder, 'compiled');
const file = join(unet, 'model.pt2');
const weights = join(unet, 'diffusion_pytorch_model.safetensors');
cpSync(join(golden, 'checkpoint', 'unet'), unet, { recursive: true });
if (!existsSync(file)) {
  const config = await readJsonObject(join(unet, 'config.json'));
  const request = join(folder, 'request.json');
  const program = { name: 'unet', ...canonicalArchitecture(className, config) };
  await writeFile(request, JSON.stringify({ programs: [program] }));
  const script = join(packageRoot, 'scripts', 'export', 'aoti.py');
  const args = [script, '--request', request, '--case', JSON.stringify(sizes), '--out', file];
  await promisify(execFile)(python, args, { env: pythonEnvironment });
}

/** What the UNet predicts, by its program or by its package. */
async function predict(options: object = {}, batch = sizes.batch): Promise<Float32Array> {
  const network = await Network.load(unet, className, { ...placement, ...options });
  try {
    const { height, width, length } = sizes;
    const depth = network.config.cross_attention_dim as number;
    const random = (shape: number[], seed: number) =>
      Tensor.fromArray(
        noise(
          shape.reduce((a, b) => a * b, 1),
          seed,
        ),
        shape,
      );
    using sample = random([batch, 4, height, width], 1);
    using text = random([batch, length, depth], 2);
    using predicted = await new UNet(network).predict(sample, 321, text);
    return await predicted.toFloat32Array();
  } finally {
    network.dispose();
  }
}

test('a package computes what the program computes, with the weights of its folder', async () => {
  const plain = await predict();
  assert.ok(distance(await predict(trusted), plain) < 1e-5);
  const arrays = readArrays(weights);
  const saved = new Map(arrays);
  // The smallest weights are the ones that compilers like to write into the code.
  for (const name of ['conv_out.bias', 'conv_in.weight']) {
    const array = arrays.get(name);
    assert.ok(array !== undefined);
    // In float16: the same numbers in reverse.
    const values = new Uint16Array(Uint8Array.from(array.data).buffer).reverse();
    arrays.set(name, { ...array, data: new Uint8Array(values.buffer) });
    writeArrays(weights, arrays);
    const changed = await predict();
    assert.ok(distance(changed, plain) > 1e-2, name);
    assert.ok(distance(await predict(trusted), changed) < 1e-4, name);
  }
  writeArrays(weights, saved);
  assert.deepEqual(memoryStats(), nothing);
});

test('a package without its weights does not run', async () => {
  const core = native();
  const network = await callAsync(() => core.loadPackage(file, 'cpu', ['forward']));
  try {
    await assert.rejects(
      callAsync(() => network.run('forward', [], ['sample'], ['sample'])),
      {
        code: 'ERR_PROGRAM',
        message: /has not been given its weights/,
      },
    );
    await assert.rejects(
      callAsync(() => network.fill('forward', [], 'float32')),
      {
        code: 'ERR_PROGRAM',
        message: /has a constant model\..* that no weight fills/,
      },
    );
    await assert.rejects(
      callAsync(() => network.run('forward', [], ['sample'], ['sample'])),
      {
        message: /has not been given its weights/,
      },
    );
    await assert.rejects(
      callAsync(() => core.loadPackage(file, 'cpu', ['encode'])),
      {
        code: 'ERR_CHECKPOINT',
      },
    );
  } finally {
    network.dispose();
  }
  assert.deepEqual(memoryStats(), nothing);
});

test('sizes, dtypes and weights that a package is not made for are refused before they are used', async () => {
  await assert.rejects(predict(trusted, 1), {
    code: 'ERR_PROGRAM',
    message:
      /compiled for sample as float32 \[2, 4, 16, 12\] and received float32 \[1, 4, 16, 12\]/,
  });
  await assert.rejects(predict({ ...trusted, dtype: 'bfloat16' }), {
    code: 'ERR_CHECKPOINT',
    message: /compiled for float32 on cpu/,
  });
  const arrays = readArrays(weights);
  const saved = new Map(arrays);
  const bias = arrays.get('conv_out.bias');
  assert.ok(bias !== undefined);
  arrays.set('conv_out.bias', { ...bias, shape: [3], data: bias.data.slice(0, 6) });
  writeArrays(weights, arrays);
  await assert.rejects(predict(trusted), {
    code: 'ERR_CHECKPOINT',
    message: /needs conv_out\.bias as \[4\], and it is \[3\]/,
  });
  arrays.delete('conv_out.bias');
  writeArrays(weights, arrays);
  await assert.rejects(predict(trusted), {
    code: 'ERR_CHECKPOINT',
    message: /needs the weight conv_out\.bias/,
  });
  writeArrays(weights, saved);
  rmSync(weights);
  await assert.rejects(predict(placement), {
    code: 'ERR_UNTRUSTED',
    message: /model\.pt2 holds code/,
  });
  writeArrays(weights, saved);
  assert.deepEqual(memoryStats(), nothing);
});
