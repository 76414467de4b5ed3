// LoRA and textual inversion files against diffusers: the same files, weights and seeds on both sides.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { after, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { layerNames } from '../../lib/adapters/lora-names.js';
import {
  type AdapterWeight,
  memoryStats,
  StableDiffusionPipeline,
  StableDiffusionXLPipeline,
  Tensor,
} from '../../lib/index.js';
import type { Network } from '../../lib/networks/network.js';
import { ensurePython } from '../../scripts/python.js';
import { type CaseOptions, snakeCaseKeys } from './case.js';
import { largestDifference, pictureTolerance } from './compare.js';
import type { DiffusersResult } from './diffusers.js';
import {
  exportCheckpointPrograms,
  makeCheckpoints,
  pythonEnvironment,
  readTensorFile,
  runFolder,
} from './workspace.js';

interface AdapterCase {
  name: string;
  checkpoint: (typeof checkpointNames)[number];
  /** Files without folder and extension, loaded in this order under the same names. */
  adapters?: string[];
  /** Weights of the adapters; the last one alone is active unless given. */
  weights?: AdapterWeight[];
  fuse?: number;
  /** A file is `.safetensors` unless it says otherwise. */
  inversions?: { file: string; token?: string }[];
  prompt?: string;
}

const checkpointNames = ['two-levels:1', 'three-levels:3', 'xl-base:1'] as const;
const isXl = (checkpoint: AdapterCase['checkpoint']) => checkpoint === 'xl-base:1';

const run = promisify(execFile);
const scripts = join(dirname(fileURLToPath(import.meta.url)), 'adapters');
const say = (line: string) => console.error(`parity: ${line}`);
const python = await ensurePython({ log: say });
const { folder, remove } = await runFolder();

say('making checkpoints and adapters with random weights');
const checkpoints = await makeCheckpoints(python, checkpointNames);
for (const name of checkpointNames) {
  const where = ['--output', fileFolder(name)];
  await run(python, [join(scripts, 'make_adapters.py'), checkpoints[name], ...where], {
    env: pythonEnvironment,
  });
}
await exportCheckpointPrograms(python, Object.values(checkpoints));

const options: CaseOptions = {
  prompt: 'a red fox on a green hill',
  negativePrompt: 'blurry',
  numInferenceSteps: 2,
  guidanceScale: 4,
  height: 32,
  width: 32,
};

/** Every kind of file on one form of network, a few on the other. */
const singles = {
  'three-levels:3': ['peft-16', 'kohya-4-alpha', 'kohya-original', 'early'],
  'two-levels:1': [
    'peft-4',
    'peft-16',
    'peft-metadata',
    'kohya-4',
    'kohya-4-alpha',
    'kohya-16-alpha',
    'kohya-16-half',
    'kohya-original',
    'linear-layer',
    'early',
  ],
};

