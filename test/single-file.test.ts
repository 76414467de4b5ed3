// Checkpoints in one file of the original layout, full size but empty (holes take no room on a disk):
// names, shapes and places as diffusers' own conversion gives them.
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { gunzipSync } from 'node:zlib';

import { readSafetensorsHeader } from '../lib/checkpoints/safetensors.js';
import { openSingleFile } from '../lib/checkpoints/single-file.js';
import { schedulerFromConfig } from '../lib/index.js';
import { architectureClasses, canonicalArchitecture } from '../lib/networks/architecture.js';
import { packageRoot } from '../lib/package-root.js';
import { demoModel, temporaryFolder } from './helpers.js';
import { writeParts } from './safetensors-writer.js';
import { SavedTensor, writeSaved } from './torch-save-writer.js';

interface Golden {
  /** What diffusers takes it for. */
  type: string;
  file: [name: string, shape: number[]][];
  components: Record<
    string,
    {
      config: Record<string, unknown>;
      /** With the tensor of the file, unless it was cut or turned. */
      tensors: [name: string, shape: number[], source: string | null][];
    }
  >;
  scheduler?: Record<string, unknown>;
}

const packed = readFileSync(join(packageRoot, 'test/golden/single-files.json.gz'));
const golden = JSON.parse(gunzipSync(packed).toString('utf8')) as Record<string, Golden>;

type Tensors = Golden['file'];

/** A file of zeros in float16. */
function writeEmpty(file: string, tensors: Tensors): void {
  let end = 0;
  const entries = tensors.map(([name, shape]) => {
    const begin = end;
    end += 2 * shape.reduce((a, b) => a * b, 1);
    return [name, { dtype: 'F16', shape, data_offsets: [begin, end] }] as const;
  });
  const header = JSON.stringify(Object.fromEntries(entries));
  writeParts(file, header, new Uint8Array());
  truncateSync(file, 8 + Buffer.byteLength(header) + end);
}

function goldenOf(name: string): Golden {
  const found = golden[name];
  assert.ok(found !== undefined);
  return found;
}

const classNames: Record<string, string> = {
  sd1: 'StableDiffusionPipeline',
  sd2: 'StableDiffusionPipeline',
  xl: 'StableDiffusionXLPipeline',
  refiner: 'StableDiffusionXLImg2ImgPipeline',
  controlnet: 'ControlNetModel',
  'controlnet-bare': 'ControlNetModel',
  'controlnet-xl': 'ControlNetModel',
  autoencoder: 'AutoencoderKL',
};

for (const [form, className] of Object.entries(classNames)) {
  test(`the tensors of ${form} are those of diffusers' conversion`, async (context) => {
    const { file: tensors, components, scheduler } = goldenOf(form);
    const file = join(temporaryFolder(context), 'x.safetensors');
    writeEmpty(file, tensors);
    const stored = await readSafetensorsHeader(file);
    const opened = await openSingleFile(file);
    assert.equal(opened.className, className);
    assert.deepEqual([...opened.components.keys()].sort(), Object.keys(components).sort());
    for (const [name, expected] of Object.entries(components)) {
      const ours = opened.components.get(name);
      assert.ok(ours !== undefined);
      const shapes = [...ours.tensors].map(([key, { shape }]) => [key, shape]);
      const theirs = expected.tensors.map(([key, shape]) => [key, shape]);
      assert.deepEqual(shapes.sort(), theirs.sort(), name);
      for (const [key, , source] of expected.tensors) {
        const tensor = ours.tensors.get(key);
        if (source !== null) assert.deepEqual(tensor, stored.get(source), key);
      }
      assert.equal(ours.className, expected.config._class_name);
      if (!architectureClasses.includes(ours.className)) continue;
      assert.equal(
        canonicalArchitecture(ours.className, ours.config).key,
        canonicalArchitecture(ours.className, expected.config).key,
      );
    }
    if (scheduler === undefined) return assert.equal(opened.scheduler, undefined);
    const { _diffusers_version: _, ...theirs } = scheduler;
    assert.deepEqual(
      schedulerFromConfig(opened.scheduler ?? {}).config,
      schedulerFromConfig(theirs).config,
    );
  });
}

