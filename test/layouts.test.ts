// One model in every form that checkpoints are published in: the picture must not change by a bit.
// The forms are those of diffusers releases since 0.3 and of converters.
import assert from 'node:assert/strict';
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { before, test } from 'node:test';

import {
  configure,
  type FromPretrainedOptions,
  type StableDiffusionComponents,
} from '../lib/index.js';
import { pixelsFrom } from './drawing.js';
import { demoCopy, demoModel } from './helpers.js';
import {
  converted,
  editArrays,
  readArrays,
  type StoredArrays,
  writeArrays,
} from './safetensors-writer.js';

// Networks as small as this one gain nothing from threads and lose much on a busy machine.
configure({ threads: 1 });

type Options = FromPretrainedOptions<StableDiffusionComponents>;

const textEncoder = 'text_encoder/model.safetensors';
const unet = 'unet/diffusion_pytorch_model.safetensors';
const vae = 'vae/diffusion_pytorch_model.safetensors';
const weightFiles = [textEncoder, unet, vae];

let plain: Float32Array;
before(async () => {
  plain = await pixelsFrom(demoModel);
  assert.ok(new Set(plain).size > 100, 'an empty picture would prove nothing');
});

/** A test that a rewritten folder draws what the plain one draws. */
function same(what: string, rewrite: (model: string) => void, options?: Options): void {
  test(`the picture stays the same ${what}`, async (context) => {
    const model = demoCopy(context);
    rewrite(model);
    assert.deepEqual(await pixelsFrom(model, options), plain);
  });
}

type Json = Record<string, unknown>;

function editJson(model: string, file: string, edit: (json: Json) => Json): void {
  const path = join(model, file);
  writeFileSync(path, JSON.stringify(edit(JSON.parse(readFileSync(path, 'utf8')) as Json)));
}

function without(json: Json, ...names: string[]): Json {
  return Object.fromEntries(Object.entries(json).filter(([name]) => !names.includes(name)));
}

function rename(arrays: StoredArrays, newName: (name: string) => string): void {
  const entries = [...arrays];
  arrays.clear();
  for (const [name, array] of entries) arrays.set(newName(name), array);
}

/** Warnings of a kind while `body` runs. */
async function warningsOf(code: string, body: () => Promise<void>): Promise<string[]> {
  const messages: string[] = [];
  const listener = (warning: Error & { code?: string }) => {
    if (warning.code === code) messages.push(warning.message);
  };
  process.on('warning', listener);
  await body();
  // Warnings come a tick later.
  await new Promise((resolve) => setImmediate(resolve));
  process.off('warning', listener);
  return messages;
}

// Tensor names
same('with the text encoder of Stable Diffusion 1.5: text_model. and position_ids', (model) => {
  editArrays(join(model, textEncoder), (arrays) => {
    rename(arrays, (name) => `text_model.${name}`);
    const ids = BigInt64Array.from({ length: 24 }, (_, i) => BigInt(i));
    const data = new Uint8Array(ids.buffer);
    arrays.set('text_model.embeddings.position_ids', { dtype: 'I64', shape: [1, 24], data });
  });
});
same('with a text encoder that was saved with its projection and logit scale', (model) => {
  editArrays(join(model, textEncoder), (arrays) => {
    const data = new Uint8Array(128 * 128 * 4);
    arrays.set('text_projection.weight', { dtype: 'F32', shape: [128, 128], data });
    arrays.set('logit_scale', { dtype: 'F32', shape: [], data: data.slice(0, 4) });
  });
});

const oldAttention: Record<string, string> = {
  to_q: 'query',
  to_k: 'key',
  to_v: 'value',
  'to_out.0': 'proj_attn',
};

function oldName(name: string): string {
  return name.replace(
    /(mid_block\.attentions\.0)\.(to_q|to_k|to_v|to_out\.0)\./,
    (_, block: string, part: string) => `${block}.${oldAttention[part]}.`,
  );
}

same(
  'with the autoencoder attention of Stable Diffusion 1.4: query, key, value, proj_attn',
  (model) => {
    editArrays(join(model, vae), (arrays) => {
      rename(arrays, oldName);
      assert.ok(arrays.has('encoder.mid_block.attentions.0.proj_attn.weight'));
    });
  },
);
same('with autoencoder attention stored as 1×1 convolutions', (model) => {
  editArrays(join(model, vae), (arrays) => {
    for (const [name, array] of arrays) {
      if (/attentions\.0\.to_.*weight$/.test(name)) array.shape = [...array.shape, 1, 1];
    }
  });
});

// Files
for (const index of [
  'diffusion_pytorch_model.safetensors.index.json',
  'diffusion_pytorch_model.safetensors.index.fp16.json',
  'diffusion_pytorch_model.fp16.safetensors.index.json',
]) {
  const variant = index.includes('fp16') ? 'fp16' : undefined;
  same(
    `with a UNet in three shards and a ${index}`,
    (model) => {
      shard(model, index, variant === undefined ? '' : '.fp16');
      if (variant !== undefined)
        for (const file of [textEncoder, vae]) toVariant(model, file, 'fp16');
    },
    { variant },
  );
}

