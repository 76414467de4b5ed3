// Offload in pipelines with more parts than the embedded model has: two text encoders, ControlNets, a
// prior. The CPU stands in for an accelerator.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import {
  ControlNetModel,
  KandinskyV22CombinedPipeline,
  memoryStats,
  StableDiffusionXLControlNetPipeline,
  type Tensor,
} from '../../lib/index.js';
import { simulateAccelerator } from '../../lib/networks/offload.js';
import { ensurePython } from '../../scripts/python.js';
import { distance } from '../drawing.js';
import { testImage } from '../helpers.js';
import {
  exportCheckpointPrograms,
  makeCheckpoints,
  makeKandinskyCheckpoints,
} from './workspace.js';

const python = await ensurePython({ log: (line) => console.error(line) });
const plain = await makeCheckpoints(python, ['xl-base:1', 'control-xl:1', 'control-xl:2']);
const kandinsky = (await makeKandinskyCheckpoints(python, ['two-levels:1']))['two-levels:1'];
const nets = [plain['control-xl:1'], plain['control-xl:2']];
const base = [plain['xl-base:1'], kandinsky.prior, kandinsky.decoder];
await exportCheckpointPrograms(python, base, nets);
simulateAccelerator(true);

type Drawn = { images: Tensor };
interface Pipe extends Disposable {
  enableModelCpuOffload(): void;
  enableSequentialCpuOffload(): void;
  disableSequentialCpuOffload(): void;
}

/** Draws in every mode; on the device there may never be all weights while steps are taken. */
async function equalInEveryMode(
  pipe: Pipe,
  draw: (onStep: () => void) => Promise<Drawn>,
): Promise<void> {
  const here = (): number => memoryStats().weightBytes?.simulated ?? 0;
  const whole = here();
  const pixels = async (most: number): Promise<Float32Array> => {
    let steps = 0;
    const { images } = await draw(() => {
      steps += 1;
      assert.ok(here() <= most, `${here()} of ${whole}`);
    });
    assert.ok(steps > 0);
    using picture = images;
    return await picture.toFloat32Array();
  };
  const expected = await pixels(whole);
  // Copies of weights lie at other addresses, and matrix products may sum in another order there.
  const assertEqual = (drawn: Float32Array) => assert.ok(distance(drawn, expected) < 1e-5);
  pipe.enableModelCpuOffload();
  assertEqual(await pixels(whole * 0.9));
  pipe.enableSequentialCpuOffload();
  assertEqual(await pixels(0));
  pipe.disableSequentialCpuOffload();
  assertEqual(await pixels(whole));
}

const options = { prompt: 'a fox', numInferenceSteps: 2, seed: 1, outputType: 'tensor' } as const;

test('SDXL with two ControlNets draws the same however its weights come', async () => {
  const [first, second] = await Promise.all(nets.map((net) => ControlNetModel.fromPretrained(net)));
  using one = first as ControlNetModel;
  using two = second as ControlNetModel;
  using pipe = await StableDiffusionXLControlNetPipeline.fromPretrained(plain['xl-base:1'], {
    controlnet: [one, two],
  });
  const image = [testImage(32, 32), testImage(32, 32)];
  const size = { height: 32, width: 32 };
  await equalInEveryMode(pipe, (onStep) => pipe.generate({ ...options, ...size, image, onStep }));
});

test('Kandinsky with its prior draws the same however its weights come', async () => {
  using pipe = await KandinskyV22CombinedPipeline.fromPretrained(kandinsky.decoder, {
    prior: kandinsky.prior,
  });
  const size = { height: 32, width: 32, priorNumInferenceSteps: 2 };
  await equalInEveryMode(pipe, (onStep) => pipe.generate({ ...options, ...size, onStep }));
});

test('nothing is left behind', () => {
  assert.deepEqual(memoryStats(), { tensors: 0, tensorBytes: 0, networks: 0 });
});
