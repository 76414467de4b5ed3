import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { brotliDecompressSync } from 'node:zlib';
import { architectureClasses, canonicalArchitecture } from '../lib/networks/architecture.js';
import type { ProgramManifest } from '../lib/networks/export.js';
import { bundledArchitectures } from '../scripts/export/architectures.js';

type Config = Record<string, unknown>;

const repository = dirname(dirname(fileURLToPath(import.meta.url)));
const published =
  process.env.TORCHBRUSH_CONFIGS ?? join(repository, '..', 'shared', 'spec', 'configs');
const withoutPublished = existsSync(published) ? false : 'the published configs are not here';

const readJson = (...path: string[]): unknown => JSON.parse(readFileSync(join(...path), 'utf8'));

// Saved by today's libraries: scripts/export/golden_configs.py.
const fresh = readJson(repository, 'test', 'golden', 'architecture-configs.json') as Record<
  string,
  { className: string; config: Config }
>;

const keyOf = ({ className, config }: { className: string; config: Config }): string =>
  canonicalArchitecture(className, config).key;

const freshKey = (name: string): string => {
  const entry = fresh[name];
  assert.ok(entry !== undefined, name);
  return keyOf(entry);
};

const publishedKey = (className: string, path: string): string =>
  canonicalArchitecture(className, readJson(published, path, 'config.json') as Config).key;

const sd1Blocks = {
  down_block_types: [
    'CrossAttnDownBlock2D',
    'CrossAttnDownBlock2D',
    'CrossAttnDownBlock2D',
    'DownBlock2D',
  ],
  up_block_types: ['UpBlock2D', 'CrossAttnUpBlock2D', 'CrossAttnUpBlock2D', 'CrossAttnUpBlock2D'],
};

// The fields that diffusers 0.6 knew, with the figures of Stable Diffusion 1.
const oldUnet: Config = {
  _class_name: 'UNet2DConditionModel',
  _diffusers_version: '0.6.0',
  act_fn: 'silu',
  attention_head_dim: 8,
  block_out_channels: [320, 640, 1280, 1280],
  center_input_sample: false,
  cross_attention_dim: 768,
  ...sd1Blocks,
  downsample_padding: 1,
  flip_sin_to_cos: true,
  freq_shift: 0,
  in_channels: 4,
  layers_per_block: 2,
  mid_block_scale_factor: 1,
  norm_eps: 1e-5,
  norm_num_groups: 32,
  out_channels: 4,
  sample_size: 64,
};

const unetKey = (changes: Config = {}): string =>
  canonicalArchitecture('UNet2DConditionModel', { ...oldUnet, ...changes }).key;

const oldText: Config = {
  architectures: ['CLIPTextModel'],
  eos_token_id: 2,
  hidden_act: 'quick_gelu',
  hidden_size: 768,
  intermediate_size: 3072,
  layer_norm_eps: 1e-5,
  max_position_embeddings: 77,
  num_attention_heads: 12,
  num_hidden_layers: 12,
  torch_dtype: 'float32',
  transformers_version: '4.21.0.dev0',
  vocab_size: 49408,
};

const textKey = (changes: Config = {}): string =>
  canonicalArchitecture('CLIPTextModel', { ...oldText, ...changes }).key;

