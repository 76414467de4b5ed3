// What goes on around the networks: the event loop while one runs, and the denoising loop's own cost.
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import type { NativeNetwork } from '../../../lib/core.js';
import { Generator } from '../../../lib/generator.js';
import { loadImage } from '../../../lib/image.js';
import { native } from '../../../lib/native.js';
import { Network } from '../../../lib/networks/network.js';
import { UNet } from '../../../lib/networks/unet.js';
import { randn } from '../../../lib/ops.js';
import { demoModel } from '../../../lib/package-root.js';
import type { BenchContext, ComparisonResult } from '../context.js';
import type { Side } from '../measure.js';
import { openDemo, picture } from './opening.js';

/** 99th percentile of the time between two turns of a timer of 1 ms, while a UNet runs and while nothing does. */
export async function compareEventLoop(context: BenchContext): Promise<ComparisonResult> {
  const { model = '', dtypes, device } = context.settings;
  const [dtype = 'float32'] = dtypes.slice(-1);
  const side = 32;
  const folder = join(model, 'unet');
  const network = await Network.load(folder, 'UNet2DConditionModel', { dtype, device });
  const unet = new UNet(network);
  const generator = new Generator().manualSeed(0);
  using sample = randn([2, 4, side, side], { generator, dtype, device });
  using text = randn([2, 77, 768], { generator, dtype, device });
  const longest: number[] = [];
  const delayDuring = async (run: () => Promise<unknown>): Promise<number> => {
    // A fresh one each time: one that goes on counts the time between runs, too.
    const delay = monitorEventLoopDelay({ resolution: 1 });
    delay.enable();
    await run();
    delay.disable();
    longest.push(delay.max / 1e6);
    return delay.percentile(99) / 1e6;
  };
  const threeSteps = async () => {
    for (let i = 0; i < 3; i += 1) (await unet.predict(sample, 500, text)).dispose();
  };
  const sides: Side[] = [
    {
      name: `while the UNet runs (${dtype}, batch 2, ${side}×${side} latents)`,
      isOurs: true,
      dtype,
      run: () => delayDuring(threeSteps),
    },
    { name: 'while nothing runs', isOurs: true, dtype, run: () => delayDuring(() => sleep(2000)) },
  ];
  const title = "event loop's delay, 99th percentile, timer of 1 ms";
  const result = await context.compare(title, sides, { unit: 'ms' });
  const whileRunning = longest.filter((_, i) => i % 2 === 0 && i >= 2);
  result.notes.push(
    `the timer's own millisecond is included; the longest delay while the UNet ran: ${Math.max(...whileRunning).toFixed(1)} ms`,
  );
  network.dispose();
  return result;
}

const steps = 400;

/**
 * A step without the network's work: scheduler, guidance, batching, bindings and the way to the device
 * thread and back. In place of running, the thread copies a tensor of two numbers and the answer is the
 * noise made before. Measured from the first step's end to the last one's.
 */
export async function compareLoop(context: BenchContext): Promise<ComparisonResult> {
  const { device } = context.settings;
  using noise = randn([2, 4, 64, 64], { generator: new Generator().manualSeed(0), device });
  using nothing = randn([2], { generator: new Generator().manualSeed(0) });
  const answer = async () => {
    await nothing.native.toHost('float32');
    return [noise.native.alias()];
  };
  const core = native();
  const create = core.createNetwork;
  core.createNetwork = async (program, ...rest) => {
    const network = await create.call(core, program, ...rest);
    return program.inputCount > 2 ? withAnswer(network, answer) : network;
  };
  const pipe = await openDemo(context, 'float32').finally(() => {
    core.createNetwork = create;
  });
  const size = 64 * pipe.components.vae.scaleFactor;
  const image = (await loadImage(picture)).resize(size, size);
  const run = async () => {
    const settings = { numInferenceSteps: steps, strength: 1, outputType: 'latent' } as const;
    let [first, last] = [0, 0];
    const onStep = () => {
      last = performance.now();
      if (first === 0) first = last;
    };
    const { images } = await pipe.generate({
      prompt: 'a castle',
      image,
      seed: 0,
      onStep,
      ...settings,
    });
    images.dispose();
    return (last - first) / (steps - 1);
  };
  const sides: Side[] = [{ name: 'torchbrush', isOurs: true, dtype: 'float32', run }];
  const mode = context.modes.find(({ dtype }) => dtype === 'float32');
  if (mode !== undefined) {
    const side = context.diffusersSide(
      mode,
      (peer) => peer.ask('load', { folder: demoModel, dtype: 'float32' }),
      async (peer) => 1000 * (await peer.time('loop', { image: picture, size, steps })),
    );
    sides.push(side);
  }
  const title = 'a guided step without the network, 64×64 latents';
  const result = await context.compare(title, sides, { unit: 'ms', warmups: 2 });
  pipe.dispose();
  return result;
}

/** A native network's own properties are read-only, hence another object. */
function withAnswer(network: NativeNetwork, run: NativeNetwork['run']): NativeNetwork {
  return {
    run,
    profile: (...args) => network.profile(...args),
    operators: (...args) => network.operators(...args),
    updateWeights: (updates) => network.updateWeights(updates),
    replaceRows: (...args) => network.replaceRows(...args),
    setOffload: (mode) => network.setOffload(mode),
    leave: () => network.leave(),
    useGraphs: (limit) => network.useGraphs(limit),
    graphStatus: () => network.graphStatus(),
    dispose: () => network.dispose(),
  };
}
