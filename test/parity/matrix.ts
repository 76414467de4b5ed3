// The matrix of the project's promise: every scheduler, task, strength, batch and guidance scale.
import type { CaseImage, CaseOptions, ParityCase } from './case.js';
import { type SchedulerName, schedulerClasses } from './case.js';

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
  scheduler: SchedulerName;
  /** Undefined for text-to-image. */
  strength: number | undefined;
  batch: number;
  guidanceScale: number;
}

const prompts = ['a red fox asleep on a green hill', 'a blue robot', 'two cats, oil painting'];

/** Few steps, yet at least two of them at each strength. */
const stepsAt: Record<string, number> = { '0.2': 10, '0.5': 6, '0.8': 5, '1': 4 };

const strengths = [undefined, 0.2, 0.5, 0.8, 1];

/** All 100 points for one checkpoint. */
export function fullMatrix(subject: Subject): ParityCase[] {
  return schedulerClasses.flatMap((scheduler) =>
    strengths.flatMap((strength) =>
      [1, 3].flatMap((batch) =>
        [1, 7.5].map((guidanceScale) =>
          point(subject, { scheduler, strength, batch, guidanceScale }),
        ),
      ),
    ),
  );
}

/** Each scheduler once as text-to-image and once as image-to-image, the rest taking turns. */
export function thinMatrix(subject: Subject): ParityCase[] {
  return schedulerClasses.flatMap((scheduler, index) => {
    const turn = index + subject.seed;
    const [few, many] = turn % 2 === 0 ? [1, 3] : [3, 1];
    const strength = strengths[1 + (turn % 4)];
    return [
      point(subject, { scheduler, strength: undefined, batch: few, guidanceScale: 7.5 }),
      point(subject, {
        scheduler,
        strength,
        batch: many,
        guidanceScale: turn % 3 === 0 ? 1 : 7.5,
      }),
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
