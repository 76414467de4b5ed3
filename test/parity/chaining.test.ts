// Whole chains against diffusers: the same checkpoints, options and seeds at every stage.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { promisify } from 'node:util';

import {
  chain,
  type DiffusionPipeline,
  KandinskyV22CombinedPipeline,
  KandinskyV22Img2ImgCombinedPipeline,
  memoryStats,
  type Pictures,
  type Stage,
  type Tensor,
} from '../../lib/index.js';
import { ensurePython } from '../../scripts/python.js';
import { pipelines, snakeCaseKeys, type TensorFile } from './case.js';
import { largestDifference, pictureTolerance } from './compare.js';
import { say } from './suite.js';
import {
  exportCheckpointPrograms,
  initImage,
  makeCheckpoints,
  makeKandinskyCheckpoints,
  pythonEnvironment,
  pythonScripts,
  readTensorFile,
  runFolder,
  saveImage,
} from './workspace.js';

const classes = {
  ...pipelines,
  KandinskyV22CombinedPipeline,
  KandinskyV22Img2ImgCombinedPipeline,
};

interface StageCase {
  pipeline: keyof typeof classes;
  checkpoint: string;
  /** Folder of the prior's checkpoint. */
  prior?: string;
  options: Record<string, unknown>;
  /** The picture that the first stage starts from. */
  image?: string;
  seed: number;
  output: 'latent' | 'tensor';
}

const python = await ensurePython({ log: say });
const { folder, remove } = await runFolder();
const names = ['two-levels:1', 'two-levels:2', 'lcm:1', 'upscaler-x2:1', 'upscaler-x4:2'] as const;
const plain = await makeCheckpoints(python, names);
const { prior, decoder } = (await makeKandinskyCheckpoints(python, ['two-levels:1']))[
  'two-levels:1'
];
await exportCheckpointPrograms(python, [...Object.values(plain), prior, decoder]);

const image = await saveImage(folder, 'start', initImage(24, 32));
const square = await saveImage(folder, 'square', initImage(16, 16, 1));
const prompt = 'a red fox asleep on a green hill';
const styled = 'a red fox, oil painting';
const few = { prompt, numInferenceSteps: 4 };
const decoding = { prompt: styled, numInferenceSteps: 3, priorNumInferenceSteps: 3 };
const kandinsky = { checkpoint: decoder, prior, output: 'tensor' } as const;

const draw: StageCase = {
  pipeline: 'StableDiffusionPipeline',
  checkpoint: plain['two-levels:1'],
  options: { ...few, height: 32, width: 32 },
  seed: 1,
  output: 'latent',
};
const redraw: StageCase = {
  ...draw,
  pipeline: 'StableDiffusionImg2ImgPipeline',
  options: few,
  seed: 2,
};
const kandinskyRedraw: StageCase = {
  ...kandinsky,
  pipeline: 'KandinskyV22Img2ImgCombinedPipeline',
  options: { ...decoding, height: 32, width: 32, strength: 0.7 },
  seed: 3,
};
const chains: Record<string, readonly StageCase[]> = {
  'a picture through three checkpoints, in latents': [
    { ...redraw, image },
    { ...redraw, checkpoint: plain['two-levels:2'], options: { ...few, prompt: styled } },
    {
      ...redraw,
      pipeline: 'LatentConsistencyModelImg2ImgPipeline',
      checkpoint: plain['lcm:1'],
      output: 'tensor',
    },
  ],
  'a text, redrawn by Stable Diffusion, then by Kandinsky': [
    draw,
    { ...redraw, options: { ...few, prompt: styled, strength: 0.6 }, output: 'tensor' },
    kandinskyRedraw,
  ],
  'a text, drawn and redrawn by Kandinsky': [
    {
      ...kandinsky,
      pipeline: 'KandinskyV22CombinedPipeline',
      options: { ...decoding, height: 32, width: 32 },
      seed: 4,
    },
    kandinskyRedraw,
  ],
  'a picture made twice as large and four times, in latents': [
    { ...redraw, image: square },
    {
      ...redraw,
      pipeline: 'StableDiffusionLatentUpscalePipeline',
      checkpoint: plain['upscaler-x2:1'],
    },
    {
      ...redraw,
      pipeline: 'StableDiffusionUpscalePipeline',
      checkpoint: plain['upscaler-x4:2'],
      options: { ...few, noiseLevel: 10 },
      output: 'tensor',
    },
  ],
};

after(remove);

const expected = await runDiffusers();

for (const [name, stages] of Object.entries(chains)) {
  test(`${name}, as diffusers draws it`, async () => {
    const theirs = expected[name] as TensorFile;
    const loaded = await Promise.all(stages.map(load));
    try {
      const [first, ...rest] = stages.map((one, index) => stageOf(one, loaded[index] as Pipeline));
      const { images } = await chain<Tensor>([first as never, ...rest] as never);
      using picture = images;
      assert.deepEqual(picture.shape, theirs.shape);
      const values = await readTensorFile(theirs);
      const difference = largestDifference(values, await picture.toFloat32Array());
      say(`${name}: ${difference.toExponential(1)}`);
      assert.ok(difference <= pictureTolerance, `the pictures differ by ${difference}`);
    } finally {
      for (const pipe of loaded) pipe.dispose();
    }
    assert.deepEqual(memoryStats(), { tensors: 0, tensorBytes: 0, networks: 0 });
  });
}

type Pipeline = DiffusionPipeline & {
  generate(options: Record<string, unknown>): Promise<Pictures>;
};

async function load({ pipeline, checkpoint, prior }: StageCase): Promise<Pipeline> {
  const Class = classes[pipeline] as unknown as {
    fromPretrained(path: string, options: object): Promise<Pipeline>;
  };
  const place = { dtype: 'float32', device: 'cpu' };
  return await Class.fromPretrained(checkpoint, { ...place, ...(prior && { prior }) });
}

function stageOf({ options, image, seed, output }: StageCase, pipe: Pipeline): Stage {
  return (before, shared) =>
    pipe.generate({
      ...options,
      ...shared,
      ...(image && { image }),
      ...(before && { image: before }),
      seed,
      outputType: output,
    });
}

async function runDiffusers(): Promise<Record<string, TensorFile>> {
  const pythonStage = (stage: StageCase) => ({
    prior: null,
    image: null,
    ...stage,
    options: snakeCaseKeys(stage.options),
  });
  const request = join(folder, 'chains.json');
  const entries = Object.entries(chains).map(([name, stages]) => [name, stages.map(pythonStage)]);
  await writeFile(request, JSON.stringify({ chains: Object.fromEntries(entries) }));
  const output = join(folder, 'chains');
  say(`drawing ${entries.length} chains with diffusers`);
  await promisify(execFile)(
    python,
    [join(pythonScripts, 'run_chains.py'), request, '--output', output],
    { env: pythonEnvironment, maxBuffer: 2 ** 26 },
  );
  return JSON.parse(await readFile(join(output, 'results.json'), 'utf8'));
}
