// Networks that were saved as TorchScript archives, with weights inside, in Python.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { cpSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { promisify } from 'node:util';

import {
  memoryStats,
  StableDiffusionImg2ImgPipeline,
  type Tensor,
  UNet,
  UntrustedFileError,
} from '../../lib/index.js';
import { Network } from '../../lib/networks/network.js';
import { full } from '../../lib/ops.js';
import { packageRoot } from '../../lib/package-root.js';
import { ensurePython } from '../../scripts/python.js';
import { someLayers, write } from '../adapter-files.js';
import { distance, pixelsOf } from '../drawing.js';
import { pythonEnvironment, pythonScripts, runFolder } from './workspace.js';

const golden = join(packageRoot, 'test', 'golden', 'pipelines');
const checkpoint = join(golden, 'checkpoint');
process.env.TORCHBRUSH_PROGRAMS = join(golden, 'programs');
const python = await ensurePython({ log: (line) => console.error(line) });
const { folder, remove } = await runFolder();
after(remove);
const isWeights = (path: string) => path.endsWith('.safetensors');
cpSync(checkpoint, folder, { recursive: true, filter: (path) => !isWeights(path) });
await promisify(execFile)(python, [join(pythonScripts, 'archives.py'), checkpoint, folder], {
  env: pythonEnvironment,
});
const placement = { dtype: 'float32', device: 'cpu' } as const;
const nothing = { tensors: 0, tensorBytes: 0, networks: 0 };

/** The sizes that the archives were traced at. */
const options = { numInferenceSteps: 3, strength: 1, guidanceScale: 5 };

test('a pipeline of archives draws what the same weights draw', async () => {
  {
    using plain = await StableDiffusionImg2ImgPipeline.fromPretrained(checkpoint);
    using pipe = await StableDiffusionImg2ImgPipeline.fromPretrained(folder, {
      trustTorchScript: true,
    });
    assert.ok(distance(await pixelsOf(pipe, options), await pixelsOf(plain, options)) < 1e-4);
    assert.equal(memoryStats().networks, 7);
    pipe.enableVaeSlicing();
    pipe.enableModelCpuOffload();
    await pixelsOf(pipe, options);
  }
  assert.deepEqual(memoryStats(), nothing);
});

test('a name that is not trusted is refused, and named', async () => {
  for (const trustTorchScript of [undefined, false]) {
    await assert.rejects(
      StableDiffusionImg2ImgPipeline.fromPretrained(folder, { trustTorchScript } as object),
      (error: Error) =>
        error instanceof UntrustedFileError && /model\.pt holds code/.test(error.message),
    );
  }
  assert.deepEqual(memoryStats(), nothing);
});

async function predict(file: string, timestep: number): Promise<Float32Array> {
  cpSync(join(folder, file), join(folder, 'unet', 'model.pt'));
  const network = await Network.load(join(folder, 'unet'), 'UNet2DConditionModel', {
    ...placement,
    trustTorchScript: true,
  });
  try {
    using sample = full([2, 4, 16, 16], 0.5);
    using text = full([2, 16, network.config.cross_attention_dim as number], 0.25);
    using noise: Tensor = await new UNet(network).predict(sample, timestep, text);
    return await noise.toFloat32Array();
  } finally {
    network.dispose();
  }
}

test('archives may have control flow, return outputs by name, and fail', async () => {
  const plain = await predict('unet-raises.pt', 10);
  assert.deepEqual(await predict('unet-dict.pt', 10), plain);
  assert.ok(plain.every(Number.isFinite));
  await assert.rejects(predict('unet-raises.pt', -1), {
    code: 'ERR_PROGRAM',
    message: /failed in forward:.*time does not run backwards/s,
  });
  assert.deepEqual(memoryStats(), nothing);
});

test('inputs, outputs and methods that an archive lacks are typed errors', async () => {
  const path = join(folder, 'unet');
  cpSync(join(folder, 'unet-dict.pt'), join(path, 'model.pt'));
  const trusted = { ...placement, trustTorchScript: true };
  const network = await Network.load(path, 'UNet2DConditionModel', trusted);
  try {
    using sample = full([2, 4, 16, 16], 0.5);
    using timestep = full([1], 1);
    const inputs = { sample, timestep };
    await assert.rejects(
      network.run('forward', inputs, ['sample']),
      /needs the input encoder_hidden_states/,
    );
    using text = full([2, 16, network.config.cross_attention_dim as number], 0.25);
    const all = { ...inputs, encoder_hidden_states: text };
    await assert.rejects(network.run('forward', all, ['depth']), {
      code: 'ERR_PROGRAM',
      message: /returned no depth but other, sample/,
    });
    await assert.rejects(
      network.run('forward', { ...all, time_ids: text }, ['sample']),
      /no input time_ids/,
    );
    // Sizes that do not fit fail inside libtorch.
    using wide = full([2, 16, 3], 0.25);
    await assert.rejects(
      network.run('forward', { ...all, encoder_hidden_states: wide }, ['sample']),
      (error: { code?: string }) => /^ERR_(TORCH|PROGRAM)$/.test(error.code ?? ''),
    );
  } finally {
    network.dispose();
  }
  await assert.rejects(Network.load(path, 'AutoencoderKL', trusted), {
    code: 'ERR_CHECKPOINT',
    message: /no method encode/,
  });
  assert.deepEqual(memoryStats(), nothing);
});

test('adapters cannot change an archive, and say so', async () => {
  const file = write(folder, 'adapter', someLayers(1));
  using pipe = await StableDiffusionImg2ImgPipeline.fromPretrained(folder, {
    trustTorchScript: true,
  });
  await assert.rejects(pipe.loadLoraWeights(file), { code: 'ERR_CHECKPOINT' });
  assert.deepEqual(pipe.getListAdapters(), []);
  rmSync(join(folder, 'unet', 'model.pt'));
  await assert.rejects(
    Network.load(join(folder, 'unet'), 'UNet2DConditionModel', {
      ...placement,
      trustTorchScript: true,
    }),
    { code: 'ERR_CHECKPOINT', message: /has no weights/ },
  );
});
