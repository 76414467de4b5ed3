// A full-size Stable Diffusion 1.x checkpoint against diffusers: loading with a warm page cache, one
// guided UNet step, and how long the event loop waits meanwhile.
//   npx tsx scripts/bench/full-size.ts CHECKPOINT [rounds]
import { closeSync, openSync, readdirSync, readFileSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';

import {
  configure,
  Generator,
  StableDiffusionImg2ImgPipeline,
  type Tensor,
} from '../../lib/index.js';
import { randn } from '../../lib/ops.js';
import { type Comparison, DiffusersPeer, report } from './peer.js';

const [folder = '', given = '3'] = process.argv.slice(2);
const rounds = Number(given);
const threads = 2;
const latents = 32;

configure({ threads });
const peer = await DiffusersPeer.start(threads);
warmPageCache(folder);

const loading: Comparison = { name: 'load, warm page cache', ours: [], theirs: [] };
const memory: number[] = [];
for (let round = 0; round < rounds + 1; round += 1) {
  const before = privateMegabytes();
  const began = performance.now();
  const pipe = await StableDiffusionImg2ImgPipeline.fromPretrained(folder);
  const seconds = (performance.now() - began) / 1000;
  const grown = privateMegabytes() - before;
  pipe.dispose();
  const { seconds: theirs } = await peer.ask('load', { folder });
  if (round === 0) continue;
  loading.ours.push(seconds);
  loading.theirs.push(theirs);
  memory.push(grown);
}

const step: Comparison = {
  name: `guided UNet step, ${latents}×${latents} latents`,
  ours: [],
  theirs: [],
};
using pipe = await StableDiffusionImg2ImgPipeline.fromPretrained(folder);
const { unet, textEncoder } = pipe.components;
const generator = new Generator().manualSeed(0);
using sample = randn([2, unet.inChannels, latents, latents], { generator });
using text = randn([2, textEncoder.maxPositions, 768], { generator });
const waits: { p99: number; longest: number }[] = [];
for (let round = 0; round < rounds + 1; round += 1) {
  const seconds = await timed(() => unet.predict(sample, 500, text));
  const { seconds: theirs } = await peer.ask('unet', { height: latents, width: latents, batch: 2 });
  if (round === 0) continue;
  step.ours.push(seconds);
  step.theirs.push(theirs);
}

async function timed(run: () => Promise<Tensor>): Promise<number> {
  // A fresh one for each run: one that goes on counts the time between runs as a wait.
  const delay = monitorEventLoopDelay({ resolution: 1 });
  delay.enable();
  const began = performance.now();
  const result = await run();
  const seconds = (performance.now() - began) / 1000;
  delay.disable();
  waits.push({ p99: delay.percentile(99) / 1e6, longest: delay.max / 1e6 });
  result.dispose();
  return seconds;
}

/** Reads every weight file once. */
function warmPageCache(root: string): void {
  for (const name of readdirSync(root, { recursive: true, encoding: 'utf8' })) {
    if (name.endsWith('.safetensors')) readFileInPieces(join(root, name));
  }
}

function readFileInPieces(file: string): void {
  const piece = Buffer.alloc(1 << 24);
  const descriptor = openSync(file, 'r');
  while (readSync(descriptor, piece) > 0);
  closeSync(descriptor);
}

/** Memory that no other process or file backs. */
function privateMegabytes(): number {
  const rollup = readFileSync('/proc/self/smaps_rollup', 'utf8');
  const dirty = /Private_Dirty:\s+(\d+)/.exec(rollup)?.[1];
  return Number(dirty) / 1024;
}

report([loading, step], peer);
console.log(`private memory after loading: ${Math.max(...memory).toFixed(0)} MB more than before`);
const worst = (name: 'p99' | 'longest'): string =>
  Math.max(...waits.map((wait) => wait[name])).toFixed(1);
console.log(
  `event loop while the UNet ran: p99 ${worst('p99')} ms, longest ${worst('longest')} ms`,
);
peer.stop();
