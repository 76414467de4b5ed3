// npm run demo: redraws a bundled picture with the embedded model and writes a labelled sheet that
// shows what strength, guidance scale and a negative prompt do.
import { mkdir } from 'node:fs/promises';
import { join, relative } from 'node:path';

import { Progress } from '../lib/cli/progress.js';
import { AutoPipelineForImage2Image, type ImageToImageOptions, loadImage } from '../lib/index.js';
import { demoModel, packageRoot } from '../lib/package-root.js';
import { type Cell, labelledSheet } from './labels.js';

const output = join(packageRoot, 'out', 'demo.png');
const prompt = 'castle, noto style';
const heart = 'a heart, 3d style';
const negativePrompt = 'red';
const steps = 25;

const input = await loadImage(join(demoModel, 'inputs', 'house-noto-64.png'));
const apple = await loadImage(join(demoModel, 'inputs', 'apple-3d-64.png'));
const began = performance.now();
console.log(`loading the embedded model from ${relative(packageRoot, demoModel)}`);
using pipe = await AutoPipelineForImage2Image.fromPretrained(demoModel);

const base = { prompt, image: input, seed: 7, numInferenceSteps: steps, guidanceScale: 3 };
const plan: { label: string; options: Partial<ImageToImageOptions> }[][] = [
  [0.3, 0.5, 0.7, 0.9].map((strength) => ({
    label: `strength ${strength}`,
    options: { strength },
  })),
  [1, 3, 6].map((guidanceScale) => ({
    label: `guidance scale ${guidanceScale}`,
    options: { strength: 0.8, guidanceScale },
  })),
  [undefined, negativePrompt].map((negative) => ({
    label: negative === undefined ? 'a heart, guidance 6' : `negative prompt "${negative}"`,
    options: {
      prompt: heart,
      image: apple,
      strength: 0.95,
      guidanceScale: 6,
      negativePrompt: negative,
    },
  })),
];

const total = plan.flat().length;
const progress = new Progress('drawing');
const rows: Cell[][] = [];
let drawn = 0;
for (const row of plan) {
  const cells: Cell[] = [];
  for (const { label, options } of row) {
    const onStep = ({ step, steps: of }: { step: number; steps: number }) =>
      progress.update(Number((drawn + (step + 1) / of).toFixed(2)), total);
    const { images } = await pipe.generate({ ...base, ...options, onStep, outputType: 'image' });
    const [image] = images;
    if (image !== undefined) cells.push({ image, label });
    drawn += 1;
  }
  rows.push(cells);
}
progress.stop();
rows[0]?.unshift({ image: input, label: 'init image' });
rows[2]?.unshift({ image: apple, label: 'init image' });

await mkdir(join(packageRoot, 'out'), { recursive: true });
const sheet = await labelledSheet(rows, 192);
await sheet.save(output);
const seconds = ((performance.now() - began) / 1000).toFixed(1);
console.log(`"${prompt}" from a picture of a house: ${total} pictures in ${seconds} s`);
console.log(`wrote ${relative(process.cwd(), output)}`);
