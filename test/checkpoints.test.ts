// Loading: what is read from a checkpoint, what is told meanwhile, and who holds it afterwards.
import assert from 'node:assert/strict';
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';

import { openCheckpointFolder } from '../lib/checkpoints/folder.js';
import { parseJson } from '../lib/checkpoints/json.js';
import { readSafetensorsHeader } from '../lib/checkpoints/safetensors.js';
import {
  AutoPipelineForImage2Image,
  AutoPipelineForText2Image,
  configure,
  DPMSolverMultistepScheduler,
  Generator,
  type LoadProgress,
  memoryStats,
  PNDMScheduler,
  StableDiffusionImg2ImgPipeline,
  StableDiffusionPipeline,
} from '../lib/index.js';
import { readComponentConfig } from '../lib/networks/component-config.js';
import { bundledProgramFolder, findProgramRecords } from '../lib/networks/programs.js';
import { randn } from '../lib/ops.js';
import { stableDiffusion } from '../lib/pipelines/stable-diffusion.js';
import { demoCopy, demoModel, temporaryFolder } from './helpers.js';
import { type StoredArrays, writeArrays } from './safetensors-writer.js';

// Networks as small as this one gain nothing from threads and lose much on a busy machine.
configure({ threads: 1 });

const nothing = { tensors: 0, tensorBytes: 0, networks: 0 };
/** The text encoder, the UNet, and the autoencoder each way. */
const networksOfOne = 4;
after(() => assert.deepEqual(memoryStats(), nothing));

const draw = { prompt: 'a fox', height: 32, width: 32, numInferenceSteps: 2, seed: 1 };
const parts = ['scheduler', 'text_encoder', 'tokenizer', 'unet', 'vae'];

test('model_index.json is read: the class, the parts and not the ones left out', async () => {
  const { className, components, folder } = await openCheckpointFolder(demoModel);
  assert.equal(className, 'StableDiffusionPipeline');
  assert.deepEqual([...components.keys()].sort(), parts);
  assert.deepEqual(components.get('unet'), {
    library: 'diffusers',
    className: 'UNet2DConditionModel',
    folder: join(folder, 'unet'),
  });
});

test('numbers that JSON lacks are read as Python writes them, and only outside of texts', () => {
  const text =
    '{"a": -Infinity, "b": [Infinity, NaN], "NaN": "NaN", "c": "\\"Infinity", "d": "-Infinity"}';
  assert.deepEqual(parseJson(text), {
    a: Number.NEGATIVE_INFINITY,
    b: [Number.POSITIVE_INFINITY, Number.NaN],
    NaN: 'NaN',
    c: '"Infinity',
    d: '-Infinity',
  });
  for (const wrong of ['{"a": 1Infinity}', '{"a": -NaN}', '{"a": InfinityNaN}', '{"a": Infinity']) {
    assert.throws(() => parseJson(wrong), SyntaxError);
  }
});

test('a scheduler configuration with an infinity, as Python writes it, is read', async (context) => {
  const model = demoCopy(context);
  const file = join(model, 'scheduler', 'scheduler_config.json');
  const text = readFileSync(file, 'utf8');
  writeFileSync(file, text.replace('{', '{"lambda_min_clipped": -Infinity,'));
  using pipe = await StableDiffusionPipeline.fromPretrained(model);
  const { config } = DPMSolverMultistepScheduler.fromConfig(pipe.scheduler.config);
  assert.equal(config.lambdaMinClipped, Number.NEGATIVE_INFINITY);
  assert.ok(!config._useDefaultValues.includes('lambdaMinClipped'));
});

test('the header of a weight file gives each tensor its place', async (context) => {
  const file = join(temporaryFolder(context), 'x.safetensors');
  const arrays: StoredArrays = new Map([
    ['a', { dtype: 'I64', shape: [2], data: new Uint8Array(16) }],
    ['empty', { dtype: 'F32', shape: [0, 3], data: new Uint8Array() }],
    ['ü.weight', { dtype: 'BF16', shape: [1, 3], data: new Uint8Array(6) }],
    ['scalar', { dtype: 'F64', shape: [], data: new Uint8Array(8) }],
  ]);
  for (const start of ['aligned', 'odd'] as const) {
    writeArrays(file, arrays, { start });
    const dataStart = 8 + Number(readFileSync(file).readBigUInt64LE());
    const tensors = await readSafetensorsHeader(file);
    assert.deepEqual([...tensors.keys()], [...arrays.keys()]);
    assert.deepEqual(tensors.get('a'), { file, offset: dataStart, dtype: 'int64', shape: [2] });
    assert.deepEqual(tensors.get('ü.weight'), {
      file,
      offset: dataStart + 16,
      dtype: 'bfloat16',
      shape: [1, 3],
    });
    assert.equal(tensors.get('scalar')?.offset, dataStart + 22);
  }
});