const groups: Record<string, { className: string; paths: string[] }> = {
  'unet-sd1': {
    className: 'UNet2DConditionModel',
    paths: ['sd14/unet', 'sd15/unet', 'nitro-diffusion/unet'],
  },
  'unet-sd1-inpainting': { className: 'UNet2DConditionModel', paths: ['sd15-inpainting/unet'] },
  'unet-sd2': {
    className: 'UNet2DConditionModel',
    paths: ['sd21/unet', 'sd21-base/unet', 'sd-turbo/unet'],
  },
  'unet-lcm': { className: 'UNet2DConditionModel', paths: ['lcm-dreamshaper-v7/unet'] },
  'unet-sdxl': {
    className: 'UNet2DConditionModel',
    paths: ['sdxl-base/unet', 'sdxl-turbo/unet'],
  },
  'unet-sdxl-refiner': { className: 'UNet2DConditionModel', paths: ['sdxl-refiner/unet'] },
  'unet-x4-upscaler': { className: 'UNet2DConditionModel', paths: ['x4-upscaler/unet'] },
  'unet-x2-upscaler': { className: 'UNet2DConditionModel', paths: ['sd-x2-latent-upscaler/unet'] },
  'unet-kandinsky-2-2': { className: 'UNet2DConditionModel', paths: ['kandinsky22-decoder/unet'] },
  'controlnet-sd1': {
    className: 'ControlNetModel',
    paths: ['controlnet-sd15-canny', 'controlnet-sd15-depth'],
  },
  'controlnet-sdxl': { className: 'ControlNetModel', paths: ['controlnet-sdxl-depth'] },
  'autoencoder-kl-f8': {
    className: 'AutoencoderKL',
    paths: [
      'sd14/vae',
      'sd15/vae',
      'sd15-inpainting/vae',
      'sd21/vae',
      'sd21-base/vae',
      'sdxl-base/vae',
      'sdxl-base/vae_1_0',
      'sdxl-refiner/vae',
      'sdxl-turbo/vae',
      'lcm-dreamshaper-v7/vae',
      'nitro-diffusion/vae',
    ],
  },
  'autoencoder-kl-f4': { className: 'AutoencoderKL', paths: ['x4-upscaler/vae'] },
  'autoencoder-tiny-f8': { className: 'AutoencoderTiny', paths: ['taesd'] },
  'movq-kandinsky2': { className: 'VQModel', paths: ['kandinsky22-decoder/movq'] },
  'prior-kandinsky2': { className: 'PriorTransformer', paths: ['kandinsky22-prior/prior'] },
  'clip-vit-bigg14-vision': {
    className: 'CLIPVisionModelWithProjection',
    paths: ['kandinsky22-prior/image_encoder'],
  },
  'safety-checker-vit-l14': {
    className: 'StableDiffusionSafetyChecker',
    paths: [
      'sd14/safety_checker',
      'sd15/safety_checker',
      'sd15-inpainting/safety_checker',
      'nitro-diffusion/safety_checker',
      'lcm-dreamshaper-v7/safety_checker',
    ],
  },
  'clip-vit-l14-text': {
    className: 'CLIPTextModel',
    paths: [
      'sd14/text_encoder',
      'sd15/text_encoder',
      'sd15-inpainting/text_encoder',
      'nitro-diffusion/text_encoder',
      'lcm-dreamshaper-v7/text_encoder',
      'sdxl-base/text_encoder',
      'sdxl-turbo/text_encoder',
    ],
  },
  'clip-vit-h14-text': {
    className: 'CLIPTextModel',
    paths: ['sd21/text_encoder', 'sd21-base/text_encoder', 'x4-upscaler/text_encoder'],
  },
  'clip-vit-bigg14-text-projection': {
    className: 'CLIPTextModelWithProjection',
    paths: [
      'sdxl-base/text_encoder_2',
      'sdxl-turbo/text_encoder_2',
      'sdxl-refiner/text_encoder',
      'kandinsky22-prior/text_encoder',
    ],
  },
};

for (const [name, { className, paths }] of Object.entries(groups)) {
  test(`every published config of ${name} finds the key of a freshly saved one`, {
    skip: withoutPublished,
  }, () => {
    for (const path of paths) assert.equal(publishedKey(className, path), freshKey(name), path);
  });
}

test('different architectures have different keys', () => {
  const keys = Object.keys(fresh).map(freshKey);
  assert.equal(new Set(keys).size, keys.length);
});

test('every network of every published folder has a bundled program', {
  skip: withoutPublished,
}, () => {
  const { programs } = readJson(repository, 'programs', 'manifest.json') as ProgramManifest;
  const bundled = new Set(programs.map(({ key }) => key));
  const paths = readdirSync(published, { recursive: true, encoding: 'utf8' });
  const configs = paths.filter((path) => basename(path) === 'config.json');
  assert.ok(configs.length > 40);
  for (const path of configs) {
    const config = readJson(published, path) as Config;
    const className = String(config._class_name ?? (config.architectures as string[])[0]);
    assert.ok(bundled.has(keyOf({ className, config })), path);
  }
});

test('the class that a model_index.json names leads to the same program as the config itself', {
  skip: withoutPublished,
}, () => {
  const folders = readdirSync(published).filter((name) =>
    existsSync(join(published, name, 'model_index.json')),
  );
  assert.ok(folders.length > 12);
  for (const folder of folders) {
    const index = readJson(published, folder, 'model_index.json') as Record<string, unknown>;
    for (const [part, entry] of Object.entries(index)) {
      const path = join(folder, part, 'config.json');
      if (!Array.isArray(entry) || !existsSync(join(published, path))) continue;
      const config = readJson(published, path) as Config;
      const own = config._class_name ?? (config.architectures as string[] | undefined)?.[0];
      assert.equal(entry[1], own, path);
    }
  }
});

