// Checkpoint folders whose configuration, tokenizer or scheduler is missing, broken or malicious.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

import {
  AutoPipelineForImage2Image,
  AutoPipelineForText2Image,
  StableDiffusionPipeline,
} from '../../lib/index.js';
import { temporaryFolder } from '../helpers.js';
import { assertRefusal, model, refused } from './spoiling.js';

const index = 'model_index.json';
const unetConfig = 'unet/config.json';
const schedulerConfig = 'scheduler/scheduler_config.json';

test('a folder that is not there is refused', async (context) => {
  const missing = join(temporaryFolder(context), 'missing');
  for (const load of [
    () => AutoPipelineForImage2Image.fromPretrained(missing),
    () => AutoPipelineForText2Image.fromPretrained(missing),
    () => StableDiffusionPipeline.fromPretrained(missing),
    () => StableDiffusionPipeline.fromPretrained(`${missing}\0`),
  ]) {
    await assert.rejects(load, (error) =>
      assertRefusal(error, { message: /no checkpoint folder .*missing/ }),
    );
  }
});

test('a path that is no string is refused', async () => {
  for (const path of [undefined, null, '', 7, {}]) {
    await assert.rejects(AutoPipelineForImage2Image.fromPretrained(path as string), (error) =>
      assertRefusal(error, {
        code: 'ERR_INVALID_ARGUMENT',
        message: /a folder or a name on the hub for checkpoint/,
      }),
    );
  }
});

refused(
  'a file in place of the folder',
  () => {
    model.remove('.');
    model.write('.', 'weights');
  },
  { message: /no checkpoint folder/ },
);

// model_index.json
refused('a folder without model_index.json', () => model.remove(index), {
  message: /model_index\.json is missing.*download/,
});
refused(
  'a folder in place of model_index.json',
  () => {
    model.remove(index);
    mkdirSync(model.path(index));
  },
  { message: /model_index\.json is no file/ },
);
refused(
  'a model_index.json that links to itself',
  () => {
    model.remove(index);
    symlinkSync(index, model.path(index));
  },
  { message: /model_index\.json cannot be read/ },
);
refused(
  'a model_index.json that is an endless device',
  () => {
    model.remove(index);
    symlinkSync('/dev/zero', model.path(index));
  },
  { message: /model_index\.json is no file/ },
);
refused(
  'a model_index.json that is a pipe without a writer',
  () => {
    model.remove(index);
    execFileSync('mkfifo', [model.path(index)]);
  },
  { message: /model_index\.json is no file/ },
);
for (const [what, text] of [
  ['empty', ''],
  ['cut off', '{"_class_name": "StableDiff'],
  ['not text', '\xff\xfe\x00\x01'],
  ['nested without end', '['.repeat(200_000)],
] as const) {
  refused(`a model_index.json that is ${what}`, () => model.write(index, text), {
    message: /model_index\.json is no valid JSON.*download/,
  });
}
for (const text of ['[]', 'null', '7', '"StableDiffusionPipeline"']) {
  refused(`a model_index.json that holds ${text}`, () => model.write(index, text), {
    message: /model_index\.json should hold a JSON object/,
  });
}
refused('a model_index.json beyond all size', () => model.write(index, ' '.repeat(2 ** 24 + 1)), {
  message: /model_index\.json is too large/,
});
for (const name of [undefined, null, 7, {}]) {
  refused(
    `a model_index.json with the class ${JSON.stringify(name)}`,
    () => {
      model.json(index, { _class_name: name });
    },
    { message: /model_index\.json names no pipeline class/ },
  );
}
for (const name of ['FluxPipeline', 'constructor', '__proto__']) {
  refused(`the pipeline class ${name}`, () => model.json(index, { _class_name: name }), {
    message: new RegExp(
      `is a ${name}, for which there is no pipeline\\. Known are: StableDiffusion`,
    ),
  });
}
for (const name of ['../unet', '/etc', 'unet/..', '..', 'a\\b', 'a\0b']) {
  refused(
    `a component called ${JSON.stringify(name)}`,
    () => {
      model.json(index, { [name]: ['diffusers', 'UNet2DConditionModel'] });
    },
    { message: /has a component .* points outside its folder/ },
  );
}
for (const entry of [
  undefined,
  null,
  [null, null],
  [],
  ['diffusers'],
  ['diffusers', 7],
  'unet',
  {},
]) {
  refused(
    `the component entry ${JSON.stringify(entry)}`,
    () => model.json(index, { unet: entry }),
    {
      message: /has no unet in its model_index\.json/,
    },
  );
}
for (const name of ['unet', 'vae', 'text_encoder', 'tokenizer']) {
  refused(
    `an unknown class for ${name}`,
    () => {
      model.json(index, { [name]: ['evil', 'os.system'] });
    },
    { message: new RegExp(`The ${name} of .* is a os\\.system; expected `) },
  );
  refused(`a checkpoint whose folder ${name} is missing`, () => model.remove(name), {
    message: new RegExp(`names ${name}, but the folder .* is missing`),
  });
  refused(`a checkpoint whose ${name} is a file`, () => model.write(name, ''), {
    message: new RegExp(`names ${name}, but .* is no folder|the folder .*${name} is missing`),
  });
  refused(
    `a ${name} that links to itself`,
    () => {
      model.remove(name);
      symlinkSync(name, model.path(name));
    },
    { message: new RegExp(`names ${name}, but the folder .* is missing`) },
  );
}

