/** Runs random scheduler configurations through diffusers and through ours. */

import { InvalidArgumentError } from '../../lib/errors.js';
import {
  type Case,
  type Result,
  relativeError,
  runCase,
  stepError,
} from '../golden/schedulers/run-case.js';
import type { Mode, Outcome, PythonSchedulers } from './schedulers-python.js';
import { type CaseSource, casesOf } from './schedulers-starts.js';

export type Precision = 'float64' | 'float32' | 'float16' | 'bfloat16';

/** What a comparison found. */
export interface Comparison {
  /** Cases that both sides run. */
  readonly cases: number;
  /** Cases that both sides refuse. */
  readonly rejected: number;
  /**
   * Cases beyond the limit because of rounding: both sides are that far from what the formulas give
   * in float64, or diffusers alone.
   */
  readonly coarse: number;
  /** Largest relative errors by what was compared. */
  readonly maxima: Readonly<Record<string, number>>;
  readonly failures: readonly string[];
}

/** Relative errors of samples that count as agreement. */
const LIMITS: Readonly<Record<Precision, number>> = {
  // Same formula, same tables: only the order of float64 operations differs, and where a flow starts
  // at α = 10⁻⁶, ten of sixteen digits are left.
  float64: 1e-8,
  // What the project promises.
  float32: 1e-5,
  // diffusers rounds every intermediate sum to 11 or 8 bits, ours the result alone: the first step
  // only, since such roundings add up.
  float16: 1e-2,
  bfloat16: 8e-2,
};

/**
 * Where we go on and diffusers does not: a solver name that it maps and then refuses, and schedules
 * whose first timestep occurs twice, for which it runs out of sigmas in the last step.
 */
function isTolerated({ error }: { error: string }): boolean {
  return (
    error.includes('`algorithm_type` deis') ||
    error.startsWith('IndexError: index') ||
    error === 'IndexError: list index out of range' ||
    error === 'AssertionError: '
  );
}

/**
 * Where a step takes a sample from σ = 5000 to 0.006, its third order makes 10⁻⁴ of a last bit of
 * the sample: what is left on either side then is chance, and of the same size. The comparison in
 * float64 sees the same case without it.
 */
const ROUNDING_LUCK = 10;

/** How many cases are drawn at most for one that both sides run. */
const MAX_DRAWS = 3;

/** A class's cases, asked for and not yet compared. */
export class PendingComparison {
  readonly #python: PythonSchedulers;
  readonly #precisions: readonly Precision[];
  readonly #source: CaseSource;
  #answers: { one: Case; answer: Promise<Outcome[]> }[];

  constructor(python: PythonSchedulers, precisions: readonly Precision[], source: CaseSource) {
    this.#python = python;
    this.#precisions = precisions;
    this.#source = source;
    this.#answers = this.#ask(0, source.count);
  }