/** What diffusers' files say that no class default does. */
test('the figures that pipelines calculate with are the published ones', async (context) => {
  const file = join(temporaryFolder(context), 'x.safetensors');
  for (const form of ['sd1', 'sd2', 'xl', 'refiner', 'autoencoder']) {
    const { file: tensors, components } = goldenOf(form);
    writeEmpty(file, tensors);
    const opened = await openSingleFile(file);
    for (const [name, { config }] of Object.entries(components)) {
      const ours = opened.components.get(name)?.config ?? {};
      for (const [field, value] of Object.entries(ours)) {
        assert.deepEqual(value, config[field], `${form} ${name} ${field}`);
      }
      for (const field of ['sample_size', 'eos_token_id', 'num_hidden_layers', 'hidden_size']) {
        if (config[field] !== undefined) assert.ok(field in ours, `${form} ${name} ${field}`);
      }
    }
  }
});

test('what model_index.json would say beside the parts is known', async (context) => {
  const file = join(temporaryFolder(context), 'x.safetensors');
  const values = { xl: { forceZerosForEmptyPrompt: true }, sd1: {} };
  for (const [form, expected] of Object.entries(values)) {
    writeEmpty(file, goldenOf(form).file);
    assert.deepEqual((await openSingleFile(file)).values, expected);
  }
});

test("OpenCLIP's fused attention is cut by rows, its projection turned", async (context) => {
  const { file: tensors } = goldenOf('xl');
  const file = join(temporaryFolder(context), 'x.safetensors');
  writeEmpty(file, tensors);
  const stored = await readSafetensorsHeader(file);
  const prefix = 'conditioner.embedders.1.model.';
  const place = (name: string) => stored.get(`${prefix}${name}`)?.offset ?? Number.NaN;
  const ours = (await openSingleFile(file)).components.get('text_encoder_2')?.tensors;
  const attention = 'encoder.layers.31.self_attn';
  for (const [i, part] of ['q_proj', 'k_proj', 'v_proj'].entries()) {
    const source = 'transformer.resblocks.31.attn.in_proj_';
    assert.deepEqual(ours?.get(`${attention}.${part}.weight`), {
      ...{ file, dtype: 'float16', shape: [1280, 1280] },
      offset: place(`${source}weight`) + i * 2 * 1280 * 1280,
    });
    assert.deepEqual(ours?.get(`${attention}.${part}.bias`), {
      ...{ file, dtype: 'float16', shape: [1280] },
      offset: place(`${source}bias`) + i * 2 * 1280,
    });
  }
  assert.deepEqual(ours?.get('text_projection.weight'), {
    ...{ file, dtype: 'float16', shape: [1280, 1280], strides: [1, 1280] },
    offset: place('text_projection'),
  });
});

test('parts that a file leaves out are missing, and what belongs to none is passed over', async (context) => {
  const file = join(temporaryFolder(context), 'x.safetensors');
  const unet = goldenOf('sd1').file.filter(([name]) => name.startsWith('model.diffusion_model.'));
  writeEmpty(file, [...unet, ['model_ema.decay', []], ['betas', [1000]]]);
  const { components } = await openSingleFile(file);
  assert.deepEqual([...components.keys()], ['unet']);
});

test('a tensor that no rename knows is kept, so that loading names it', async (context) => {
  const file = join(temporaryFolder(context), 'x.safetensors');
  const name = 'model.diffusion_model.input_blocks.1.0.adapter.weight';
  writeEmpty(file, [...goldenOf('sd1').file, [name, [1]]]);
  const { components } = await openSingleFile(file);
  assert.ok(components.get('unet')?.tensors.has('down_blocks.0.resnets.0.adapter.weight'));
});

test('a ControlNet beside a whole checkpoint is what the file is for', async (context) => {
  const file = join(temporaryFolder(context), 'x.safetensors');
  writeEmpty(file, [...goldenOf('sd1').file, ...goldenOf('controlnet').file]);
  const { className, components } = await openSingleFile(file);
  assert.equal(className, 'ControlNetModel');
  assert.equal(components.get('controlnet')?.tensors.size, 340);
});

test('a .ckpt is read as torch.save wrote it', async (context) => {
  const file = join(temporaryFolder(context), 'x.ckpt');
  const none = { key: '0', type: 'HalfStorage', elements: 1, data: new Uint8Array(2) };
  const saved = goldenOf('sd1').file.map(([name, shape]) => {
    // One number stands for all.
    const strides = shape.map(() => 0);
    return [name, new SavedTensor(none, shape, strides)] as const;
  });
  writeSaved(file, new Map<string, never>([['state_dict', new Map(saved) as never]]));
  const { className, components } = await openSingleFile(file);
  assert.equal(className, 'StableDiffusionPipeline');
  assert.equal(components.get('unet')?.tensors.size, 686);
});

