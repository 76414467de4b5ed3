// Files as torch and diffusers write them themselves: .bin weights, and checkpoints in one file of the
// original layout against diffusers' own conversion, value by value.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { after, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { isHarmless } from '../../lib/checkpoints/layouts.js';
import { readSafetensorsHeader } from '../../lib/checkpoints/safetensors.js';
import { openSingleFile } from '../../lib/checkpoints/single-file.js';
import {
  bytesPerElement,
  type StoredTensor,
  stridesOf,
} from '../../lib/checkpoints/stored-tensor.js';
import { readTorchSave } from '../../lib/checkpoints/torch-save.js';
import {
  ControlNetModel,
  configure,
  Generator,
  memoryStats,
  StableDiffusionImg2ImgPipeline,
  StableDiffusionPipeline,
} from '../../lib/index.js';
import { randn } from '../../lib/ops.js';
import { ensurePython } from '../../scripts/python.js';
import {
  exportCheckpointPrograms,
  makeCheckpoints,
  pythonEnvironment,
  runFolder,
} from './workspace.js';

configure({ threads: 1 });

const say = (line: string) => console.error(`parity: ${line}`);
const python = await ensurePython({ log: say });
const { folder, remove } = await runFolder();
after(remove);
const preset = 'three-levels:3';
const checkpoint = (await makeCheckpoints(python, [preset]))[preset];
say('writing files with torch and diffusers');
const script = fileURLToPath(new URL('files/write_files.py', import.meta.url));
await promisify(execFile)(python, [script, checkpoint, folder], { env: pythonEnvironment });
say('exporting the programs of their architectures');
await exportCheckpointPrograms(
  python,
  [checkpoint],
  ['controlnet-config/controlnet', 'xl-config/controlnet'].map(single),
);

function single(name: string): string {
  return join(folder, 'single', name);
}

const contents = new Map<string, Buffer>();

/** A tensor's bytes in a row. */
function valuesOf(tensor: StoredTensor): Buffer {
  const bytes = contents.get(tensor.file) ?? readFileSync(tensor.file);
  contents.set(tensor.file, bytes);
  const { shape, offset, dtype } = tensor;
  const size = bytesPerElement[dtype];
  const count = shape.reduce((a, b) => a * b, 1);
  if (tensor.strides === undefined) return bytes.subarray(offset, offset + count * size);
  const strides = stridesOf(tensor);
  const row = Buffer.alloc(count * size);
  for (let index = 0; index < count; index += 1) {
    let rest = index;
    let at = offset;
    for (let i = shape.length - 1; i >= 0; i -= 1) {
      at += (rest % (shape[i] as number)) * (strides[i] as number) * size;
      rest = Math.floor(rest / (shape[i] as number));
    }
    bytes.copy(row, index * size, at, at + size);
  }
  return row;
}

type Tensors = ReadonlyMap<string, StoredTensor>;

function assertSame(ours: Tensors, theirs: Tensors): void {
  assert.deepEqual([...ours.keys()].sort(), [...theirs.keys()].sort());
  for (const [name, expected] of theirs) {
    const tensor = ours.get(name);
    assert.ok(tensor !== undefined);
    assert.equal(tensor.dtype, expected.dtype, name);
    assert.deepEqual(tensor.shape, expected.shape, name);
    assert.ok(valuesOf(tensor).equals(valuesOf(expected)), `${name} has other values`);
  }
}

describe('what torch.save writes is read as torch meant it', async () => {
  const files = await readdir(join(folder, 'tensors'));
  for (const file of files.filter((name) => name.endsWith('.bin'))) {
    test(basename(file, '.bin'), async () => {
      const path = join(folder, 'tensors', file);
      const expected = await readSafetensorsHeader(path.replace('.bin', '.safetensors'));
      assertSame(await readTorchSave(path), expected);
    });
  }

  test('the form before PyTorch 1.6 is refused with the way out', async () => {
    await assert.rejects(readTorchSave(join(folder, 'legacy.bin')), {
      code: 'ERR_CHECKPOINT',
      message: /before PyTorch 1\.6.*Convert it with a Python/,
    });
  });

  test('the command that the refusal names converts the file', async () => {
    const old = join(folder, 'legacy.bin');
    const fresh = join(folder, 'converted.bin');
    const { message } = await readTorchSave(old).then(
      () => ({ message: '' }),
      (error: Error) => error,
    );
    const program = /python -c "(.*)" FILE NEW_FILE/.exec(message)?.[1];
    assert.ok(program !== undefined);
    await promisify(execFile)(python, ['-c', program, old, fresh], { env: pythonEnvironment });
    assert.deepEqual([...(await readTorchSave(fresh)).keys()], ['w']);
  });
});

