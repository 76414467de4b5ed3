// A LoRA on a full-size Stable Diffusion 1.5 UNet: how long it takes to set and unset, how long the
// event loop waits meanwhile, and what memory it costs. Weights are random and made on the first run.
//   npx tsx scripts/bench/adapters.ts [FOLDER] [rounds]        (FOLDER takes 3.6 GB)
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { cpus, loadavg } from 'node:os';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';

import { LoraAdapters } from '../../lib/adapters/lora.js';
import { configure, Generator, UNet } from '../../lib/index.js';
import { canonicalArchitecture } from '../../lib/networks/architecture.js';
import { Network } from '../../lib/networks/network.js';
import { loadPrograms } from '../../lib/networks/programs.js';
import { randn } from '../../lib/ops.js';
import { packageRoot } from '../../lib/package-root.js';

const [given, count = '3'] = process.argv.slice(2);
const folder = given ?? join(packageRoot, '.cache', 'bench', 'unet-sd15');
const rank = 16;
const threads = 2;

type Shapes = [name: string, shape: number[]][];

configure({ threads });
await makeFiles();
const network = await Network.load(folder, 'UNet2DConditionModel', {
  dtype: 'float32',
  device: 'cpu',
});
const unet = new UNet(network);
const lora = new LoraAdapters({ unet: network });
const generator = new Generator().manualSeed(0);
using sample = randn([2, 4, 32, 32], { generator });
using text = randn([2, 77, 768], { generator });

console.log(
  `${cpus()[0]?.model} ×${cpus().length}, ${threads} threads, load ${loadavg()[0]?.toFixed(1)}`,
);
const start = privateMegabytes();
const base = await predict('first run (packs the weights)');
say('memory after it, beyond the start', privateMegabytes() - start);
await predict('second run');
const packed = privateMegabytes();
await timed('read the file, set the adapter', () =>
  lora.load(join(folder, 'lora.safetensors'), { adapterName: 'a' }),
);
for (let round = 0; round < Number(count); round += 1) {
  await timed('set another weight', () => lora.set(['a'], [0.5 + round / 10]));
  say('  memory, beyond before', privateMegabytes() - packed);
  await predict('  first run with it');
  say('  memory, beyond before', privateMegabytes() - packed);
  await timed('unset', () => lora.set([], []));
  say('  memory, beyond before', privateMegabytes() - packed);
  const again = await predict('  first run without it');
  say('  memory, beyond before', privateMegabytes() - packed);
  const same = again.every((value, i) => value === base[i]);
  console.log(`  ${same ? 'the same bits as before' : 'OTHER BITS THAN BEFORE'}`);
}
network.dispose();

async function predict(what: string): Promise<Float32Array> {
  return timed(what, async () => {
    using prediction = await unet.predict(sample, 500, text);
    return await prediction.toFloat32Array();
  });
}

async function timed<Result>(what: string, run: () => Promise<Result>): Promise<Result> {
  const delay = monitorEventLoopDelay({ resolution: 1 });
  delay.enable();
  const before = process.cpuUsage();
  const began = performance.now();
  const result = await run();
  const seconds = (performance.now() - began) / 1000;
  const { user, system } = process.cpuUsage(before);
  delay.disable();
  const wait = (delay.max / 1e6).toFixed(0);
  const work = `${(user / 1e6).toFixed(2)} + ${(system / 1e6).toFixed(2)} s of processors' time`;
  console.log(`${what}: ${seconds.toFixed(2)} s (${work}; event loop waited ${wait} ms at most)`);
  return result;
}

function say(what: string, megabytes: number): void {
  console.log(`${what}: ${megabytes.toFixed(0)} MB`);
}

/** Memory that no other process or file backs. */
function privateMegabytes(): number {
  const rollup = readFileSync('/proc/self/smaps_rollup', 'utf8');
  return Number(/Private_Dirty:\s+(\d+)/.exec(rollup)?.[1]) / 1024;
}

async function makeFiles(): Promise<void> {
  if (existsSync(join(folder, 'lora.safetensors'))) return;
  mkdirSync(folder, { recursive: true });
  const golden = join(packageRoot, 'test', 'golden', 'architecture-configs.json');
  const { config } = JSON.parse(readFileSync(golden, 'utf8'))['unet-sd1'];
  writeFileSync(join(folder, 'config.json'), JSON.stringify(config));
  const architecture = canonicalArchitecture('UNet2DConditionModel', config);
  const program = (await loadPrograms(architecture, folder)).get('forward');
  const parameters: Shapes =
    program?.native.parameters.map(({ name, shape }) => [name, shape]) ?? [];
  write('diffusion_pytorch_model.safetensors', parameters);
  const factors = parameters.flatMap(([name, [rows = 0, ...rest]]): Shapes => {
    if (rest.length === 0) return [];
    const layer = `unet.${name.slice(0, -'.weight'.length)}`;
    return [
      [`${layer}.lora_A.weight`, [rank, ...rest]],
      [`${layer}.lora_B.weight`, [rows, rank, ...rest.slice(1).map(() => 1)]],
    ];
  });
  write('lora.safetensors', factors);
}

/** Random tensors whose spread keeps activations near one. */
function write(name: string, shapes: Shapes): void {
  let end = 0;
  const entries = shapes.map(([key, shape]) => {
    const begin = end;
    end += 4 * shape.reduce((product, size) => product * size, 1);
    return [key, { dtype: 'F32', shape, data_offsets: [begin, end] }];
  });
  let header = JSON.stringify(Object.fromEntries(entries));
  header += ' '.repeat(8 - (header.length % 8));
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(BigInt(header.length));
  const file = openSync(join(folder, name), 'w');
  writeSync(file, Buffer.concat([prefix, Buffer.from(header)]));
  const noise = Float32Array.from({ length: 1 << 20 }, () => Math.random() * 3.4 - 1.7);
  for (const [, shape] of shapes) {
    let left = shape.reduce((product, size) => product * size, 1);
    const spread = shape.length < 2 ? 0.1 : 0.8 / Math.sqrt(left / (shape[0] ?? 1));
    const scaled = noise.map((value) => value * spread);
    for (; left > 0; left -= scaled.length) {
      const part = scaled.subarray(0, left);
      writeSync(file, new Uint8Array(part.buffer, 0, part.byteLength));
    }
  }
  closeSync(file);
}
