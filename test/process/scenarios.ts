// Run in child processes by exit.test.ts; the first argument says what to do.
import { cpSync, mkdtempSync, rmSync, truncateSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isMainThread, parentPort, type Worker, workerData } from 'node:worker_threads';

import { AutoPipelineForImage2Image, StableDiffusionPipeline } from '../../lib/index.js';
import { simulateAccelerator } from '../../lib/networks/offload.js';
import { demoModel, testImage } from '../helpers.js';
import { startWorker } from './worker.js';

async function draw(
  onStep?: () => void,
  numInferenceSteps = 3,
  loading: { offload?: 'sequential' } = {},
): Promise<Uint8Array> {
  using pipe = await AutoPipelineForImage2Image.fromPretrained(demoModel, loading);
  const { images } = await pipe.generate({
    prompt: 'a fox',
    image: testImage(),
    seed: 1,
    numInferenceSteps,
    strength: 1,
    onStep,
  });
  return images[0]?.data ?? new Uint8Array();
}

const weightFiles = {
  unet: 'unet/diffusion_pytorch_model.safetensors',
  textEncoder: 'text_encoder/model.safetensors',
};

const inTheMiddle = (then: () => void) => () => setTimeout(then, 2);

const scenarios: Record<string, () => Promise<void>> = {
  async exit() {
    await draw(
      inTheMiddle(() => process.exit(7)),
      500,
    );
  },
  async 'exit-streaming'() {
    simulateAccelerator(true);
    await draw(
      inTheMiddle(() => process.exit(7)),
      500,
      { offload: 'sequential' },
    );
  },
  async throw() {
    await draw(
      inTheMiddle(() => {
        throw new Error('thrown on purpose');
      }),
      500,
    );
  },
  async finish() {
    await draw();
    console.log('drawn');
  },
  async 'not-awaited'() {
    void draw().then(() => console.log('drawn later'));
  },
  async workers() {
    const [first, second] = await Promise.all([drawInWorker(), drawInWorker()]);
    if (first.length > 0 && Buffer.compare(first, second) === 0) console.log('two equal pictures');
  },
  async 'shortened-files'() {
    await drawFromShortened();
    await answerOf(startOwn('shortened'));
    await draw();
    console.log('still drawing');
  },
  async terminate() {
    const worker = startOwn('forever');
    await new Promise((resolve) => worker.once('message', resolve));
    await worker.terminate();
    await draw();
    console.log('still drawing after termination');
  },
};

/** Weight files get shorter between loading and the first run, and between two changes of weights. */
async function drawFromShortened(): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'torchbrush-shortened-'));
  cpSync(demoModel, folder, { recursive: true });
  const { unet, textEncoder } = weightFiles;
  using pipe = await StableDiffusionPipeline.fromPretrained(folder, { dtype: 'float32' });
  for (const file of [unet, textEncoder]) truncateSync(join(folder, file), 5000);
  const drawn = pipe.generate({ prompt: 'a fox', numInferenceSteps: 2, seed: 1 });
  const failure = await drawn.then(
    () => 'nothing',
    ({ code, message }) => `${code}: ${message}`,
  );
  rmSync(folder, { recursive: true });
  console.log(failure);
}

const startOwn = (work: 'once' | 'forever' | 'shortened') => startWorker(import.meta.url, work);

async function drawInWorker(): Promise<Uint8Array> {
  return answerOf(startOwn('once'));
}

async function answerOf(worker: Worker): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    worker.once('message', resolve);
    worker.once('error', reject);
  });
}

if (isMainThread) {
  await scenarios[process.argv[2] ?? '']?.();
} else if (workerData === 'once') {
  parentPort?.postMessage(await draw());
} else if (workerData === 'shortened') {
  await drawFromShortened();
  parentPort?.postMessage('done');
} else {
  await draw(() => parentPort?.postMessage('running'), 500);
}