  #ask(first: number, count: number) {
    return casesOf({ ...this.#source, first, count }).map((one) => ({
      one,
      answer: this.#python.ask(one, this.#precisions),
    }));
  }

  /** Compares as many cases as were asked for; those that both sides refuse do not count. */
  async finish(): Promise<Map<Precision, Comparison>> {
    const tallies = new Map(this.#precisions.map((precision) => [precision, new Tally()]));
    const { count } = this.#source;
    for (let drawn = count; this.#answers.length > 0; ) {
      for (const { one, answer } of this.#answers) {
        const theirs = await answer;
        for (const [i, [precision, tally]] of [...tallies].entries()) {
          await this.#compare({ ...one, dtype: precision }, theirs[i] as Outcome, tally);
        }
      }
      // What ends in numbers in float64 may end in none in float32.
      const cases = Math.min(...[...tallies.values()].map((tally) => tally.cases));
      const more = Math.max(Math.min(count - cases, MAX_DRAWS * count - drawn), 0);
      this.#answers = this.#ask(drawn, more);
      drawn += more;
    }
    return tallies;
  }

  async #compare(one: Case, theirs: Outcome, tally: Tally): Promise<void> {
    const mine = ours(one);
    const fail = (what: string) => tally.failures.push(`${what}\n  ${JSON.stringify(one)}`);
    if ('error' in theirs) {
      if ('error' in mine) tally.rejected += 1;
      else if (!isTolerated(theirs)) fail(`diffusers refuses: ${theirs.error}`);
      return;
    }
    if ('error' in mine) {
      // Where diffusers ends in NaN, a refusal is better.
      const endsInNumbers = theirs.samples.at(-1)?.every((value) => value !== null) === true;
      if (endsInNumbers) fail(`only we refuse: ${mine.error}`);
      return;
    }
    tally.cases += 1;
    const precision = one.dtype as Precision;
    const tables = tableErrors(mine, theirs);
    for (const [what, error] of Object.entries(tables)) {
      tally.note(what, error);
      if (error > tableLimit(what, precision)) fail(`${what} ${error}`);
    }
    // Where a first timestep that occurs twice has diffusers divide by the final sigma, among others.
    if (theirs.samples.at(-1)?.every((value) => value === null)) return;
    const error = sampleError(mine, theirs, precision);
    // A last bit of a table (vectorised exponentials differ) shows in every sample.
    const limit = Math.max(LIMITS[precision], tables.sigmas === 0 ? 0 : 1e-6);
    if (error <= limit) return tally.note('samples', error);
    if (precision === 'float64') return void fail(`samples ${error}`);
    await this.#blame(one, mine, theirs, tally);
  }

  /** Beyond the limit: the same formulas in float64 tell whose rounding it is. */
  async #blame(one: Case, mine: Result, theirs: Result, tally: Tally): Promise<void> {
    const precision = one.dtype as Precision;
    const [exact] = await this.#python.ask(one, [`exact ${precision}` as Mode]);
    if (exact === undefined || 'error' in exact) throw new Error(`no reference: ${exact?.error}`);
    const left = sampleError(mine, exact, precision);
    const right = sampleError(theirs, exact, precision);
    if (left > Math.max(LIMITS[precision], ROUNDING_LUCK * right)) {
      tally.failures.push(
        `samples are off by ${left}, those of diffusers by ${right}\n  ${JSON.stringify(one)}`,
      );
    }
    tally.coarse += 1;
    tally.note('ours from exact', left);
    tally.note('theirs from exact', right);
  }
}

class Tally implements Comparison {
  cases = 0;
  rejected = 0;
  coarse = 0;
  readonly maxima: Record<string, number> = {};
  readonly failures: string[] = [];

  note(what: string, error: number): void {
    this.maxima[what] = Math.max(this.maxima[what] ?? 0, error);
  }
}

function ours(one: Case): Outcome {
  try {
    return runCase(one);
  } catch (error) {
    if (error instanceof InvalidArgumentError) return { error: error.message };
    throw error;
  }
}

/** Of every step, relative to what the step computes with; of the last also to itself. */
function sampleError(mine: Result, theirs: Result, precision: Precision): number {
  if (precision === 'float16' || precision === 'bfloat16') {
    const first = (result: Result) => ({ ...result, samples: result.samples.slice(0, 1) });
    return stepError(first(mine), first(theirs));
  }
  const last = relativeError(mine.samples.at(-1) ?? [], theirs.samples.at(-1) ?? []);
  return Math.max(last, stepError(mine, theirs));
}

function tableErrors(mine: Result, theirs: Result) {
  const begin = mine.sigmas.length === 0 ? 0 : theirs.sigmas.length - mine.sigmas.length;
  return {
    timesteps: relativeError(mine.timesteps, theirs.timesteps),
    sigmas: relativeError(mine.sigmas, theirs.sigmas.slice(begin)),
    initNoiseSigma: relativeError([mine.initNoiseSigma], [theirs.initNoiseSigma]),
    steps: Math.abs(mine.numInferenceSteps - theirs.numInferenceSteps),
    noisy: relativeError(mine.noisy ?? [], theirs.noisy ?? []),
    noisyAgain: relativeError(mine.noisyAgain ?? [], theirs.noisyAgain ?? []),
  };
}

/** Tables are float32 on both sides; noising rounds once or twice in the sample's dtype. */
function tableLimit(what: string, precision: Precision): number {
  const isNoisy = what.startsWith('noisy');
  if (isNoisy && precision === 'float16') return 2 ** -10;
  return isNoisy && precision === 'bfloat16' ? 2 ** -7 : 2e-7;
}
