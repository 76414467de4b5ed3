// Exports small architectures of many kinds. The exporter itself compares each program with the
// library's module and fails where they differ.
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { canonicalArchitecture } from '../../lib/networks/architecture.js';
import {
  type ExportedProgram,
  type ExportRequest,
  exportPrograms,
  type ProgramManifest,
} from '../../lib/networks/export.js';
import { ensurePython } from '../../scripts/python.js';

const python = await ensurePython({ log: (line) => console.error(line) });
const folder = await mkdtemp(join(tmpdir(), 'torchbrush-export-'));
after(() => rm(folder, { recursive: true, force: true }));

const request = (
  name: string,
  className: string,
  config: Record<string, unknown>,
): ExportRequest => ({ name, ...canonicalArchitecture(className, config) });

const twoLevels = {
  block_out_channels: [16, 32],
  layers_per_block: 1,
  norm_num_groups: 4,
  attention_head_dim: 2,
  cross_attention_dim: 24,
};

const unet = (name: string, changes: Record<string, unknown> = {}): ExportRequest =>
  request(name, 'UNet2DConditionModel', {
    ...twoLevels,
    down_block_types: ['DownBlock2D', 'CrossAttnDownBlock2D'],
    up_block_types: ['CrossAttnUpBlock2D', 'UpBlock2D'],
    ...changes,
  });

const fourLevels = {
  block_out_channels: [16, 16, 32, 32],
  down_block_types: [...Array<string>(3).fill('CrossAttnDownBlock2D'), 'DownBlock2D'],
  up_block_types: ['UpBlock2D', ...Array<string>(3).fill('CrossAttnUpBlock2D')],
};

const controlnet = (name: string, changes: Record<string, unknown> = {}): ExportRequest =>
  request(name, 'ControlNetModel', {
    ...twoLevels,
    down_block_types: ['DownBlock2D', 'CrossAttnDownBlock2D'],
    conditioning_embedding_out_channels: [4, 8],
    ...changes,
  });

// The form of the latent upscaler; its groups have 32 channels.
const latentUpscaler = {
  block_out_channels: [32, 32, 64, 64],
  down_block_types: ['KDownBlock2D', ...Array<string>(3).fill('KCrossAttnDownBlock2D')],
  mid_block_type: null,
  up_block_types: [...Array<string>(3).fill('KCrossAttnUpBlock2D'), 'KUpBlock2D'],
  layers_per_block: 2,
  norm_num_groups: null,
  attention_head_dim: 16,
  act_fn: 'gelu',
  timestep_post_act: 'gelu',
  time_embedding_type: 'fourier',
  resnet_time_scale_shift: 'scale_shift',
  time_cond_proj_dim: 12,
  conv_in_kernel: 1,
  conv_out_kernel: 1,
  in_channels: 8,
  out_channels: 5,
};

// The form of Kandinsky 2.2's decoder, whose condition is a picture's embedding.
const byImage = {
  down_block_types: ['ResnetDownsampleBlock2D', 'SimpleCrossAttnDownBlock2D'],
  mid_block_type: 'UNetMidBlock2DSimpleCrossAttn',
  up_block_types: ['SimpleCrossAttnUpBlock2D', 'ResnetUpsampleBlock2D'],
  addition_embed_type: 'image',
  encoder_hid_dim_type: 'image_proj',
  encoder_hid_dim: 14,
  resnet_time_scale_shift: 'scale_shift',
  out_channels: 8,
};

const autoencoder = (name: string, changes: Record<string, unknown> = {}): ExportRequest =>
  request(name, 'AutoencoderKL', {
    block_out_channels: [8, 16],
    down_block_types: Array<string>(2).fill('DownEncoderBlock2D'),
    up_block_types: Array<string>(2).fill('UpDecoderBlock2D'),
    norm_num_groups: 4,
    ...changes,
  });

const text = (
  name: string,
  changes: Record<string, unknown> = {},
  className = 'CLIPTextModel',
): ExportRequest =>
  request(name, className, {
    vocab_size: 99,
    hidden_size: 24,
    intermediate_size: 40,
    num_hidden_layers: 3,
    num_attention_heads: 4,
    ...changes,
  });

