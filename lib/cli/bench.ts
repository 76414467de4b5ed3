// torchbrush bench: how fast it is here, beside what else draws pictures.
import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { basename, dirname } from 'node:path';

import { type Command, Option } from 'commander';
import type { BenchDType } from '../../scripts/bench/measure.js';
import type { BenchResult } from '../../scripts/bench/report.js';
import { CheckpointError, expected } from '../errors.js';
import { positiveInteger } from './values.js';

interface BenchOptions {
  scenario?: string[];
  model?: string;
  variant?: string;
  other?: string;
  rounds: number;
  threads: number;
  device: string;
  dtype?: BenchDType[];
  latents: number[];
  peer?: string[];
  peerLimit?: number;
  python?: string;
  sdcpp?: string;
  check?: boolean;
  json?: string;
  write?: string;
}

export interface BenchDefaults {
  /** A Python with diffusers, where `--python` names none. */
  python?: () => Promise<string>;
  /** A folder with the packages of stable-diffusion.cpp, where `--sdcpp` names none. */
  sdcpp?: () => Promise<string>;
  /** A full-size checkpoint, where `--model` names none. */
  model?: (python: string | undefined) => Promise<string | undefined>;
}

const defaultLatents = [64, 32];

export function addBench(program: Command): void {
  defineBench(program.command('bench'));
}

export function defineBench(command: Command, defaults: BenchDefaults = {}): Command {
  return command
    .description('Measure how fast it is here, and with --python how fast diffusers is.')
    .option('--scenario <names...>', 'what to measure; everything unless given')
    .option('--model <folder>', 'a full-size checkpoint: Stable Diffusion 1.x, 2.x or XL')
    .option('--variant <name>', "weight files of a variant in that folder, such as 'fp16'")
    .option('--other <folder>', 'a second checkpoint to load beside it')
    .option('--rounds <count>', 'runs of each side', positiveInteger, 5)
    .option('--threads <count>', 'threads of each side', positiveInteger, availableParallelism())
    .option('--device <name>', "'cpu', 'cuda' or 'cuda:1'", 'cpu')
    .addOption(
      new Option(
        '--dtype <names...>',
        "torchbrush's own dtypes; float32 and bfloat16 on the CPU, float16 on CUDA unless given",
      ).choices(['float32', 'bfloat16', 'float16']),
    )
    .option('--latents <sides...>', 'sides of the latents', numbers, defaultLatents)
    .option(
      '--peer <names...>',
      'who to compare with, by name; all that fit the device unless given',
    )
    .option(
      '--peer-limit <seconds>',
      'a peer that takes longer for an answer is left out',
      positiveInteger,
    )
    .option('--python <path>', 'an interpreter that has torch, diffusers and transformers')
    .option('--sdcpp <folder>', 'a folder with the npm packages bare and @qvac/diffusion-cpp')
    .option('--check', "compare the networks' outputs with those of diffusers in float32")
    .option('--json <file>', 'write all that was measured')
    .option('--write <file>', 'write the tables to FILE.md and all that was measured to FILE.json')
    .action((options: BenchOptions) => bench(options, defaults));
}

async function bench(options: BenchOptions, defaults: BenchDefaults): Promise<void> {
  // Only here: other commands need none of it.
  const tool = await import('../../scripts/bench/tool.js');
  if (await tool.runAsChild()) return;
  const { runBench, scenarios, markdown, allPeers, peersFor, dtypesFor } = tool;
  const names = options.scenario ?? Object.keys(scenarios);
  for (const name of names) known(name, Object.keys(scenarios), '--scenario');
  const { rounds, threads, device, latents, variant, other, check = false } = options;
  const { peer: peers = peersFor(device), dtype: dtypes = dtypesFor(device), peerLimit } = options;
  for (const name of peers) known(name, [...allPeers, 'none'], '--peer');
  const wantsPython = peers.some((name) => name !== 'none' && name !== 'sdcpp');
  const python = options.python ?? (wantsPython ? await defaults.python?.() : undefined);
  const needsModel = names.some((name) => scenarios[name]?.needsModel);
  const model = options.model ?? (needsModel ? await defaults.model?.(python) : undefined);
  if (model !== undefined && !existsSync(model)) {
    throw new CheckpointError(`There is no folder ${model}.`, { code: 'ERR_CHECKPOINT_NOT_FOUND' });
  }
  const runnable = names.filter((name) => model !== undefined || !scenarios[name]?.needsModel);
  for (const name of names.filter((left) => !runnable.includes(left))) {
    console.error(`${name} is left out: it needs --model`);
  }
  const wantsSdcpp = device === 'cpu' && runnable.includes('unet') && peers.includes('sdcpp');
  const sdcpp = options.sdcpp ?? (wantsSdcpp ? await defaults.sdcpp?.() : undefined);
  const settings = {
    ...{ model, variant, other, rounds, threads, device, dtypes, latents, check },
    ...{ peers, peerLimit, python, sdcpp },
  };
  const json = options.write === undefined ? options.json : `${options.write}.json`;
  const log = (line: string): void => console.error(line);
  // After each comparison: what has been measured is not lost when the rest takes too long.
  const onResult = async (result: BenchResult): Promise<void> => {
    if (json !== undefined) await save(json, `${JSON.stringify(result, null, 1)}\n`);
    if (options.write === undefined) return;
    const heading = `# ${basename(options.write)}`;
    await save(`${options.write}.md`, `${heading}\n\n${markdown(result)}\n`);
  };
  const result = await runBench(runnable, settings, { log, onResult });
  console.log(markdown(result));
}

async function save(path: string, text: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, text);
}

function known(name: string, names: readonly string[], what: string): void {
  if (!names.includes(name)) throw expected(`one of ${names.join(', ')}`, what, name);
}

function numbers(text: string, previous: number[] | undefined): number[] {
  // The first one given takes the defaults' place.
  return [...(previous === defaultLatents ? [] : (previous ?? [])), positiveInteger(text)];
}
