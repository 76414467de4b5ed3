// Defaults and checks of what callers pass in. Each option is checked here, once; what is past this
// point is trusted.
import { checkAtMostOne, checkChoice } from './checks.js';
import { checkDevice } from './devices.js';
import { expected, expectedShape } from './errors.js';
import { Generator } from './generator.js';
import { isCudaUsable, native } from './native.js';
import { type Scheduler, schedulerNames } from './schedulers/index.js';
import { type DType, Tensor } from './tensor.js';

export * from './checks.js';
export { defaults } from './defaults.js';

/**
 * What `generate()` gives: pictures, a tensor of pixels [B,3,H,W] in 0..1, or latents [B,C,h,w].
 */
export type OutputType = 'image' | 'tensor' | 'latent';

export function checkTensor(value: unknown, name: string, rank: number): Tensor {
  if (!(value instanceof Tensor)) throw expected(`a Tensor with ${rank} dimensions`, name, value);
  if (value.shape.length !== rank) {
    throw expectedShape(`a Tensor with ${rank} dimensions`, name, value.shape);
  }
  return value;
}

export function isScheduler(value: unknown): value is Scheduler {
  const scheduler = value as Partial<Scheduler> | null | undefined;
  const known = schedulerNames.includes(scheduler?.className ?? '');
  return known && typeof scheduler?.start === 'function';
}

/** @throws InvalidArgumentError */
export function checkScheduler(value: unknown): Scheduler {
  if (isScheduler(value)) return value;
  const hint = 'Make one with EulerDiscreteScheduler.fromConfig(pipe.scheduler.config).';
  throw expected('a scheduler', 'scheduler', value, hint);
}

/** One generator for a batch or one per picture, from `seed` or `generator`. */
export function checkGenerators(
  options: { seed?: unknown; generator?: unknown },
  batch: number,
): Generator | readonly Generator[] {
  const { seed, generator } = options;
  checkAtMostOne({ seed, generator });
  if (seed === undefined && generator === undefined) return new Generator();
  const list = Array.isArray(seed ?? generator);
  const values = (list ? (seed ?? generator) : [seed ?? generator]) as unknown[];
  const name = seed === undefined ? 'generator' : 'seed';
  if (list && values.length !== batch) {
    throw expected(`one ${name} or ${batch}, one per picture`, name, values);
  }
  const generators = values.map((value) => {
    if (seed !== undefined) return new Generator().manualSeed(value as number | bigint);
    if (value instanceof Generator) return value;
    throw expected('a Generator', 'generator', value);
  });
  return list ? generators : (generators[0] as Generator);
}

export interface Placement {
  dtype: DType;
  device: string;
}

/** `'auto'` means CUDA in float16 where a GPU works, else the CPU in float32. */
export function resolvePlacement(options: { dtype?: unknown; device?: unknown }): Placement {
  const wanted = options.device ?? 'auto';
  const dtype = checkChoice(options.dtype ?? 'auto', 'dtype', [
    'auto',
    'float32',
    'float16',
    'bfloat16',
  ]);
  const automatic = () => (native().cudaCount() > 0 && isCudaUsable(0) ? 'cuda:0' : 'cpu');
  const device = checkDevice(wanted === 'auto' ? automatic() : wanted);
  if (device === 'cpu') {
    if (dtype === 'float16') {
      throw expected(
        "'float32' or 'bfloat16' on the CPU",
        'dtype',
        dtype,
        'Half-precision checkpoints load in any dtype; computing in float16 is slower by far there.',
      );
    }
    return { device, dtype: dtype === 'auto' ? 'float32' : dtype };
  }
  return { device, dtype: dtype === 'auto' ? 'float16' : dtype };
}
