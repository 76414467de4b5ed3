// Image-to-image with the embedded model, end to end, against diffusers: batch 1, 20 guided steps,
// float32 and as many threads on both sides, in turn.
//   npx tsx scripts/bench/demo.ts [rounds]
import { join } from 'node:path';

import {
  configure,
  demoModel,
  loadImage,
  StableDiffusionImg2ImgPipeline,
} from '../../lib/index.js';
import { type Comparison, DiffusersPeer, report } from './peer.js';

const rounds = Number(process.argv[2] ?? 15);
const threads = 2;
const file = join(demoModel, 'inputs', 'house-noto-64.png');
const task = { prompt: 'castle, noto style', strength: 0.8, seed: 7 };

configure({ threads });
const peer = await DiffusersPeer.start(threads);
await peer.ask('load', { folder: demoModel });
using pipe = await StableDiffusionImg2ImgPipeline.fromPretrained(demoModel);
const image = await loadImage(file);

async function ours(): Promise<number> {
  const began = performance.now();
  await pipe.generate({ ...task, image, numInferenceSteps: 25, guidanceScale: 3 });
  return (performance.now() - began) / 1000;
}

async function theirs(): Promise<number> {
  const { seconds } = await peer.ask('img2img', { ...task, image: file, steps: 25, guidance: 3 });
  return seconds;
}

const comparison: Comparison = { name: 'demo model img2img, 20 steps', ours: [], theirs: [] };
await ours();
await theirs();
for (let round = 0; round < rounds; round += 1) {
  comparison.ours.push(await ours());
  comparison.theirs.push(await theirs());
}
report([comparison], peer);
peer.stop();
