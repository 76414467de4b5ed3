// The work of a drawing command, all of it planned before anything is loaded: a job is one call of
// generate(), for one input, prompt and seed.
import { randomInt } from 'node:crypto';
import { existsSync } from 'node:fs';

import type { DrawFlags } from './flags.js';
import type { Input } from './inputs.js';
import { outputNames } from './output-names.js';

/** Texts that belong together. */
export interface Texts {
  prompt: string;
  negativePrompt?: string | undefined;
  prompt2?: string | undefined;
  negativePrompt2?: string | undefined;
}

export interface Job extends Texts {
  input: Input | undefined;
  seed: bigint;
  /** A name for each picture of the job. */
  files: string[];
}

interface Plan {
  flags: Pick<DrawFlags, 'output' | 'seed' | 'skipExisting'>;
  inputs: readonly Input[] | undefined;
  texts: readonly Texts[];
  imagesPerJob: number;
  /** Files that are read and that no picture may replace. */
  read: readonly string[];
}

/**
 * Every input with every prompt and every seed.
 *
 * @throws InvalidArgumentError where the pictures cannot be named
 */
export function planJobs({ flags, inputs, texts, imagesPerJob, read }: Plan): Job[] {
  const jobs: Omit<Job, 'files'>[] = [];
  for (const input of inputs ?? [undefined]) {
    for (const text of texts) {
      for (const seed of flags.seed ?? [randomSeed()]) jobs.push({ input, ...text, seed });
    }
  }
  const parts = jobs.flatMap(({ input, seed, prompt }) =>
    Array.from({ length: imagesPerJob }, () => ({ name: input?.name, seed, prompt })),
  );
  const files = outputNames(flags.output, parts, read);
  const planned = jobs.map((job, i) => ({
    ...job,
    files: files.slice(i * imagesPerJob, (i + 1) * imagesPerJob),
  }));
  if (flags.skipExisting !== true) return planned;
  return planned.filter((job) => !job.files.every((file) => existsSync(file)));
}

/** One that JSON keeps and people can type again. */
function randomSeed(): bigint {
  return BigInt(randomInt(2 ** 32));
}
