// Runs the scenarios that were asked for, one after the other.
import { basename } from 'node:path';

import { configure } from '../../lib/native.js';
import { demoModel } from '../../lib/package-root.js';
import { BenchContext, type BenchSettings, type ComparisonResult } from './context.js';
import { describeMachine } from './machine.js';
import type { BenchResult } from './report.js';
import { measureAdapters } from './scenarios/adapters.js';
import { compareEventLoop, compareLoop } from './scenarios/loop.js';
import { compareMemory } from './scenarios/memory.js';
import {
  compareNetwork,
  decode,
  encode,
  guidedStep,
  stableDiffusionCpp,
  textEncoder,
} from './scenarios/networks.js';
import {
  compareFirstStep,
  compareImageToImage,
  compareLoading,
  compareServing,
} from './scenarios/pipelines.js';

export interface Scenario {
  description: string;
  needsModel: boolean;
  run(context: BenchContext): AsyncIterable<ComparisonResult>;
}

const demoTask = { prompt: 'castle, noto style', seed: 7, steps: 25, strength: 0.8, guidance: 3 };
const fullTask = { prompt: 'a castle by the sea', seed: 7, steps: 5, strength: 0.8, guidance: 7.5 };

export const scenarios: Record<string, Scenario> = {
  load: {
    description: 'loading a pipeline, and its first step',
    needsModel: true,
    async *run(context) {
      yield await compareLoading(context);
      yield await compareFirstStep(context);
    },
  },
  'text-encoder': {
    description: 'CLIP-L on one prompt',
    needsModel: true,
    async *run(context) {
      yield await compareNetwork(context, textEncoder());
    },
  },
  unet: {
    description: 'a guided step of the UNet',
    needsModel: true,
    async *run(context) {
      for (const side of context.settings.latents) {
        yield await compareNetwork(context, guidedStep(side), stableDiffusionCpp(context, side));
      }
    },
  },
  vae: {
    description: 'decoding and encoding',
    needsModel: true,
    async *run(context) {
      const [side = 64] = context.settings.latents;
      yield await compareNetwork(context, decode(side));
      yield await compareNetwork(context, encode(side));
    },
  },
  img2img: {
    description: 'image-to-image end to end with the embedded model',
    needsModel: false,
    async *run(context) {
      const title = 'demo model img2img, 64×64 pixels, 20 guided steps';
      yield await compareImageToImage(context, demoModel, { title, size: 64, task: demoTask });
    },
  },
  'img2img-full': {
    description: 'image-to-image end to end with a full-size checkpoint',
    needsModel: true,
    async *run(context) {
      const { model = '', latents } = context.settings;
      for (const size of latents.map((side) => 8 * side)) {
        const title = `full-size img2img, ${size}×${size} pixels, 4 guided steps`;
        yield await compareImageToImage(context, model, { title, size, task: fullTask });
      }
    },
  },
  serving: {
    description: 'requests at the same time',
    needsModel: false,
    async *run(context) {
      yield await compareServing(context);
    },
  },
  'event-loop': {
    description: "the event loop's delay while a UNet runs",
    needsModel: true,
    async *run(context) {
      yield await compareEventLoop(context);
    },
  },
  loop: {
    description: 'what a step costs beside the network',
    needsModel: false,
    async *run(context) {
      yield await compareLoop(context);
    },
  },
  adapters: {
    description: 'setting a LoRA and taking it away',
    needsModel: true,
    async *run(context) {
      yield await measureAdapters(context);
    },
  },
  memory: {
    description: "a process's peak memory",
    needsModel: true,
    async *run(context) {
      const [side = 64] = context.settings.latents;
      yield await compareMemory(context, 8 * side);
    },
  },
};

export interface RunOptions {
  log: (line: string) => void;
  /** Called after each comparison with all that has been measured. */
  onResult?: (result: BenchResult) => Promise<void>;
}

export async function runBench(
  names: readonly string[],
  settings: BenchSettings,
  { log, onResult = async () => {} }: RunOptions,
): Promise<BenchResult> {
  configure({ threads: settings.threads });
  const context = new BenchContext(settings, log);
  // Without this machine's paths: results are published.
  const { python, sdcpp, model, other, ...rest } = settings;
  const named = (path: string | undefined) => path && basename(path);
  const shown = { ...rest, model: named(model), other: named(other) };
  const result: BenchResult = {
    date: new Date().toISOString(),
    machine: describeMachine(),
    settings: shown,
    peers: context.versions,
    scenarios: {},
  };
  try {
    for (const name of names) {
      const scenario = scenarios[name];
      if (scenario === undefined) throw new Error(`There is no scenario ${name}.`);
      const found: ComparisonResult[] = [];
      result.scenarios[name] = found;
      for await (const comparison of scenario.run(context)) {
        found.push(comparison);
        await onResult(result);
      }
    }
  } finally {
    await context.dispose();
  }
  return result;
}
