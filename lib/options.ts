// Defaults and checks of what callers pass in. Each option is checked here, once; what is past this
// point is trusted.
import { checkDevice } from './devices.js';
import { expected, expectedShape, InvalidArgumentError } from './errors.js';
import { Generator } from './generator.js';
import { isCudaUsable, native } from './native.js';
import { type Scheduler, schedulerNames } from './schedulers/index.js';
import { type DType, Tensor } from './tensor.js';

export { defaults } from './defaults.js';

/**
 * What `generate()` gives: pictures, a tensor of pixels [B,3,H,W] in 0..1, or latents [B,C,h,w].
 */
export type OutputType = 'image' | 'tensor' | 'latent';

export function checkNumber(
  value: unknown,
  name: string,
  limits: { min?: number; max?: number; hint?: string } = {},
): number {
  const { min = Number.NEGATIVE_INFINITY, max = Number.POSITIVE_INFINITY, hint } = limits;
  if (typeof value === 'number' && Number.isFinite(value) && value >= min && value <= max)
    return value;
  let what = 'a number';
  if (Number.isFinite(min) && Number.isFinite(max)) what = `a number between ${min} and ${max}`;
  else if (Number.isFinite(min)) what = `a number of at least ${min}`;
  throw expected(what, name, value, hint);
}

export function checkInteger(value: unknown, name: string, min: number, hint?: string): number {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= min) return value;
  throw expected(`a whole number of at least ${min}`, name, value, hint);
}

export function checkChoice<Choice extends string>(
  value: unknown,
  name: string,
  choices: readonly Choice[],
): Choice {
  if (choices.includes(value as Choice)) return value as Choice;
  throw expected(choices.map((choice) => `'${choice}'`).join(', '), name, value);
}

export function checkBoolean(value: unknown, name: string): void {
  if (value !== undefined && typeof value !== 'boolean')
    throw expected('true or false', name, value);
}

export function checkFunction(value: unknown, name: string): void {
  if (value !== undefined && typeof value !== 'function') throw expected('a function', name, value);
}

export function checkSignal(value: unknown): void {
  if (value !== undefined && !(value instanceof AbortSignal)) {
    throw expected('an AbortSignal', 'signal', value, 'Pass the signal of an AbortController.');
  }
}

/** Refuses misspelt options, with the Python spelling translated. Undefined counts as not given. */
export function checkKnownOptions(options: object, known: readonly string[], what: string): void {
  if (typeof options !== 'object' || options === null)
    throw expected('an object', 'options', options);
  for (const [name, value] of Object.entries(options)) {
    if (known.includes(name) || value === undefined) continue;
    const camel = name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
    const hint = known.includes(camel)
      ? `It is called ${camel} here.`
      : `Known are: ${known.join(', ')}.`;
    throw new InvalidArgumentError(`${what} has no option ${name}. ${hint}`);
  }
}

/** A text or several; never empty. */
export function checkPrompt(value: unknown, name: string): string[] {
  if (typeof value === 'string') return [value];
  if (Array.isArray(value) && value.length > 0 && value.every((item) => typeof item === 'string')) {
    return value as string[];
  }
  throw expected('a string or an array of strings', name, value);
}

/** A negative prompt for each of `count` prompts: one serves them all. */
export function checkNegativePrompts(value: unknown, count: number): string[] | undefined {
  if (value === undefined) return undefined;
  const texts = checkPrompt(value, 'negativePrompt');
  if (typeof value === 'string') return Array.from({ length: count }, () => value);
  if (texts.length !== count)
    throw expected(`${count} texts, one per prompt,`, 'negativePrompt', texts);
  return texts;
}

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
  if (seed !== undefined && generator !== undefined) {
    throw new InvalidArgumentError('Expected one of seed and generator but received both.');
  }
  if (seed === undefined && generator === undefined) return new Generator();
  const list = Array.isArray(seed ?? generator);
  const values = (list ? (seed ?? generator) : [seed ?? generator]) as unknown[];
  const name = seed === undefined ? 'generator' : 'seed';
  if (list && values.length !== batch) {
    throw expected(`one ${name} or ${batch}, one per picture`, name, values);
  }
  const generators = values.map((value) => {
    if (seed !== undefined) return seeded(value);
    if (value instanceof Generator) return value;
    throw expected('a Generator', 'generator', value);
  });
  return list ? generators : (generators[0] as Generator);
}

function seeded(value: unknown): Generator {
  if (typeof value === 'bigint' || Number.isSafeInteger(value)) {
    return new Generator().manualSeed(value as number | bigint);
  }
  throw expected('a whole number', 'seed', value);
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
