// Runs diffusers once for a list of cases.
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

import {
  type CaseImage,
  controlOption,
  type ParityCase,
  snakeCaseKeys,
  type TensorFile,
} from './case.js';
import { pythonEnvironment, pythonScripts } from './workspace.js';

const run = promisify(execFile);

/** What diffusers drew. */
export interface DiffusersResult {
  seconds: number;
  timesteps: number[];
  /** Standard deviation of the picture's values. */
  spread: number;
  /** Share of the values that are 0 or 1. */
  saturated: number;
  tensors: Record<'picture' | 'latents' | 'steps', TensorFile>;
}

type Answer = DiffusersResult | { error: string };

/** The result of each case by name; `folder` gets the files. @throws where diffusers refuses one */
export async function runDiffusers(
  python: string,
  cases: readonly ParityCase[],
  folder: string,
): Promise<Map<string, DiffusersResult>> {
  const known = await readResults(join(folder, 'diffusers', 'results.json'));
  if (known !== undefined && cases.every(({ name }) => known.has(name))) return known;
  const request = join(folder, 'cases.json');
  await writeFile(request, JSON.stringify({ cases: cases.map(pythonCase) }));
  const script = join(pythonScripts, 'run_diffusers.py');
  const output = join(folder, 'diffusers');
  await run(python, [script, request, '--output', output], {
    env: pythonEnvironment,
    maxBuffer: 2 ** 26,
  });
  const drawn = await readResults(join(output, 'results.json'));
  if (drawn === undefined) throw new Error('run_diffusers.py has left no results');
  return drawn;
}

async function readResults(file: string): Promise<Map<string, DiffusersResult> | undefined> {
  if (!existsSync(file)) return undefined;
  const { results } = JSON.parse(await readFile(file, 'utf8')) as {
    results: Record<string, Answer>;
  };
  const found = new Map<string, DiffusersResult>();
  for (const [name, answer] of Object.entries(results)) {
    if ('error' in answer) throw new Error(`diffusers refuses "${name}":\n${answer.error}`);
    found.set(name, answer);
  }
  return found;
}

function pythonCase(one: ParityCase): object {
  const { scheduler, image, controlImage } = one;
  const images: Record<string, CaseImage | CaseImage[]> = {
    ...(image && { image }),
    ...(controlImage && { [controlOption(one)]: controlImage }),
  };
  return {
    name: one.name,
    checkpoint: one.checkpoint,
    variant: one.variant ?? null,
    pipeline: one.pipeline,
    scheduler:
      scheduler === undefined
        ? null
        : { class: scheduler.class, config: snakeCaseKeys(scheduler.config ?? {}) },
    options: snakeCaseKeys(one.options),
    tensors: snakeCaseKeys(one.tensors ?? {}),
    controlnet: one.controlnet ?? null,
    vae: one.vae ?? null,
    images: snakeCaseKeys(
      Object.fromEntries(
        Object.entries(images).map(([name, source]) => [
          name,
          Array.isArray(source) ? source.map(snakeCaseKeys) : snakeCaseKeys(source),
        ]),
      ),
    ),
    seeds: one.seeds ?? null,
  };
}
