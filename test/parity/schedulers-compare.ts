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

/** What a comparison found in one precision. */
export interface Comparison {
  /** Cases that diffusers ends without a number. */
  readonly numberless: number;
  /** Cases beyond the limit because of rounding, by how much, and how far off each side is. */
  readonly coarse: readonly Coarse[];
  /** Largest relative errors by what was compared. */
  readonly maxima: Readonly<Record<string, number>>;
  readonly failures: readonly string[];
}

/** Relative errors of a case: ours from diffusers, and of both from the same formulas in float64. */
export interface Coarse {
  readonly one: Case;
  readonly error: number;
  readonly ours: number;
  readonly theirs: number;
}

export interface Comparisons {
  /** Cases that both sides run. Which these are is a matter of configurations, not of numbers. */
  readonly cases: readonly Case[];
  /** How many cases both sides refuse. */
  readonly rejected: number;
  /** Cases that one side refuses. */
  readonly failures: readonly string[];
  readonly byPrecision: ReadonlyMap<Precision, Comparison>;
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

/** How many cases are drawn at most for one that both sides run. */
const MAX_DRAWS = 3;

/** A class's cases, asked for and not yet compared. */
export class PendingComparison {
  readonly #python: PythonSchedulers;
  readonly #precisions: readonly Precision[];
  readonly #source: CaseSource;
  readonly #cases: Case[] = [];
  readonly #failures: string[] = [];
  #rejected = 0;
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
  async finish(): Promise<Comparisons> {
    const tallies = new Map(this.#precisions.map((precision) => [precision, new Tally()]));
    const { count } = this.#source;
    for (let drawn = count; this.#answers.length > 0; ) {
      for (const { one, answer } of this.#answers) {
        const theirs = await answer;
        const mine = this.#precisions.map((dtype) => ours({ ...one, dtype }));
        if (!this.#bothRun(one, mine, theirs)) continue;
        this.#cases.push(one);
        for (const [i, [dtype, tally]] of [...tallies].entries()) {
          await this.#compare({ ...one, dtype }, mine[i] as Result, theirs[i] as Result, tally);
        }
      }
      const missing = count - this.#cases.length;
      const more = Math.max(Math.min(missing, MAX_DRAWS * count - drawn), 0);
      this.#answers = this.#ask(drawn, more);
      drawn += more;
    }
    const [cases, rejected, failures] = [this.#cases, this.#rejected, this.#failures];
    return { cases, rejected, failures, byPrecision: tallies };
  }

  #bothRun(one: Case, mine: readonly Outcome[], theirs: readonly Outcome[]): boolean {
    const fail = (what: string) => this.#failures.push(`${what}\n  ${JSON.stringify(one)}`);
    const [ownError] = mine.flatMap((outcome) => ('error' in outcome ? [outcome] : []));
    const [theirError] = theirs.flatMap((outcome) => ('error' in outcome ? [outcome] : []));
    if (theirError !== undefined) {
      if (ownError !== undefined) this.#rejected += 1;
      else if (!isTolerated(theirError)) fail(`diffusers refuses: ${theirError.error}`);
      return false;
    }
    if (ownError === undefined) return true;
    // Where diffusers ends in NaN, a refusal is better.
    if ((theirs as readonly Result[]).every(endsInNumbers)) {
      fail(`only we refuse: ${ownError.error}`);
    }
    return false;
  }

  async #compare(one: Case, mine: Result, theirs: Result, tally: Tally): Promise<void> {
    const precision = one.dtype as Precision;
    const fail = (what: string) => tally.failures.push(`${what}\n  ${JSON.stringify(one)}`);
    const tables = tableErrors(mine, theirs);
    for (const [what, error] of Object.entries(tables)) {
      tally.note(what, error);
      if (error > tableLimit(what, precision)) fail(`${what} ${error}`);
    }
    // Where a first timestep that occurs twice has diffusers divide by the final sigma, among others.
    if (theirs.samples.at(-1)?.every((value) => value === null)) {
      tally.numberless += 1;
      return;
    }
    const error = sampleError(mine, theirs, precision);
    // A last bit of a table (vectorised exponentials differ) shows in every sample.
    const limit = Math.max(LIMITS[precision], tables.sigmas === 0 ? 0 : 1e-6);
    if (error <= limit) return tally.note('samples', error);
    if (precision === 'float64') return void fail(`samples ${error}`);
    await this.#blame(one, mine, theirs, tally);
  }

  /**
   * Beyond the limit: the same formulas in float64 tell whose rounding it is. Ours keeps the limit
   * there too, or where a step loses even more (one from σ = 20 000 to 0.006), comes nearer than
   * diffusers does.
   */
  async #blame(one: Case, mine: Result, theirs: Result, tally: Tally): Promise<void> {
    const precision = one.dtype as Precision;
    const modes = [`exact ${precision}` as Mode];
    const [exact] = await this.#python.ask(one, modes, { isUrgent: true });
    if (exact === undefined || 'error' in exact) throw new Error(`no reference: ${exact?.error}`);
    const found = {
      one,
      error: sampleError(mine, theirs, precision),
      ours: sampleError(mine, exact, precision),
      theirs: sampleError(theirs, exact, precision),
    };
    tally.coarse.push(found);
    if (found.ours <= Math.max(LIMITS[precision], found.theirs)) return;
    tally.failures.push(
      `samples are off by ${found.ours}, those of diffusers by ${found.theirs}\n  ${JSON.stringify(one)}`,
    );
  }
}

const endsInNumbers = ({ samples }: Result): boolean =>
  samples.at(-1)?.every((value) => value !== null) === true;

class Tally implements Comparison {
  numberless = 0;
  readonly coarse: Coarse[] = [];
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
  if (precision === 'float16' || precision === 'bfloat16') return stepError(mine, theirs);
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