const cases: AdapterCase[] = [
  ...(['two-levels:1', 'three-levels:3'] as const).flatMap((checkpoint): AdapterCase[] => [
    { name: `${checkpoint} as it is`, checkpoint },
    ...singles[checkpoint].map((file) => ({
      name: `${checkpoint} with ${file}`,
      checkpoint,
      adapters: [file],
    })),
    {
      name: `${checkpoint} with two adapters at once`,
      checkpoint,
      adapters: ['peft-4', 'kohya-16-alpha'],
      weights: [0.7, 0.4],
    },
    {
      name: `${checkpoint} with one adapter taken away from another`,
      checkpoint,
      adapters: ['peft-attention', 'kohya-4-alpha'],
      weights: [1.2, -0.6],
    },
  ]),
  {
    name: 'weights of their own for UNet and text encoder',
    checkpoint: 'two-levels:1',
    adapters: ['peft-16'],
    weights: [{ unet: 0.3, textEncoder: 1.5 }],
  },
  {
    name: 'only the last of several loaded is active',
    checkpoint: 'two-levels:1',
    adapters: ['peft-16', 'kohya-4', 'peft-4'],
  },
  {
    name: 'fused with a scale',
    checkpoint: 'two-levels:1',
    adapters: ['peft-4', 'kohya-4'],
    weights: [0.5, 1],
    fuse: 0.7,
  },
  {
    name: 'a word with one vector',
    checkpoint: 'two-levels:1',
    inversions: [{ file: 'inversion-one' }],
    prompt: 'a <thing> on a hill',
  },
  {
    name: 'a word with one row',
    checkpoint: 'three-levels:3',
    inversions: [{ file: 'inversion-row' }],
    prompt: 'a <row>, and a<row>b',
  },
  {
    name: 'a word with four vectors under a name of its own',
    checkpoint: 'two-levels:1',
    inversions: [{ file: 'inversion-four', token: 'sks-style' }],
    prompt: 'a fox, sks-style,sks-style on a hill',
  },
  {
    name: 'a file of half-precision emb_params beside another word',
    checkpoint: 'three-levels:3',
    inversions: [{ file: 'inversion-emb-params', token: '<emb>' }, { file: 'inversion-four' }],
    prompt: 'a <style> fox <emb>',
  },
  {
    name: 'a .bin file',
    checkpoint: 'two-levels:1',
    inversions: [{ file: 'inversion-four.bin' }],
    prompt: 'a fox in <style>',
  },
  {
    name: "A1111's nested form, by the name in it",
    checkpoint: 'two-levels:1',
    inversions: [{ file: 'inversion-nested.pt' }],
    prompt: 'a fox in nested-style',
  },
  {
    name: 'a file that is one tensor',
    checkpoint: 'three-levels:3',
    inversions: [{ file: 'inversion-bare.bin', token: '<bare>' }],
    prompt: 'a fox in <bare>',
  },
  { name: 'xl-base:1 as it is', checkpoint: 'xl-base:1' },
  {
    name: 'both text encoders of XL with peft-4',
    checkpoint: 'xl-base:1',
    adapters: ['peft-4'],
  },
  {
    name: 'both text encoders of XL with kohya-16-alpha',
    checkpoint: 'xl-base:1',
    adapters: ['kohya-16-alpha'],
  },
  {
    name: 'two adapters of XL, with weights of their own for its text encoders',
    checkpoint: 'xl-base:1',
    adapters: ['peft-4', 'kohya-16-alpha'],
    weights: [{ textEncoder: 0.4, textEncoder2: 1.2 }, 0.5],
  },
  {
    name: 'a word for both text encoders of XL',
    checkpoint: 'xl-base:1',
    inversions: [{ file: 'inversion-pair', token: '<pair>' }],
    prompt: 'a fox in <pair>',
  },
  {
    name: 'a word and an adapter together',
    checkpoint: 'two-levels:1',
    adapters: ['kohya-4-alpha'],
    inversions: [{ file: 'inversion-four' }],
    prompt: 'a fox in <style>',
  },
];

say(`drawing ${cases.length} cases with diffusers`);
const expected = await drawWithDiffusers();
const pipes = new Map<string, StableDiffusionPipeline | StableDiffusionXLPipeline>();
let worst = 0;

after(async () => {
  say(`largest difference of a picture's values: ${worst.toExponential(1)}`);
  await remove();
});

describe('adapters change pictures as in diffusers', () => {
  for (const one of cases) {
    test(one.name, async () => {
      const theirs = expected.get(one.name) as DiffusersResult;
      assert.ok(theirs.spread > 0.05, 'the expected picture is flat');
      const reference = await readTensorFile(theirs.tensors.picture);
      const plain = expected.get(`${one.checkpoint} as it is`) as DiffusersResult;
      if (one.adapters ?? one.inversions) {
        const change = largestDifference(reference, await readTensorFile(plain.tensors.picture));
        assert.ok(change > 1e-2, 'the adapter changes nothing');
      }
      const ours = await draw(one);
      const difference = largestDifference(reference, ours);
      worst = Math.max(worst, difference);
      assert.ok(difference <= pictureTolerance, `the pictures differ by ${difference}`);
    });
  }

  test('without adapters the checkpoints draw the same bits as before', async () => {
    for (const checkpoint of checkpointNames) {
      const one = { name: 'again', checkpoint };
      assert.deepEqual(await draw(one), first.get(checkpoint));
    }
  });

  test('nothing is left behind', () => {
    for (const pipe of pipes.values()) pipe.dispose();
    const { tensors, networks } = memoryStats();
    assert.deepEqual({ tensors, networks }, { tensors: 0, networks: 0 });
  });
});

