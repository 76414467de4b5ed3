// Requests that come at the same time: generations with the embedded model that share passes through
// the networks, against the same ones without batching, and against diffusers one by one.
//   npx tsx scripts/bench/serving.ts [requests at a time] [rounds]
import { join } from 'node:path';

import {
  configure,
  demoModel,
  loadImage,
  StableDiffusionImg2ImgPipeline,
} from '../../lib/index.js';
import { type Comparison, DiffusersPeer, report } from './peer.js';

const [requests, rounds] = [Number(process.argv[2] ?? 8), Number(process.argv[3] ?? 7)];
const threads = 2;
const file = join(demoModel, 'inputs', 'house-noto-64.png');
const strength = 0.8;
const prompts = ['castle', 'fox', 'car', 'strawberry', 'rocket', 'gift', 'cat', 'balloon'];

configure({ threads });
const peer = await DiffusersPeer.start(threads);
await peer.ask('load', { folder: demoModel });
using pipe = await StableDiffusionImg2ImgPipeline.fromPretrained(demoModel);
const image = await loadImage(file);

/** They differ in prompt, seed, number of steps and guidance. */
const tasks = Array.from({ length: requests }, (_, i) => ({
  prompt: `a ${prompts[i % prompts.length]}, noto style`,
  seed: i,
  steps: 20 + (i % 3) * 5,
  guidance: 2 + (i % 4),
}));

async function draw({ prompt, seed, steps, guidance }: (typeof tasks)[number]): Promise<void> {
  const numInferenceSteps = steps;
  await pipe.generate({
    prompt,
    seed,
    image,
    strength,
    numInferenceSteps,
    guidanceScale: guidance,
  });
}

async function together(batching: boolean): Promise<number> {
  configure({ batching });
  const began = performance.now();
  await Promise.all(tasks.map(draw));
  return (performance.now() - began) / 1000;
}

async function theirs(): Promise<number> {
  let total = 0;
  for (const task of tasks) {
    const { seconds } = await peer.ask('img2img', { ...task, image: file, strength });
    total += seconds;
  }
  return total;
}

const name = `${requests} requests at a time, demo model img2img`;
const batched: Comparison = { name, ours: [], theirs: [] };
const single: Comparison = { name: 'the same without batching', ours: [], theirs: batched.theirs };
await together(true);
await together(false);
await theirs();
for (let round = 0; round < rounds; round += 1) {
  batched.ours.push(await together(true));
  single.ours.push(await together(false));
  batched.theirs.push(await theirs());
}
report([batched, single], peer);
peer.stop();