const variants: readonly ExportRequest[] = [
  unet('two-levels'),
  unet('four-levels', { ...fourLevels, layers_per_block: 2 }),
  unet('heads-per-block', { ...fourLevels, attention_head_dim: [1, 2, 4, 4] }),
  unet('layers-per-block', { layers_per_block: [1, 2], transformer_layers_per_block: [1, 3] }),
  unet('linear-projection', { use_linear_projection: true }),
  unet('inpainting', { in_channels: 9 }),
  unet('timestep-cond', { time_cond_proj_dim: 12 }),
  unet('class-labels', { num_class_embeds: 50, only_cross_attention: [true, false] }),
  unet('class-timestep', { class_embed_type: 'timestep' }),
  unet('class-projection', {
    class_embed_type: 'projection',
    projection_class_embeddings_input_dim: 14,
  }),
  unet('text-time', {
    addition_embed_type: 'text_time',
    addition_time_embed_dim: 8,
    projection_class_embeddings_input_dim: 80,
  }),
  unet('text-projection', { encoder_hid_dim: 20 }),
  unet('scale-shift', { resnet_time_scale_shift: 'scale_shift', mid_block_scale_factor: 1.5 }),
  unet('no-middle', { mid_block_type: null, center_input_sample: true, freq_shift: 1 }),
  unet('one-level', {
    block_out_channels: [16],
    down_block_types: ['CrossAttnDownBlock2D'],
    up_block_types: ['CrossAttnUpBlock2D'],
  }),
  unet('other-activation', { act_fn: 'gelu', flip_sin_to_cos: false, downsample_padding: 0 }),
  unet('latent-upscaler', latentUpscaler),
  unet('by-image', byImage),
  unet('by-image-only-cross', { ...byImage, only_cross_attention: true }),
  controlnet('controlnet'),
  controlnet('controlnet-four-levels', {
    block_out_channels: [16, 16, 32, 32],
    down_block_types: [...Array<string>(3).fill('CrossAttnDownBlock2D'), 'DownBlock2D'],
    conditioning_embedding_out_channels: [4, 8, 8, 16],
    layers_per_block: 2,
  }),
  controlnet('controlnet-text-time', {
    addition_embed_type: 'text_time',
    addition_time_embed_dim: 8,
    projection_class_embeddings_input_dim: 80,
    transformer_layers_per_block: [1, 2],
    use_linear_projection: true,
    conditioning_channels: 1,
  }),
  controlnet('controlnet-no-attention', {
    down_block_types: ['DownBlock2D', 'DownBlock2D'],
    mid_block_type: 'UNetMidBlock2D',
    num_class_embeds: 7,
  }),
  autoencoder('autoencoder'),
  autoencoder('autoencoder-bare', {
    use_quant_conv: false,
    use_post_quant_conv: false,
    mid_block_add_attention: false,
    latent_channels: 3,
  }),
  text('text'),
  text('text-gelu', { hidden_act: 'gelu', layer_norm_eps: 1e-6 }),
  text('text-other-end', { eos_token_id: 7 }),
  text('text-projected', { projection_dim: 18 }, 'CLIPTextModelWithProjection'),
];

let made: ExportedProgram[] = [];

test('every supported variant is exported and computes what the library computes', async () => {
  made = await exportPrograms({ requests: variants, outDir: folder, python });
  const keys = variants.map(({ key }) => key);
  assert.equal(new Set(keys).size, variants.length);
  assert.deepEqual([...new Set(made.map(({ key }) => key))], keys);
  for (const { name, entry, compared, lint } of made) {
    assert.deepEqual(
      [lint.deviceConstants, lint.tensorConstants, lint.blocks],
      [0, 0, 0],
      `${name} ${entry}`,
    );
    const dtypes = new Set(compared.map(({ dtype }) => dtype));
    assert.deepEqual([...dtypes].sort(), ['bfloat16', 'float16', 'float32'], name);
    // Same operators on the same numbers: not only close, but equal.
    for (const one of compared) assert.equal(one.bitEqual, true, `${name} ${JSON.stringify(one)}`);
  }
});

test('every architecture gets a folder of its own with a manifest, and nothing else stays', () => {
  assert.deepEqual(readdirSync(folder).sort(), variants.map(({ key }) => key).sort());
  for (const { key } of variants) {
    const text = readFileSync(join(folder, key, 'manifest.json'), 'utf8');
    const { programs } = JSON.parse(text) as ProgramManifest;
    assert.deepEqual(
      programs,
      made.filter((program) => program.key === key),
    );
    for (const { file } of programs) assert.ok(existsSync(join(folder, key, file)));
  }
});

test('inputs follow from the architecture', () => {
  const inputs = (name: string) => made.find((program) => program.name === name)?.inputs;
  const usual = ['sample', 'timestep', 'encoder_hidden_states'];
  assert.deepEqual(inputs('two-levels'), usual);
  assert.deepEqual(inputs('timestep-cond'), [...usual, 'timestep_cond']);
  assert.deepEqual(inputs('class-labels'), [...usual, 'class_labels']);
  assert.deepEqual(inputs('text-time'), [...usual, 'text_embeds', 'time_ids']);
});

test('the same architecture gives the same bytes, alone or among others', async () => {
  const [first] = variants;
  assert.ok(first !== undefined);
  const [again] = await exportPrograms({
    requests: [{ ...first, name: 'another-name' }],
    outDir: folder,
    python,
  });
  assert.equal(again?.sha256, made[0]?.sha256);
});

test('an interpreter that does not exist is named', async () => {
  await assert.rejects(
    exportPrograms({ requests: [text('text')], outDir: folder, python: '/nowhere/python' }),
    { code: 'ERR_EXPORT_PYTHON', message: /\/nowhere\/python/ },
  );
});

test('missing packages come with the command that installs them', {
  skip: process.platform === 'win32',
}, async () => {
  const bare = join(folder, 'bare-python');
  await writeFile(bare, `#!/bin/sh\nexec "${python}" -S "$@"\n`);
  await chmod(bare, 0o755);
  await assert.rejects(exportPrograms({ requests: [text('text')], outDir: folder, python: bare }), {
    code: 'ERR_EXPORT_PACKAGES',
    message: /lacks torch.* -m pip install -r .*requirements\.txt/,
  });
});

test('what the exporter does not support is said before anything is traced', async () => {
  for (const [unsupported, message] of [
    [unet('gated', { attention_type: 'gated' }), /attention_type: 'gated'/],
    [unet('heads', { num_attention_heads: 4 }), /number of attention heads/],
    [{ ...text('text'), className: 'T5EncoderModel' }, /T5EncoderModel/],
  ] as const) {
    await assert.rejects(exportPrograms({ requests: [unsupported], outDir: folder, python }), {
      code: 'ERR_EXPORT_UNSUPPORTED',
      message,
    });
  }
});

test('an export that fails leaves nothing behind', () => {
  const left = readdirSync(folder).filter((name) => name !== 'bare-python');
  assert.deepEqual(left.sort(), variants.map(({ key }) => key).sort());
});
