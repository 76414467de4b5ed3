/** Runs random scheduler configurations through diffusers and through ours. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

import { InvalidArgumentError } from '../../lib/errors.js';
import type { DType } from '../../lib/tensor.js';
import {
  type Case,
  magnitude,
  type Result,
  relativeError,
  runCase,
  stepError,
} from '../golden/schedulers/run-case.js';
import { randomCase } from './schedulers-cases.js';

type Outcome = Result | { readonly error: string };

/** What a comparison found. */
export interface Comparison {
  readonly cases: number;
  /** Cases that both sides refuse. */
  readonly rejected: number;
  /** Cases where float32 itself is too coarse for the tighter limit. */
  readonly coarse: number;
  /** Largest relative errors by what was compared; `coarse` is the samples of the coarse cases. */
  readonly maxima: Readonly<Record<string, number>>;
  readonly failures: readonly string[];
}

/** Relative errors of samples that count as agreement. */
const SAMPLE_LIMITS: Readonly<Partial<Record<DType, number>>> = {
  // Same formula, same tables: only the order of float64 operations differs.
  float64: 1e-9,
  // Mostly below 1e-6; diffusers' own rounding adds up over many steps.
  float32: 3e-5,
  // diffusers rounds every intermediate sum to 11 or 8 bits, ours the result alone: the first step
  // only, since such roundings add up.
  float16: 1e-2,
  bfloat16: 8e-2,
};
/** Where samples start near 10^4 and formulas cancel, diffusers itself is only this good. */
const COARSE_LIMITS: Readonly<Partial<Record<DType, number>>> = {
  float32: 1e-2,
  float16: Number.POSITIVE_INFINITY,
  bfloat16: Number.POSITIVE_INFINITY,
};

/** Schedules where diffusers loses digits: huge ratios, tiny steps, ᾱ too small for float16. */
function isCoarse(theirs: Result, { config, start, dtype }: Case): boolean {
  const steps = start.numInferenceSteps ?? 0;
  const cosine = config.beta_schedule === 'squaredcos_cap_v2';
  const zeroSnr = config.rescale_betas_zero_snr === true;
  const tiny = dtype !== 'float32' && Number(config.beta_end) > 0.02;
  return cosine || zeroSnr || tiny || steps > 50 || magnitude(theirs.sigmas) > 1000;
}

/**
 * Where we go on and diffusers does not: a solver name that it maps and then refuses, and schedules
 * whose first timestep occurs twice, for which it runs out of sigmas in the last step.
 */
function isTolerated({ error }: { error: string }): boolean {
  return error.includes('`algorithm_type` deis') || error.startsWith('IndexError: index');
}

function ours(one: Case): Outcome {
  try {
    return runCase(one);
  } catch (error) {
    if (error instanceof InvalidArgumentError) return { error: error.message };
    throw error;
  }
}

function errors(mine: Result, theirs: Result, dtype: DType): Record<string, number> {
  const steps = dtype === 'float64' || dtype === 'float32' ? undefined : 1;
  const cut = (result: Result) => ({ ...result, samples: result.samples.slice(0, steps) });
  const begin = mine.sigmas.length === 0 ? 0 : theirs.sigmas.length - mine.sigmas.length;
  return {
    timesteps: relativeError(mine.timesteps, theirs.timesteps),
    sigmas: relativeError(mine.sigmas, theirs.sigmas.slice(begin)),
    initNoiseSigma: relativeError([mine.initNoiseSigma], [theirs.initNoiseSigma]),
    steps: Math.abs(mine.numInferenceSteps - theirs.numInferenceSteps),
    noisy: relativeError(mine.noisy ?? [], theirs.noisy ?? []),
    noisyAgain: relativeError(mine.noisyAgain ?? [], theirs.noisyAgain ?? []),
    samples: stepError(cut(mine), cut(theirs)),
  };
}

/** Compares `count` random configurations of a class. */
export async function compareWithDiffusers(options: {
  readonly python: string;
  readonly className: string;
  readonly count: number;
  readonly seed: number;
  readonly dtype: DType;
}): Promise<Comparison> {
  const { python, className, count, seed, dtype } = options;
  const script = join(dirname(fileURLToPath(import.meta.url)), 'schedulers.py');
  const child = spawn(python, [script], { stdio: ['pipe', 'pipe', 'inherit'] });
  const exit = once(child, 'exit');
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const maxima: Record<string, number> = {};
  const failures: string[] = [];
  let rejected = 0;
  let coarse = 0;
  for (let k = 0; k < count; k++) {
    const one: Case = { ...randomCase(className, seed * 1_000_003 + k), dtype };
    child.stdin.write(`${JSON.stringify(one)}\n`);
    const { value, done } = await lines.next();
    if (done) throw new Error('The Python side stopped.');
    const theirs = JSON.parse(value) as Outcome;
    const mine = ours(one);
    const fail = (what: string) => failures.push(`${what}\n  ${JSON.stringify(one)}`);
    if ('error' in theirs) {
      if ('error' in mine) rejected += 1;
      else if (!isTolerated(theirs)) fail(`diffusers refuses: ${theirs.error}`);
      continue;
    }
    if ('error' in mine) {
      fail(`only we refuse: ${mine.error}`);
      continue;
    }
    const isCoarseCase = dtype !== 'float64' && isCoarse(theirs, one);
    if (isCoarseCase) coarse += 1;
    const found = errors(mine, theirs, dtype);
    for (const [what, error] of Object.entries(found)) {
      const isSamples = what === 'samples';
      const name = isSamples && isCoarseCase ? 'coarse' : what;
      const limit = (name === 'coarse' ? COARSE_LIMITS : SAMPLE_LIMITS)[dtype] ?? 0;
      // A last bit of a table (vectorised exponentials differ) shows in every sample.
      const allowed = Math.max(limit, found.sigmas ? 1e-6 : 0);
      if (error > (isSamples ? allowed : tableLimit(what, dtype))) fail(`${what} ${error}`);
      maxima[name] = Math.max(maxima[name] ?? 0, error);
    }
  }
  child.stdin.end();
  await exit;
  return { cases: count, rejected, coarse, maxima, failures };
}

/** Tables are float32 on both sides; noising rounds once or twice in the sample's dtype. */
function tableLimit(what: string, dtype: DType): number {
  if (!what.startsWith('noisy')) return 2e-7;
  return { float16: 2 ** -10, bfloat16: 2 ** -7 }[dtype as string] ?? 2e-7;
}
