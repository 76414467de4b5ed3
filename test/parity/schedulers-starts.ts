/** Random configurations together with the schedules that they run. */

import { schedulerClass } from '../../lib/schedulers/index.js';
import type { Case } from '../golden/schedulers/run-case.js';
import { type Config, randomConfig } from './schedulers-cases.js';
import { Draw } from './schedulers-draw.js';

/** Step counts that the project promises. */
export const PROMISED_STEPS = [1, 2, 7, 10, 25, 50];
/** These in turn, the short ones more often, and some around the limits of the multistep solvers. */
const STEPS = [1, 2, 7, 10, 3, 1, 2, 7, 10, 4, 25, 1, 2, 7, 10, 14, 50, 1, 2, 7, 10, 15, 5];
const TIMESTEP_SHARES = [0.999, 0.85, 0.7355, 0.6, 0.45, 0.2, 0.03];
const SIGMAS = [14.615, 6.475, 3.861, 2.697, 1.886, 0.963, 0.399, 0.152, 0];
/** Of a flow, without the final one. */
const POSITIONS = [1, 0.9, 0.7, 0.45, 0.2, 0.05];

const hasFormula = (config: Config): boolean =>
  ['use_karras_sigmas', 'use_exponential_sigmas', 'use_beta_sigmas'].some((key) => config[key]);

/** The `index`-th schedule, one that the class accepts, most of the time. */
function randomStart(
  draw: Draw,
  { className, config }: Omit<Case, 'start'>,
  index: number,
): Case['start'] {
  const numInferenceSteps = STEPS[index % STEPS.length] as number;
  const someStrength = draw.pick([0.3, 0.58, 0.75, 0.8, 1, draw.between(0.1, 1)]);
  const fromImage = Math.floor(index / STEPS.length) % 2 === 1;
  // Of one step less than all is none.
  const strength = fromImage ? { strength: numInferenceSteps === 1 ? 1 : someStrength } : {};
  const { timesteps, sigmas } = schedulerClass(className).customSchedules;
  const isFlow = config.use_flow_sigmas === true;
  // diffusers goes on without the given timesteps; we refuse.
  const isIgnored = className === 'DPMSolverSinglestepScheduler' && isFlow;
  if (draw.chance(timesteps ? 0.12 : 0.01) && !isIgnored) {
    const trained = Number(config.num_train_timesteps ?? 1000);
    return { timesteps: TIMESTEP_SHARES.map((share) => Math.floor(share * trained)), ...strength };
  }
  const isUniPC = className === 'UniPCMultistepScheduler';
  // UniPC takes positions of a flow only, and none together with a formula.
  const isTaken = isUniPC ? isFlow && !hasFormula(config) : sigmas;
  if (draw.chance(isTaken ? 0.12 : 0.01) && (isTaken || !isUniPC)) {
    return { sigmas: isUniPC ? POSITIONS : SIGMAS, ...strength };
  }
  return { numInferenceSteps, ...strength };
}

/** Step counts and strengths of the whole demanded matrix, for every configuration. */
const ALL_STARTS: readonly Case['start'][] = PROMISED_STEPS.flatMap((numInferenceSteps) => [
  { numInferenceSteps },
  { numInferenceSteps, strength: numInferenceSteps === 1 ? 1 : 0.6 },
]);

export interface CaseSource {
  readonly className: string;
  /** Number of configurations. */
  readonly count: number;
  /** How many to leave out before. */
  readonly first?: number;
  readonly seed: number;
  /** Whether each configuration gets every step count, with and without a begin index. */
  readonly isFull: boolean;
  /** How many steps of each schedule to do; all unless given. */
  readonly steps?: number;
}

/** Random configurations of a class, each with one random schedule or all of them. */
export function casesOf({ className, count, first = 0, seed, isFull, steps }: CaseSource): Case[] {
  const indices = Array.from({ length: count }, (_, k) => first + k);
  return indices.flatMap((index) => {
    const one = seed * 1_000_003 + index;
    const draw = new Draw(one);
    const { mu, ...config } = randomConfig(className, draw);
    const starts = isFull ? ALL_STARTS : [randomStart(draw, config, index)];
    return starts.map((start) => ({
      ...config,
      start: { ...start, ...(mu !== undefined && { mu }) },
      ...(steps !== undefined && { steps }),
      seed: one % 1000,
    }));
  });
}