test('loading tells of every part, and stays quiet afterwards', async () => {
  const told: LoadProgress[] = [];
  const pipe = await AutoPipelineForText2Image.fromPretrained(demoModel, {
    onProgress: (progress) => told.push(progress),
  });
  for (const status of ['loading', 'loaded'] as const) {
    const names = told.flatMap((progress) =>
      progress.status === status ? [progress.component] : [],
    );
    assert.deepEqual(names.sort(), parts);
  }
  assert.ok(told.every((progress) => progress.status !== 'downloading' && progress.count === 5));
  await pipe.generate(draw);
  assert.equal(told.length, 10);
  pipe.dispose();
});

test('loading that is aborted, or whose listener fails, leaves nothing loaded', async () => {
  const reason = new Error('enough');
  for (const component of parts) {
    const controller = new AbortController();
    const aborting = AutoPipelineForText2Image.fromPretrained(demoModel, {
      signal: controller.signal,
      onProgress: (progress) => {
        if ('component' in progress && progress.component === component) controller.abort(reason);
      },
    });
    await assert.rejects(aborting, reason);
    const failing = AutoPipelineForText2Image.fromPretrained(demoModel, {
      onProgress: (progress) => {
        if (progress.status === 'loaded' && progress.component === component) throw reason;
      },
    });
    await assert.rejects(failing, reason);
    assert.deepEqual(memoryStats(), nothing);
  }
});

test("the class of the pipeline is the task's, whichever the checkpoint was saved as", async (context) => {
  const model = demoCopy(context);
  const index = join(model, 'model_index.json');
  const json = JSON.parse(readFileSync(index, 'utf8')) as object;
  for (const task of ['', 'Img2Img', 'Inpaint']) {
    const name = `StableDiffusion${task}Pipeline`;
    writeFileSync(index, JSON.stringify({ ...json, _class_name: name }));
    using text = await AutoPipelineForText2Image.fromPretrained(model);
    using image = await AutoPipelineForImage2Image.fromPretrained(model);
    assert.ok(text instanceof StableDiffusionPipeline);
    assert.ok(image instanceof StableDiffusionImg2ImgPipeline);
  }
});

test("a pipeline of a class of one's own goes over to the other task", async () => {
  class Mine extends StableDiffusionPipeline {}
  using pipe = await StableDiffusionPipeline.fromPretrained(demoModel);
  Object.setPrototypeOf(pipe, Mine.prototype);
  using other = await AutoPipelineForImage2Image.fromPipe(pipe);
  assert.ok(other instanceof StableDiffusionImg2ImgPipeline);
});

test('fromPipe shares the networks, and the last holder frees them, in either order', async () => {
  for (const order of [0, 1]) {
    const text = await AutoPipelineForText2Image.fromPretrained(demoModel);
    const image = await AutoPipelineForImage2Image.fromPipe(text);
    assert.equal(image.components.unet, text.components.unet);
    assert.equal(image.components.tokenizer, text.components.tokenizer);
    assert.equal(memoryStats().networks, networksOfOne);
    const [first, second] = order === 0 ? [text, image] : [image, text];
    first.dispose();
    first.dispose();
    assert.equal(memoryStats().networks, networksOfOne);
    using again = await AutoPipelineForText2Image.fromPipe(second);
    await again.generate(draw);
    second.dispose();
    assert.equal(memoryStats().networks, networksOfOne);
    await again.generate(draw);
  }
  assert.deepEqual(memoryStats(), nothing);
});

test('parts that are given are neither read nor loaded, and outlive their owner', async (context) => {
  const model = demoCopy(context);
  for (const name of ['vae', 'tokenizer', 'scheduler'])
    rmSync(join(model, name), { recursive: true });
  const owner = await AutoPipelineForText2Image.fromPretrained(demoModel);
  const expected = await owner.generate(draw);
  const { vae, tokenizer, scheduler } = owner.components;
  using pipe = await AutoPipelineForText2Image.fromPretrained(model, { vae, tokenizer, scheduler });
  // The other text encoder and UNet.
  assert.equal(memoryStats().networks, networksOfOne + 2);
  owner.dispose();
  assert.equal(memoryStats().networks, networksOfOne);
  const { images } = await pipe.generate(draw);
  assert.deepEqual(images[0]?.data, expected.images[0]?.data);
});

test("undefined in place of a part means the checkpoint's, and the pipe's", async () => {
  const none = { vae: undefined, scheduler: undefined, dtype: undefined, variant: undefined };
  using pipe = await AutoPipelineForText2Image.fromPretrained(demoModel, none);
  using other = await AutoPipelineForText2Image.fromPipe(pipe, { vae: undefined });
  assert.equal(other.components.vae, pipe.components.vae);
});

test("a scheduler of one's own draws with its algorithm", async () => {
  using pipe = await AutoPipelineForText2Image.fromPretrained(demoModel);
  const scheduler = PNDMScheduler.fromConfig(pipe.scheduler.config);
  using other = await AutoPipelineForText2Image.fromPipe(pipe, { scheduler });
  assert.equal(other.scheduler.className, 'PNDMScheduler');
  assert.equal(pipe.scheduler.className, 'DDIMScheduler');
});