async function draw(path: string): Promise<Float32Array> {
  return await drawWith(await StableDiffusionPipeline.fromPretrained(path));
}

/** Disposes the pipeline. */
async function drawWith(pipeline: StableDiffusionPipeline): Promise<Float32Array> {
  using pipe = pipeline;
  const options = { prompt: 'a fox', width: 32, height: 24, numInferenceSteps: 2, seed: 5 };
  const { images } = await pipe.generate({ ...options, outputType: 'tensor' });
  using picture = images;
  return await picture.toFloat32Array();
}

describe('a checkpoint that diffusers saved with .bin weights draws the same picture', () => {
  for (const form of ['bin', 'shards']) {
    test(form, async () => {
      assert.deepEqual(await draw(join(folder, form)), await draw(checkpoint));
    });
  }
});

describe("single files hold the tensors of diffusers' conversion", () => {
  for (const [file, config] of Object.entries({
    'clip.safetensors': checkpoint,
    'clip-pickled.ckpt': checkpoint,
    'open-clip.safetensors': checkpoint,
    'xl.safetensors': single('xl-config'),
    'controlnet.safetensors': single('controlnet-config/controlnet'),
    'controlnet-xl.safetensors': single('xl-config/controlnet'),
  })) {
    test(file, async () => {
      const { components } = await openSingleFile(single(file), { config });
      const converted = single(file.replace(/\.\w+$/, ''));
      const names = (await readdir(converted)).map((name) => basename(name, '.safetensors'));
      assert.deepEqual([...components.keys()].sort(), names.sort());
      for (const [name, { className, tensors }] of components) {
        const expected = await readSafetensorsHeader(join(converted, `${name}.safetensors`));
        const used = [...tensors].filter(([key]) => !isHarmless(className, key));
        assertSame(new Map(used), expected);
      }
    });
  }
});

test('pipelines of single files draw what the folder draws', async () => {
  const before = memoryStats();
  const expected = await draw(checkpoint);
  for (const name of ['clip.safetensors', 'clip-pickled.ckpt', 'open-clip.safetensors']) {
    const options = { config: checkpoint, dtype: 'float32', device: 'cpu' } as const;
    const pipe = await StableDiffusionPipeline.fromSingleFile(single(name), options);
    assert.deepEqual(await drawWith(pipe), expected, name);
  }
  assert.deepEqual(memoryStats(), before);
});

test('a ControlNet of a single file answers what its folder does', async () => {
  const before = memoryStats();
  for (const [name, config] of [
    ['controlnet', 'controlnet-config/controlnet'],
    ['controlnet-xl', 'xl-config/controlnet'],
  ] as const) {
    const options = { dtype: 'float32', device: 'cpu' } as const;
    using plain = await ControlNetModel.fromPretrained(single(config), options);
    using net = await ControlNetModel.fromSingleFile(single(`${name}.safetensors`), {
      ...options,
      config: single(config),
    });
    assert.deepEqual(net.config, plain.config);
    assert.deepEqual(await residualsOf(net), await residualsOf(plain));
  }
  assert.deepEqual(memoryStats(), before);
  await assert.rejects(
    ControlNetModel.fromSingleFile(single('clip.safetensors'), { config: checkpoint }),
    { code: 'ERR_CHECKPOINT', message: /is a StableDiffusionPipeline, expected a ControlNetModel/ },
  );
});

async function residualsOf(net: ControlNetModel): Promise<Float32Array[]> {
  const generator = new Generator().manualSeed(3);
  using sample = randn([1, 4, 8, 8], { generator });
  using text = randn([1, 77, Number(net.config.cross_attention_dim)], { generator });
  using image = randn([1, 3, 64, 64], { generator });
  // What the nets for Stable Diffusion XL take besides.
  const { projection_class_embeddings_input_dim: added, addition_time_embed_dim: size } =
    net.config;
  using textEmbeds = randn([1, Number(added ?? 8) - 6 * Number(size ?? 0)], { generator });
  using timeIds = randn([1, 6], { generator });
  using residuals = await net.predict(sample, 500, text, image, { textEmbeds, timeIds });
  return await Promise.all(residuals.tensors.map((tensor) => tensor.toFloat32Array()));
}

test('a single file of one network is no pipeline', async () => {
  const loading = StableDiffusionImg2ImgPipeline.fromSingleFile(single('controlnet.safetensors'), {
    config: single('controlnet-config/controlnet'),
  });
  await assert.rejects(loading, { code: 'ERR_CHECKPOINT', message: /holds one network/ });
});