test("layers are found under the original code's names, XL's among them", async () => {
  const file = join(fileFolder('two-levels:1'), 'names.json');
  const tables = JSON.parse(await readFile(file, 'utf8')) as Record<string, NameTable>;
  for (const { layers_per_block, shapes, names } of Object.values(tables)) {
    const network = {
      className: 'UNet2DConditionModel',
      config: { layers_per_block },
      parameters: new Map(Object.entries(shapes)),
    } as Partial<Network> as Network;
    const found = layerNames(network);
    for (const [original, name] of names) {
      assert.equal(found.underscored(original)?.parameter, `${name}.weight`);
      assert.equal(found.underscored(name.replaceAll('.', '_'))?.parameter, `${name}.weight`);
    }
  }
});

interface NameTable {
  layers_per_block: number;
  shapes: Record<string, number[]>;
  /** Original name with underscores, today's name, what diffusers makes of the first. */
  names: [string, string, string][];
}

/** The first picture of each checkpoint, without adapters. */
const first = new Map<string, Float32Array>();

function fileFolder(checkpoint: string): string {
  return join(folder, 'adapters', checkpoint.replace(':', '-'));
}

function fileOf({ checkpoint }: AdapterCase, name: string): string {
  const file = /\.\w+$/.test(name) ? name : `${name}.safetensors`;
  return join(fileFolder(checkpoint), file);
}

async function draw(one: AdapterCase): Promise<Float32Array> {
  const placement = { dtype: 'float32', device: 'cpu' } as const;
  const pipe =
    pipes.get(one.checkpoint) ??
    (isXl(one.checkpoint)
      ? await StableDiffusionXLPipeline.fromPretrained(checkpoints[one.checkpoint], placement)
      : await StableDiffusionPipeline.fromPretrained(checkpoints[one.checkpoint], placement));
  pipes.set(one.checkpoint, pipe);
  const { adapters = [], weights, fuse, inversions = [] } = one;
  for (const name of adapters) {
    await pipe.loadLoraWeights(fileOf(one, name), { adapterName: name });
  }
  if (weights !== undefined) await pipe.setAdapters(adapters, weights);
  if (fuse !== undefined) await pipe.fuseLora({ loraScale: fuse });
  for (const { file, ...named } of inversions) {
    await pipe.loadTextualInversion(fileOf(one, file), named);
  }
  const { prompt = options.prompt } = one;
  const { images } = await pipe.generate({
    ...options,
    prompt,
    seed: 5,
    outputType: 'tensor',
  } as never);
  assert.ok(images instanceof Tensor);
  const picture = await images.toFloat32Array();
  images.dispose();
  await pipe.unfuseLora();
  await pipe.unloadLoraWeights();
  await pipe.unloadTextualInversion();
  if (adapters.length + inversions.length === 0 && !first.has(one.checkpoint)) {
    first.set(one.checkpoint, picture);
  }
  return picture;
}

async function drawWithDiffusers(): Promise<Map<string, DiffusersResult>> {
  const request = join(folder, 'adapter-cases.json');
  const output = join(folder, 'with-adapters');
  await writeFile(request, JSON.stringify({ cases: cases.map(pythonCase) }));
  await run(python, [join(scripts, 'run_adapters.py'), request, '--output', output], {
    env: pythonEnvironment,
    maxBuffer: 2 ** 26,
  });
  const { results } = JSON.parse(await readFile(join(output, 'results.json'), 'utf8')) as {
    results: Record<string, DiffusersResult | { error: string }>;
  };
  const found = new Map<string, DiffusersResult>();
  for (const [name, answer] of Object.entries(results)) {
    if ('error' in answer) throw new Error(`diffusers refuses "${name}":\n${answer.error}`);
    found.set(name, answer);
  }
  return found;
}

function pythonCase(one: AdapterCase): object {
  const { adapters = [], weights, fuse, inversions = [], prompt = options.prompt } = one;
  const strengths = weights?.map((weight) =>
    typeof weight === 'number'
      ? weight
      : {
          unet: weight.unet,
          text_encoder: weight.textEncoder,
          text_encoder_2: weight.textEncoder2,
        },
  );
  return {
    name: one.name,
    checkpoint: checkpoints[one.checkpoint],
    pipeline: isXl(one.checkpoint) ? 'StableDiffusionXLPipeline' : 'StableDiffusionPipeline',
    options: { ...snakeCaseKeys(options), prompt },
    seeds: 5,
    adapters: adapters.map((name) => ({ file: fileOf(one, name), name })),
    set: strengths === undefined ? null : [adapters, strengths],
    fuse: fuse ?? null,
    inversions: inversions.map(({ file, token }) => ({
      file: fileOf(one, file),
      token: token ?? null,
    })),
  };
}