test('bfloat16 draws the same picture, but for its coarser numbers', async () => {
  using latents = randn([1, 4, 8, 8], { generator: new Generator().manualSeed(7) });
  const pictures: Uint8Array[] = [];
  for (const dtype of ['float32', 'bfloat16'] as const) {
    using pipe = await AutoPipelineForText2Image.fromPretrained(demoModel, { dtype });
    assert.equal(pipe.dtype, dtype);
    const { images } = await pipe.generate({ ...draw, guidanceScale: 1, latents });
    pictures.push(images[0]?.data ?? new Uint8Array());
  }
  const [a = new Uint8Array(), b = new Uint8Array()] = pictures;
  const difference =
    a.reduce((sum, value, i) => sum + Math.abs(value - (b[i] as number)), 0) / a.length;
  // 8 bits of mantissa: each of the few dozen layers adds an error of about 1/256 of its output.
  assert.ok(difference > 0 && difference < 4, `mean difference ${difference}`);
});

test('parts that do not belong together are told apart', async () => {
  using pipe = await StableDiffusionPipeline.fromPretrained(demoModel);
  const { components } = pipe;
  const misfit = (parts: typeof components) => stableDiffusion.misfit(parts, {});
  assert.equal(misfit(components), undefined);
  const { unet, vae, textEncoder } = components;
  const like = <Part extends object>(part: Part, changes: object): Part =>
    Object.assign(Object.create(part) as Part, changes);
  const inpainting = like(unet, {});
  Object.defineProperty(inpainting, 'inChannels', { value: 9 });
  assert.match(
    misfit({ ...components, unet: inpainting }) ?? '',
    /takes 9 channels and the vae makes 4/,
  );
  const changed = <Part extends { network: object }>(part: Part, network: object): Part => {
    const copy = like(part, {});
    Object.defineProperty(copy, 'network', { value: like(part.network, {}) });
    for (const [name, value] of Object.entries(network))
      Object.defineProperty(copy.network, name, { value });
    return copy;
  };
  const wide = like(textEncoder, {});
  Object.defineProperty(wide, 'width', { value: 768 });
  assert.match(misfit({ ...components, textEncoder: wide }) ?? '', /width 128 .* makes 768/);
  const short = changed(textEncoder, { config: { vocab_size: 1000 } });
  assert.match(
    misfit({ ...components, textEncoder: short }) ?? '',
    /tokenizer has 1500 tokens .* 1000/,
  );
  const elsewhere = changed(vae, { device: 'cuda:0' });
  assert.match(
    misfit({ ...components, vae: elsewhere }) ?? '',
    /float32 on cpu and the vae .* cuda:0/,
  );
});

test("programs of the user's own come first, and damaged ones are refused", async (context) => {
  const cache = temporaryFolder(context);
  const saved = process.env.TORCHBRUSH_PROGRAMS;
  process.env.TORCHBRUSH_PROGRAMS = cache;
  context.after(() => {
    if (saved === undefined) delete process.env.TORCHBRUSH_PROGRAMS;
    else process.env.TORCHBRUSH_PROGRAMS = saved;
  });
  const { architecture } = await readComponentConfig(
    join(demoModel, 'unet'),
    'UNet2DConditionModel',
  );
  const bundled = await findProgramRecords(architecture.key);
  const [record] = bundled?.records ?? [];
  assert.ok(record !== undefined && bundled?.folder === bundledProgramFolder);
  const folder = join(cache, architecture.key);
  mkdirSync(folder);
  const manifest = (programs: unknown) =>
    writeFileSync(join(folder, 'manifest.json'), JSON.stringify({ version: 1, programs }));
  const load = () => AutoPipelineForText2Image.fromPretrained(demoModel);

  manifest([record]);
  cpSync(join(bundledProgramFolder, record.file), join(folder, record.file));
  assert.equal((await findProgramRecords(architecture.key))?.folder, folder);
  (await load()).dispose();

  const unknown = { ...record, sha256: '0'.repeat(64) };
  const cases: [unknown, RegExp, string][] = [
    [[unknown], /is not the one its manifest describes.*export it again/, 'ERR_PROGRAM'],
    [
      [{ ...unknown, file: 'missing.pt.br' }],
      /missing\.pt\.br is missing or cannot be unpacked/,
      'ERR_PROGRAM',
    ],
    [
      [{ ...unknown, file: 'manifest.json.br' }],
      /manifest\.json\.br .* cannot be unpacked/,
      'ERR_PROGRAM',
    ],
  ];
  writeFileSync(join(folder, 'manifest.json.br'), 'not packed');
  for (const [programs, message, code] of cases) {
    manifest(programs);
    await assert.rejects(load, { code, message });
  }
  writeFileSync(join(folder, 'manifest.json'), '{');
  await assert.rejects(load, {
    code: 'ERR_CHECKPOINT',
    message: /manifest\.json is no valid JSON/,
  });
  assert.deepEqual(memoryStats(), nothing);
  // What is of no use there is passed over for the bundled one.
  for (const useless of [[null, 7, {}, { key: architecture.key }], 'none', []]) {
    manifest(useless);
    (await load()).dispose();
  }
});