function shard(model: string, index: string, suffix: string): void {
  const arrays = readArrays(join(model, unet));
  const parts: StoredArrays[] = [new Map(), new Map(), new Map()];
  const weightMap: Record<string, string> = {};
  const shardName = (part: number) =>
    `diffusion_pytorch_model${suffix}-0000${part + 1}-of-00003.safetensors`;
  for (const [i, [name, array]] of [...arrays].entries()) {
    parts[i % 3]?.set(name, array);
    weightMap[name] = shardName(i % 3);
  }
  for (const [i, part] of parts.entries()) writeArrays(join(model, 'unet', shardName(i)), part);
  writeFileSync(
    join(model, 'unet', index),
    JSON.stringify({ metadata: {}, weight_map: weightMap }),
  );
  rmSync(join(model, unet));
}

function toVariant(model: string, file: string, variant: string): void {
  renameSync(
    join(model, file),
    join(model, file.replace('.safetensors', `.${variant}.safetensors`)),
  );
}

same('with data that starts at an odd byte, as before safetensors 0.3', (model) => {
  for (const file of weightFiles) {
    writeArrays(join(model, file), readArrays(join(model, file)), { start: 'odd' });
  }
});
same('with float32 data that starts at an odd byte', (model) => {
  for (const file of weightFiles) {
    const arrays = readArrays(join(model, file));
    for (const [name, array] of arrays) arrays.set(name, converted(array, 'F32'));
    writeArrays(join(model, file), arrays, { start: 'odd' });
  }
});
same('with tensors in any order and dtypes mixed', (model) => {
  for (const file of weightFiles) {
    const arrays = [...readArrays(join(model, file))].reverse();
    const mixed = arrays.map(([name, array], i) => {
      return [name, i % 3 === 0 ? converted(array, 'F32') : array] as const;
    });
    writeArrays(join(model, file), new Map(mixed));
  }
});
same(
  'with a variant of all weights and no plain files',
  (model) => {
    for (const file of weightFiles) toVariant(model, file, 'fp16');
  },
  { variant: 'fp16' },
);

test('a variant is taken where there is one, and a missing one falls back with a warning', async (context) => {
  const model = demoCopy(context);
  toVariant(model, unet, 'fp16');
  // Plain files that would spoil the picture if they were taken.
  writeFileSync(join(model, unet), 'not the variant');
  const warnings = await warningsOf('TORCHBRUSH_NO_VARIANT', async () => {
    assert.deepEqual(await pixelsFrom(model, { variant: 'fp16' }), plain);
  });
  assert.equal(warnings.length, 2);
  // Components load side by side, so that either warning may come first.
  for (const name of ['text_encoder', 'vae']) {
    const text = `${name} has no variant 'fp16': its plain files are used`;
    assert.ok(
      warnings.some((warning) => warning.includes(text)),
      `no warning says "${text}"`,
    );
  }
});

same('with the files of other tools beside the weights', (model) => {
  for (const name of ['.bin', '.non_ema.safetensors', '.fp16.bin', '.msgpack', '.onnx']) {
    writeFileSync(join(model, 'unet', `diffusion_pytorch_model${name}`), 'something else');
  }
});

// Dtypes on disk
// The embedded weights are float16, so nothing is rounded.
same('with weights in float32 on disk', (model) => {
  for (const file of weightFiles) {
    editArrays(join(model, file), (arrays) => {
      for (const [name, array] of arrays) arrays.set(name, converted(array, 'F32'));
    });
  }
});

test('weights in bfloat16 draw what the same numbers in float32 draw', async (context) => {
  const models = [demoCopy(context), demoCopy(context)] as const;
  for (const file of weightFiles) {
    const arrays = readArrays(join(models[0], file));
    for (const [name, array] of arrays) arrays.set(name, converted(array, 'BF16'));
    writeArrays(join(models[0], file), arrays);
    for (const [name, array] of arrays) arrays.set(name, converted(array, 'F32'));
    writeArrays(join(models[1], file), arrays);
  }
  assert.deepEqual(await pixelsFrom(models[0]), await pixelsFrom(models[1]));
});