// config.json
for (const name of ['unet', 'vae', 'text_encoder']) {
  const file = `${name}/config.json`;
  refused(`a ${name} without config.json`, () => model.remove(file), {
    message: new RegExp(`${file} is missing`),
  });
  refused(`a broken ${file}`, () => model.write(file, '{"in_channels": 4,'), {
    message: new RegExp(`${file} is no valid JSON`),
  });
}
for (const [field, value] of [
  ['in_channels', '4'],
  ['in_channels', 1e300],
  ['block_out_channels', '80'],
  ['block_out_channels', [80, null]],
  ['block_out_channels', [80]],
  ['block_out_channels', []],
  ['down_block_types', 7],
  ['attention_head_dim', [4, 4, 4]],
  ['norm_eps', 'x'],
  ['use_linear_projection', 'yes'],
  ['in_channels', -4],
  ['block_out_channels', [80, -128]],
  ['sample_size', -16],
  ['sample_size', '16'],
] as const) {
  refused(
    `the UNet config ${field}: ${JSON.stringify(value)}`,
    () => {
      model.json(unetConfig, { [field]: value });
    },
    { message: new RegExp(`unet/config\\.json.*${field}`) },
  );
}
for (const value of [0, -1, '0.18215', true]) {
  refused(
    `the autoencoder's scaling_factor ${JSON.stringify(value)}`,
    () => {
      model.json('vae/config.json', { scaling_factor: value });
    },
    { message: /vae\/config\.json.*scaling_factor/ },
  );
}
refused('an architecture that has no program', () => model.json(unetConfig, { act_fn: 'mish' }), {
  code: 'ERR_PROGRAM_NOT_FOUND',
  message: /no program for the UNet2DConditionModel of .*unet .*npx torchbrush export ".*unet"/,
});

// Scheduler
refused(
  'an unknown scheduler class',
  () => {
    model.json(index, { scheduler: ['diffusers', 'DDIMSchedulerX'] });
  },
  { message: /scheduler_config\.json.*DDIMSchedulerX is not supported/ },
);
refused('a scheduler without its file', () => model.remove(schedulerConfig), {
  message: /scheduler_config\.json is missing/,
});
for (const [field, value] of [
  ['beta_start', '0.1'],
  ['beta_schedule', 'cosine-ish'],
  ['num_train_timesteps', 0],
  ['num_train_timesteps', 1e12],
  ['trained_betas', []],
  ['timestep_spacing', 7],
] as const) {
  refused(
    `the scheduler config ${field}: ${JSON.stringify(value)}`,
    () => {
      model.json(schedulerConfig, { [field]: value });
    },
    { message: /scheduler_config\.json/ },
  );
}

// Tokenizer
refused(
  'a tokenizer folder without files',
  () => {
    rmSync(model.path('tokenizer'), { recursive: true });
    mkdirSync(model.path('tokenizer'));
  },
  { message: /has no vocab\.json and merges\.txt, and no tokenizer\.json either.*download/ },
);
refused(
  'a vocab.json without its merges.txt',
  () => {
    model.remove('tokenizer/tokenizer.json', 'tokenizer/merges.txt');
  },
  { message: /has no merges\.txt/ },
);
for (const text of ['', '{', '[]', '{"model": {}}', '{"model": {"type": "WordPiece"}}']) {
  refused(
    `a tokenizer.json that holds ${JSON.stringify(text)}`,
    () => {
      model.write('tokenizer/tokenizer.json', text);
    },
    { message: /tokenizer\.json.*download/ },
  );
}
for (const id of [-1, 1.5, '7', 1e300, null]) {
  refused(
    `the token id ${JSON.stringify(id)}`,
    () => {
      model.remove('tokenizer/tokenizer.json');
      model.json('tokenizer/vocab.json', { 'a</w>': id });
    },
    { message: /vocab\.json.*the id of the token/ },
  );
}
refused(
  'a tokenizer of more tokens than the text encoder knows',
  () => {
    model.json('text_encoder/config.json', { vocab_size: 1000 });
  },
  { code: 'ERR_PROGRAM_NOT_FOUND', message: /text_encoder/ },
);
refused(
  'a tokenizer with tokens that the text encoder lacks',
  () => {
    model.write('tokenizer/added_tokens.json', '{"<one>": 1500, "<two>": 1501}');
  },
  { message: /tokenizer.*1502 tokens.*text encoder.*1500/ },
);

// Root may read everything, but not the start of its own memory.
refused(
  'a file that cannot be read',
  () => {
    model.remove(unetConfig);
    symlinkSync('/proc/self/mem', model.path(unetConfig));
  },
  { message: /unet\/config\.json cannot be read/ },
);