test('a config of diffusers 0.6 finds the key of a freshly saved one', () => {
  assert.equal(unetKey(), freshKey('unet-sd1'));
});

test('an autoencoder saved before norm_num_groups existed finds the key of a fresh one', () => {
  const config = {
    _diffusers_version: '0.2.2',
    act_fn: 'silu',
    block_out_channels: [128, 256, 512, 512],
    down_block_types: Array<string>(4).fill('DownEncoderBlock2D'),
    up_block_types: Array<string>(4).fill('UpDecoderBlock2D'),
    in_channels: 3,
    latent_channels: 4,
    layers_per_block: 2,
    out_channels: 3,
    sample_size: 512,
  };
  assert.equal(canonicalArchitecture('AutoencoderKL', config).key, freshKey('autoencoder-kl-f8'));
});

test('null means absent, and fields without influence on the graph are ignored', () => {
  const changes = {
    upcast_attention: null,
    num_attention_heads: null,
    class_embed_type: null,
    cross_attention_norm: null,
    resnet_time_scale_shift: null,
    addition_embed_type_num_heads: 64,
    sample_size: 96,
    dropout: 0.1,
    _name_or_path: 'somewhere',
    a_field_of_the_future: 7,
  };
  assert.equal(unetKey(changes), unetKey());
  assert.equal(unetKey({ upcast_attention: true }), unetKey());
});

test('null for the middle block or the groups is a statement of its own', () => {
  assert.notEqual(unetKey({ mid_block_type: null }), unetKey());
  assert.notEqual(unetKey({ norm_num_groups: null }), unetKey());
  assert.equal(unetKey({ mid_block_type: 'UNetMidBlock2DCrossAttn' }), unetKey());
});

test('one value and a list with that value for every block are the same architecture', () => {
  const lists = {
    attention_head_dim: [8, 8, 8, 8],
    cross_attention_dim: [768, 768, 768, 768],
    layers_per_block: [2, 2, 2, 2],
    transformer_layers_per_block: [1, 1, 1, 1],
    only_cross_attention: [false, false, false, false],
  };
  assert.equal(unetKey(lists), unetKey());
  assert.notEqual(unetKey({ attention_head_dim: [8, 8, 8, 16] }), unetKey());
});

test('only a scalar only_cross_attention reaches the middle block', () => {
  const everywhere = unetKey({ only_cross_attention: true });
  const list = [true, true, true, true];
  assert.equal(
    unetKey({ only_cross_attention: true, mid_block_only_cross_attention: true }),
    everywhere,
  );
  assert.notEqual(unetKey({ only_cross_attention: list }), everywhere);
  assert.equal(
    unetKey({ only_cross_attention: list }),
    unetKey({ only_cross_attention: list, mid_block_only_cross_attention: false }),
  );
});

test('values that no program supports stay in the canonical config', () => {
  for (const change of [
    { attention_type: 'gated' },
    { dual_cross_attention: true },
    { num_attention_heads: 8 },
    { resnet_time_scale_shift: 'scale_shift' },
    { class_embed_type: 'identity' },
    { time_embedding_type: 'fourier' },
  ]) {
    const { config, key } = canonicalArchitecture('UNet2DConditionModel', {
      ...oldUnet,
      ...change,
    });
    assert.notEqual(key, unetKey());
    for (const [name, value] of Object.entries(change)) assert.deepEqual(config[name], value);
  }
});

const controlnetKey = (changes: Config = {}): string =>
  canonicalArchitecture('ControlNetModel', { cross_attention_dim: 768, ...changes }).key;

test('what is done around a ControlNet has no say in its architecture', () => {
  assert.equal(controlnetKey({ controlnet_conditioning_channel_order: 'bgr' }), controlnetKey());
  assert.equal(controlnetKey({ global_pool_conditions: true }), controlnetKey());
  assert.equal(controlnetKey({ num_attention_heads: 8 }), controlnetKey());
  assert.notEqual(controlnetKey({ num_attention_heads: 4 }), controlnetKey());
  assert.notEqual(controlnetKey({ conditioning_channels: 1 }), controlnetKey());
  assert.notEqual(controlnetKey(), unetKey());
  assert.throws(() => controlnetKey({ attention_head_dim: [8, 8] }), {
    code: 'ERR_CHECKPOINT',
    message: /4 values for attention_head_dim in the ControlNetModel config/,
  });
});

