// The matrix of the project's promise: every scheduler, task, strength, batch and guidance scale.
import { schedulerNames } from '../../lib/index.js';
import type { CaseImage, CaseOptions, ParityCase } from './case.js';

export interface Subject {
  /** What the checkpoint is called in names. */
  label: string;
  checkpoint: string;
  image: CaseImage;
  /** Size for text-to-image. */
  height: number;
  width: number;
  seed: number;
}

interface Point {
  scheduler: string;
  /** Undefined for text-to-image. */
  strength: number | undefined;
  batch: number;
  guidanceScale: number;
}

const prompts = ['a red fox asleep on a green hill', 'a blue robot', 'two cats, oil painting'];

/**
 * All but UnCLIP, which has a noise schedule of its own, and DPMSolverSDE, whose noise is another draw
 * from the same distribution (see sde-noise.test.ts).
 */
const schedulers = schedulerNames.filter(
  (name) => name !== 'UnCLIPScheduler' && name !== 'DPMSolverSDEScheduler',
);

/** Few steps, yet at least three of them at each strength. */
const stepsAt: Record<string, number> = { '0.3': 10, '0.8': 5, '1': 4 };

const strengths = [undefined, 0.3, 0.8, 1];
const manners = [
  { batch: 1, guidanceScale: 7.5 },
  { batch: 3, guidanceScale: 7.5 },
  { batch: 1, guidanceScale: 1 },
  { batch: 3, guidanceScale: 1 },
];

/**
 * Each scheduler from text and at each strength; batch and guidance take turns, so that each of
 * their pairs meets each scheduler and each strength. With TORCHBRUSH_FULL_MATRIX=1 all of them.
 */
export function schedulerMatrix(subject: Subject): ParityCase[] {
  const isFull = process.env.TORCHBRUSH_FULL_MATRIX === '1';
  return schedulers.flatMap((scheduler, i) =>
    strengths.flatMap((strength, j) =>
      manners
        .filter((_, k) => isFull || k === (i + j) % manners.length)
        .map((manner) => point(subject, { scheduler, strength, ...manner })),
    ),
  );
}

/** One third of the schedulers (0, 1 or 2) from text and from an image, the rest taking turns. */
export function thinMatrix(subject: Subject, third: number): ParityCase[] {
  return schedulers.flatMap((scheduler, i) => {
    if (i % 3 !== third) return [];
    const [few, many] = i % 2 === 0 ? [1, 3] : [3, 1];
    const strength = strengths[1 + (Math.floor(i / 3) % 3)];
    const guidanceScale = i % 4 < 2 ? 1 : 7.5;
    return [
      point(subject, { scheduler, strength: undefined, batch: few, guidanceScale: 7.5 }),
      point(subject, { scheduler, strength, batch: many, guidanceScale }),
    ];
  });
}

function point(subject: Subject, { scheduler, strength, batch, guidanceScale }: Point): ParityCase {
  const task = strength === undefined ? 'text-to-image' : `image-to-image at strength ${strength}`;
  const prompt = batch === 1 ? prompts[0] : prompts.slice(0, batch);
  const options: CaseOptions = { prompt, guidanceScale };
  if (strength === undefined) {
    Object.assign(options, { height: subject.height, width: subject.width, numInferenceSteps: 4 });
  } else {
    Object.assign(options, { strength, numInferenceSteps: stepsAt[String(strength)] });
  }
  const kind = scheduler.replace('Scheduler', '');
  return {
    name: `${subject.label}: ${kind}, ${task}, batch ${batch}, guidance ${guidanceScale}`,
    checkpoint: subject.checkpoint,
    pipeline: strength === undefined ? 'StableDiffusionPipeline' : 'StableDiffusionImg2ImgPipeline',
    scheduler: { class: scheduler },
    options,
    ...(strength !== undefined && { image: subject.image }),
    seeds: subject.seed,
  };
}