test('a folder of configurations stands in for the known figures', async (context) => {
  const folder = temporaryFolder(context);
  const file = join(folder, 'x.safetensors');
  const tensors: Tensors = [
    ['model.diffusion_model.input_blocks.0.0.weight', [80, 4, 3, 3]],
    ['model.diffusion_model.output_blocks.1.1.conv.bias', [80]],
    ['first_stage_model.decoder.up.2.upsample.conv.bias', [80]],
    ['cond_stage_model.transformer.text_model.final_layer_norm.bias', [128]],
  ];
  writeEmpty(file, tensors);
  await assert.rejects(openSingleFile(file), { message: /no architecture that is known/ });
  const opened = await openSingleFile(file, { config: demoModel });
  const config = (part: string, name = 'config.json') =>
    JSON.parse(readFileSync(join(demoModel, part, name), 'utf8')) as Record<string, unknown>;
  assert.equal(opened.className, 'StableDiffusionPipeline');
  assert.deepEqual(opened.components.get('unet')?.config, config('unet'));
  assert.deepEqual(opened.scheduler, config('scheduler', 'scheduler_config.json'));
  const names = [...opened.components.values()].flatMap(({ tensors: own }) => [...own.keys()]);
  // Three levels in the autoencoder, layers per block as the UNet's configuration has them.
  const { layers_per_block: layers } = config('unet');
  assert.deepEqual(names, [
    'conv_in.weight',
    `up_blocks.${Math.floor(1 / (Number(layers) + 1))}.upsamplers.0.conv.bias`,
    'decoder.up_blocks.0.upsamplers.0.conv.bias',
    'final_layer_norm.bias',
  ]);
});

test("a network's own configuration serves a file of one network", async (context) => {
  const folder = temporaryFolder(context);
  const file = join(folder, 'x.safetensors');
  writeEmpty(file, goldenOf('autoencoder').file);
  const config = join(folder, 'vae');
  mkdirSync(config);
  const figures = {
    _class_name: 'AutoencoderKL',
    block_out_channels: [1, 2, 3, 4],
    scaling_factor: 0.5,
  };
  writeFileSync(join(config, 'config.json'), JSON.stringify(figures));
  const { components } = await openSingleFile(file, { config });
  assert.deepEqual(components.get('vae')?.config, figures);
  await assert.rejects(openSingleFile(file, { config: join(demoModel, 'unet') }), {
    code: 'ERR_CHECKPOINT',
    message:
      /config\.json is for a UNet2DConditionModel; expected ControlNetModel or AutoencoderKL/,
  });
});

const unetInput = 'model.diffusion_model.input_blocks.0.0.weight';
for (const [what, tensors] of Object.entries<Tensors>({
  'a LoRA': [['lora_unet_mid_block_attentions_0.lora_up.weight', [4, 4]]],
  'an inpainting model': goldenOf('sd1').file.map(([name, shape]) =>
    name === unetInput ? [name, [320, 9, 3, 3]] : [name, shape],
  ),
  'a model with a scheduler of its own': [...goldenOf('xl').file, ['edm_mean', [1, 4, 1, 1]]],
  'a text encoder alone': goldenOf('sd1').file.filter(([name]) => name.startsWith('cond_stage')),
})) {
  test(`${what} is refused with what to do`, async (context) => {
    const file = join(temporaryFolder(context), 'x.safetensors');
    writeEmpty(file, tensors);
    await assert.rejects(openSingleFile(file), {
      code: 'ERR_CHECKPOINT',
      message: /no architecture that is known.*Stable Diffusion XL.*config: 'FOLDER'/,
    });
  });
}

test('what is no file, or no checkpoint, is refused', async (context) => {
  const folder = temporaryFolder(context);
  for (const path of [undefined, null, '', 7]) {
    await assert.rejects(openSingleFile(path as string), { code: 'ERR_INVALID_ARGUMENT' });
  }
  const file = join(folder, 'x.safetensors');
  await assert.rejects(openSingleFile(file), { message: /x\.safetensors is missing/ });
  await assert.rejects(openSingleFile(folder), { code: 'ERR_CHECKPOINT', message: /is no file/ });
  writeFileSync(file, 'something else');
  await assert.rejects(openSingleFile(file), { message: /no safetensors file/ });
  writeEmpty(file, goldenOf('autoencoder').file);
  await assert.rejects(openSingleFile(file, { config: join(folder, 'none') }), {
    code: 'ERR_CHECKPOINT',
    message: /There is no checkpoint folder/,
  });
  await assert.rejects(openSingleFile(file, { config: demoModel }), {
    code: 'ERR_CHECKPOINT',
    message: /holds no network of a StableDiffusionPipeline/,
  });
});