test('a text encoder inside a whole-CLIP config is found', () => {
  const { key } = canonicalArchitecture('CLIPTextModel', {
    model_type: 'clip',
    projection_dim: 768,
    text_config: oldText,
    vision_config: { hidden_size: 1024 },
  });
  assert.equal(key, textKey());
});

test('the projection counts only in the class that has one', () => {
  assert.equal(textKey({ projection_dim: 512 }), textKey({ projection_dim: null }));
  const projected = (projection_dim: number) =>
    canonicalArchitecture('CLIPTextModelWithProjection', { ...oldText, projection_dim }).key;
  assert.notEqual(projected(512), projected(768));
});

test('an end of text with the highest id is where legacy configs read the pooled output', () => {
  assert.equal(textKey({ eos_token_id: 49407 }), textKey({ eos_token_id: 2 }));
  const { eos_token_id: _, ...silent } = oldText;
  assert.equal(canonicalArchitecture('CLIPTextModel', silent).key, textKey());
  // Tokens added behind it, by textual inversion for instance, part the two.
  assert.notEqual(
    textKey({ eos_token_id: 49407, vocab_size: 49410 }),
    textKey({ eos_token_id: 2, vocab_size: 49410 }),
  );
});

test('the order of fields does not matter and the key is short hexadecimal', () => {
  const reversed = Object.fromEntries(Object.entries(oldUnet).reverse());
  const { key } = canonicalArchitecture('UNet2DConditionModel', reversed);
  assert.equal(key, unetKey());
  assert.match(key, /^[0-9a-f]{16}$/);
});

test('the canonical form of a canonical config is itself', () => {
  for (const { className, config } of Object.values(fresh)) {
    const once = canonicalArchitecture(className, config);
    assert.deepEqual(canonicalArchitecture(className, once.config), once);
  }
});

test('fields of the wrong type are named', () => {
  const wrong: [Config, RegExp][] = [
    [{ in_channels: 'four' }, /an integer for in_channels .* received "four"/],
    [{ block_out_channels: [320, null] }, /a list of integers for block_out_channels/],
    [{ block_out_channels: [] }, /a list of integers for block_out_channels/],
    [{ use_linear_projection: 1 }, /true or false for use_linear_projection/],
    [{ attention_head_dim: [8, 8] }, /4 values for attention_head_dim .* received 2/],
    [{ up_block_types: ['UpBlock2D'] }, /4 values for up_block_types/],
  ];
  for (const [change, message] of wrong) {
    assert.throws(() => unetKey(change), { code: 'ERR_CHECKPOINT', message });
  }
});

test('an unknown class is refused with the known ones', () => {
  for (const className of ['UNet3DConditionModel', 'constructor', '__proto__']) {
    assert.throws(() => canonicalArchitecture(className, {}), {
      code: 'ERR_CHECKPOINT',
      message: new RegExp(`${className}.*${architectureClasses.join(', ')}`),
    });
  }
});

const entriesOf: Record<string, string[]> = {
  AutoencoderKL: ['encode', 'decode'],
  AutoencoderTiny: ['encode', 'decode'],
  PriorTransformer: ['forward', 'denormalize'],
  VQModel: ['encode', 'decode'],
};

test('the bundled programs are those of the table, and unchanged', () => {
  const folder = join(repository, 'programs');
  const { version, programs } = readJson(folder, 'manifest.json') as ProgramManifest;
  assert.equal(version, 1);
  for (const { name, className, config } of bundledArchitectures()) {
    const { key } = canonicalArchitecture(className, config);
    const found = programs.filter((program) => program.key === key);
    const entries = entriesOf[className] ?? ['forward'];
    assert.deepEqual(
      found.map(({ entry }) => entry),
      entries,
      name,
    );
    for (const program of found) {
      const bytes = brotliDecompressSync(readFileSync(join(folder, program.file)));
      assert.equal(bytes.length, program.bytes);
      assert.equal(createHash('sha256').update(bytes).digest('hex'), program.sha256);
      assert.equal(program.lint.deviceConstants, 0);
      assert.equal(program.lint.tensorConstants, 0);
    }
  }
  const files = readdirSync(folder).filter((file) => file !== 'manifest.json');
  assert.deepEqual(files.sort(), programs.map(({ file }) => file).sort());
});

test("the bundled architectures are those that today's libraries save", () => {
  const freshKeys = new Map(Object.keys(fresh).map((name) => [name, freshKey(name)]));
  for (const architecture of bundledArchitectures()) {
    if (architecture.name.startsWith('demo-')) continue;
    assert.equal(freshKeys.get(architecture.name), keyOf(architecture), architecture.name);
  }
});
