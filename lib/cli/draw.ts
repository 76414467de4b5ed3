// Runs jobs on a pipeline, some at a time, and writes what they draw.
import { ImageError } from '../errors.js';
import { type Image, makeImageGrid } from '../image.js';
import type { StepCallback, StepEvent } from '../pipelines/generation.js';
import type { DiffusionPipeline } from '../pipelines/pipeline.js';
import type { DrawFlags } from './flags.js';
import { signal } from './interrupt.js';
import type { Job } from './jobs.js';
import { failureOf, printJson, printResult } from './output.js';
import { Progress, writeLine } from './progress.js';

export interface Drawn {
  images: Image[];
  nsfwContentDetected?: boolean[];
}

/** What every job hands on to generate(). */
export interface JobOptions {
  seed: bigint;
  onStep: StepCallback;
  signal: AbortSignal;
}

interface Work {
  pipe: DiffusionPipeline;
  flags: DrawFlags;
  jobs: readonly Job[];
  draw(job: Job, options: JobOptions): Promise<Drawn>;
  /** Milliseconds that loading took. */
  loading: number;
}

/** @throws the first error that is not about one picture of several */
export async function drawAll(work: Work): Promise<void> {
  const { jobs, flags } = work;
  const run = new Run(work);
  const queue = [...jobs];
  const worker = async () => {
    for (let job = queue.shift(); job !== undefined; job = queue.shift()) {
      try {
        await run.one(job);
      } catch (error) {
        queue.length = 0;
        throw error;
      }
    }
  };
  const workers = Array.from({ length: Math.min(flags.batch, jobs.length) }, worker);
  try {
    // Nothing may still be on its way when the pipeline is disposed.
    await Promise.allSettled(workers);
    await Promise.all(workers);
  } finally {
    run.progress.stop();
  }
  run.finish();
}

class Run {
  readonly progress: Progress;
  readonly #work: Work;
  readonly #began = performance.now();
  /** Steps done and to do of each job that has begun. */
  readonly #steps = new Map<Job, { done: number; total: number }>();
  #previewed: Job | undefined;
  #images = 0;
  #failed = 0;

  constructor(work: Work) {
    this.#work = work;
    this.progress = new Progress('drawing', { quiet: work.flags.quiet });
  }

  /** Draws and writes one job; a picture that cannot be read is told, and no reason to stop. */
  async one(job: Job): Promise<void> {
    const { draw, jobs, flags } = this.#work;
    const began = performance.now();
    try {
      const { images, nsfwContentDetected } = await draw(job, {
        seed: job.seed,
        signal,
        onStep: (event) => this.#onStep(job, event),
      });
      for (const [i, image] of images.entries()) {
        signal.throwIfAborted();
        await this.#write(image, job, i, {
          seconds: secondsSince(began),
          ...(nsfwContentDetected && { nsfw: nsfwContentDetected[i] }),
        });
      }
      if (flags.preview !== undefined && this.#previews(job)) {
        await gridOf(images).save(flags.preview);
      }
    } catch (error) {
      if (!(error instanceof ImageError) || jobs.length === 1 || signal.aborted) throw error;
      this.#failed += 1;
      const failure = failureOf(error);
      if (flags.json) printJson({ type: 'error', ...failure, input: job.input?.path });
      writeLine(`error: ${failure.message} (${failure.code})`);
    } finally {
      if (this.#previews(job)) this.#previewed = undefined;
      const steps = this.#steps.get(job);
      if (steps !== undefined) steps.done = steps.total;
    }
  }

  finish(): void {
    const { flags, pipe, jobs, loading } = this.#work;
    if (flags.json) {
      printJson({
        type: 'done',
        images: this.#images,
        failed: this.#failed,
        model: flags.model,
        pipeline: pipe.constructor.name,
        scheduler: pipe.scheduler.className,
        device: pipe.device,
        dtype: pipe.dtype,
        loadSeconds: Math.round(loading) / 1000,
        drawSeconds: secondsSince(this.#began),
      });
    }
    if (this.#failed === 0) return;
    writeLine(`${this.#failed} of ${jobs.length} pictures failed`);
    process.exitCode = 1;
  }

  async #onStep(job: Job, event: StepEvent): Promise<void> {
    const steps = this.#steps.get(job) ?? { done: 0, total: 0 };
    // A second pipeline, a refiner, begins anew.
    if (event.step === 0) steps.total = steps.done + event.steps;
    steps.done += 1;
    this.#steps.set(job, steps);
    this.#showProgress();
    const { preview, previewEvery } = this.#work.flags;
    const isDue = (event.step + 1) % previewEvery === 0 && event.step + 1 < event.steps;
    if (preview === undefined || !isDue || !this.#previews(job)) return;
    await gridOf(await event.preview()).save(preview);
  }

  /** Of several jobs at a time one is looked at. */
  #previews(job: Job): boolean {
    this.#previewed ??= job;
    return this.#previewed === job;
  }

  #showProgress(): void {
    const { jobs } = this.#work;
    const begun = [...this.#steps.values()];
    const sum = (values: number[]) => values.reduce((a, b) => a + b, 0);
    const total = sum(begun.map((steps) => steps.total));
    // Those that wait will take about as long.
    const expected = Math.round((total / begun.length) * jobs.length);
    const running = Math.min(begun.length, jobs.length);
    const detail = jobs.length > 1 ? `picture ${running} of ${jobs.length}` : '';
    this.progress.update(sum(begun.map((steps) => steps.done)), expected, detail);
  }

  async #write(image: Image, job: Job, index: number, more: object): Promise<void> {
    const { flags } = this.#work;
    const file = job.files[index] as string;
    if (file === '-') {
      const bytes = await image.toBuffer('png');
      process.stdout.write(bytes);
    } else {
      await image.save(file, flags.quality === undefined ? {} : { quality: flags.quality });
    }
    this.#images += 1;
    if (flags.json) printJson(this.#record(image, job, index, more));
    else if (file !== '-') printResult(file);
  }

  #record(image: Image, job: Job, index: number, more: object): object {
    const { files, input, ...texts } = job;
    const { width, height } = image;
    return {
      type: 'image',
      file: files[index],
      ...(input !== undefined && { input: input.path }),
      ...{ width, height, ...texts, ...(files.length > 1 && { index }), ...more },
    };
  }
}

function secondsSince(began: number): number {
  return Math.round(performance.now() - began) / 1000;
}

/** Several pictures of one prompt side by side. */
function gridOf(images: readonly Image[]): Image {
  const [first, ...others] = images;
  if (first !== undefined && others.length === 0) return first;
  return makeImageGrid(images, { rows: 1, cols: images.length });
}