// Tokenizer
same('with vocab.json and merges.txt but no tokenizer.json', (model) => {
  rmSync(join(model, 'tokenizer/tokenizer.json'));
});
same('with tokenizer.json alone', (model) => {
  for (const name of ['vocab.json', 'merges.txt', 'special_tokens_map.json']) {
    rmSync(join(model, 'tokenizer', name));
  }
});
same('with special tokens as plain strings', (model) => {
  editJson(model, 'tokenizer/special_tokens_map.json', (json) =>
    Object.fromEntries(
      Object.entries(json).map(([key, token]) => [
        key,
        (token as { content?: string }).content ?? token,
      ]),
    ),
  );
});
same('with an added_tokens_decoder', (model) => {
  editJson(model, 'tokenizer/tokenizer_config.json', (json) => {
    const added_tokens_decoder = {
      1498: { content: '<|startoftext|>', special: true, normalized: true },
      1499: { content: '<|endoftext|>', special: true, normalized: true },
    };
    return { ...json, added_tokens_decoder };
  });
});
same('with the old names of the tokenizer class', (model) => {
  editJson(model, 'model_index.json', (json) => ({
    ...json,
    tokenizer: ['transformers', 'CLIPTokenizerFast'],
  }));
});

// Configuration
same('with an autoencoder config that lacks what old releases did not write', (model) => {
  editJson(model, 'vae/config.json', (json) =>
    without(
      json,
      ...['scaling_factor', 'force_upcast', 'shift_factor', 'latents_mean', 'latents_std'],
      ...['use_quant_conv', 'use_post_quant_conv', 'mid_block_add_attention', 'layers_per_block'],
      ...[
        'act_fn',
        'in_channels',
        'out_channels',
        'latent_channels',
        'sample_size',
        '_diffusers_version',
      ],
    ),
  );
});
same('with a UNet config that has only what Stable Diffusion 1.5 has', (model) => {
  const kept = [
    ...['_class_name', '_diffusers_version', 'act_fn', 'attention_head_dim', 'block_out_channels'],
    ...['center_input_sample', 'cross_attention_dim', 'down_block_types', 'downsample_padding'],
    ...[
      'flip_sin_to_cos',
      'freq_shift',
      'in_channels',
      'layers_per_block',
      'mid_block_scale_factor',
    ],
    ...['norm_eps', 'norm_num_groups', 'out_channels', 'sample_size', 'up_block_types'],
  ];
  editJson(model, 'unet/config.json', (json) => {
    const short = Object.fromEntries(kept.map((name) => [name, json[name]]));
    return { ...short, _diffusers_version: '0.6.0' };
  });
});
same('with null in every field that has its default', (model) => {
  editJson(model, 'vae/config.json', (json) => ({
    ...json,
    ...{ scaling_factor: null, force_upcast: null, act_fn: null, layers_per_block: null },
  }));
  editJson(model, 'unet/config.json', (json) => ({
    ...json,
    ...{ num_attention_heads: null, upcast_attention: null, act_fn: null, norm_eps: null },
  }));
  editJson(model, 'text_encoder/config.json', (json) => ({ ...json, projection_dim: null }));
});
same('with the text encoder config of 2022', (model) => {
  editJson(model, 'text_encoder/config.json', (json) => ({
    ...without(json, 'dtype', 'layer_norm_eps'),
    ...{ eos_token_id: 2, torch_dtype: 'float16', _name_or_path: 'openai/clip', dropout: 0 },
  }));
});
same('with unknown keys everywhere', (model) => {
  for (const file of [
    'model_index.json',
    'unet/config.json',
    'vae/config.json',
    'text_encoder/config.json',
  ]) {
    editJson(model, file, (json) => ({
      ...json,
      _new: { a: [1] },
      new_field: 7,
      _name_or_path: '/home/x',
    }));
  }
  editJson(model, 'scheduler/scheduler_config.json', (json) => ({
    ...json,
    skip_prk_steps: true,
    x: null,
  }));
});
same('with parts left out and parts of moved classes', (model) => {
  editJson(model, 'model_index.json', (json) => ({
    ...without(json, 'image_encoder'),
    ...{
      safety_checker: [null, null],
      feature_extractor: ['transformers', 'CLIPFeatureExtractor'],
    },
    ...{ requires_safety_checker: true, _diffusers_version: '0.6.0' },
  }));
});
same('with a scheduler config without the newer fields', (model) => {
  editJson(model, 'scheduler/scheduler_config.json', (json) =>
    without(
      json,
      ...['rescale_betas_zero_snr', 'timestep_spacing', 'thresholding', 'sample_max_value'],
      ...['dynamic_thresholding_ratio', 'clip_sample_range', 'prediction_type', '_class_name'],
    ),
  );
});
same('with the offset and clipping that diffusers mends', (model) => {
  editJson(model, 'scheduler/scheduler_config.json', (json) => ({
    ...json,
    steps_offset: 0,
    clip_sample: true,
  }));
});

test('a safety checker is loaded where there is one, unless it is left out', async (context) => {
  const model = demoCopy(context);
  editJson(model, 'model_index.json', (json) => ({
    ...json,
    safety_checker: ['stable_diffusion', 'StableDiffusionSafetyChecker'],
  }));
  await assert.rejects(pixelsFrom(model), {
    message: /names safety_checker, but the folder .* missing/,
  });
  assert.deepEqual(await pixelsFrom(model, { safetyChecker: null }), plain);
});
