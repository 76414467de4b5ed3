// Apart from the classes, so that who only lists the names need not load them.
const names = [
  'DDIMScheduler',
  'DDPMScheduler',
  'DEISMultistepScheduler',
  'DPMSolverMultistepScheduler',
  'DPMSolverSDEScheduler',
  'DPMSolverSinglestepScheduler',
  'EulerAncestralDiscreteScheduler',
  'EulerDiscreteScheduler',
  'HeunDiscreteScheduler',
  'KDPM2AncestralDiscreteScheduler',
  'KDPM2DiscreteScheduler',
  'LCMScheduler',
  'LMSDiscreteScheduler',
  'PNDMScheduler',
  'TCDScheduler',
  'UnCLIPScheduler',
  'UniPCMultistepScheduler',
] as const;

export type SchedulerName = (typeof names)[number];

/** Names of the scheduler classes, sorted. */
export const schedulerNames: readonly string[] = names;
