// What can be measured, by name.
import { demoModel } from '../../lib/package-root.js';
import type { BenchContext, ComparisonResult } from './context.js';
import { measureAdapters } from './scenarios/adapters.js';
import { compareEventLoop, compareLoop } from './scenarios/loop.js';
import { compareLoopWall } from './scenarios/loop-wall.js';
import { compareMemory } from './scenarios/memory.js';
import { compareNetwork, decode, encode, guidedStep, textEncoder } from './scenarios/networks.js';
import {
  compareFirstStep,
  compareImageToImage,
  compareLoading,
  compareServing,
} from './scenarios/pipelines.js';
import { sdcppNote, stableDiffusionCpp } from './scenarios/stable-diffusion-cpp.js';

export interface Scenario {
  description: string;
  needsModel: boolean;
  run(context: BenchContext): AsyncIterable<ComparisonResult>;
}

const demoTask = { prompt: 'castle, noto style', seed: 7, steps: 25, strength: 0.8, guidance: 3 };
const fullTask = { prompt: 'a castle by the sea', seed: 7, strength: 0.8, guidance: 7.5 };

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
        const cpp = stableDiffusionCpp(context, side);
        const result = await compareNetwork(context, guidedStep(side), cpp);
        if (result.sides.some(({ name }) => name === cpp[0]?.name)) result.notes.push(sdcppNote);
        yield result;
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
      const { model = '', latents, device } = context.settings;
      // Four of five steps are taken at this strength, forty of fifty.
      const steps = device === 'cpu' ? 5 : 50;
      const task = { ...fullTask, steps };
      for (const size of latents.map((side) => 8 * side)) {
        const title = `full-size img2img, ${size}×${size} pixels, ${0.8 * steps} guided steps`;
        yield await compareImageToImage(context, model, { title, size, task });
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
  'loop-wall': {
    description: "the denoising loop's time against the device's time for its UNet",
    needsModel: true,
    async *run(context) {
      const [side = 64] = context.settings.latents;
      yield await compareLoopWall(context, side);
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
    description: 'peak memory: of a process, or on a GPU by where weights are',
    needsModel: true,
    async *run(context) {
      const [side = 64] = context.settings.latents;
      yield await compareMemory(context, 8 * side);
    },
  },
};
