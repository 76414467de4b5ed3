// Checks of what callers pass in that know nothing but plain values.
import { expected, InvalidArgumentError } from './errors.js';

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

/** The name of a variant becomes part of a file's name. */
export function checkVariant(value: unknown): void {
  if (value === undefined || (typeof value === 'string' && /^[\w-]+$/.test(value))) return;
  throw expected("a name such as 'fp16'", 'variant', value);
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

/** A text for each of `count` prompts: one serves them all. Undefined where none is given. */
export function checkTexts(value: unknown, name: string, count: number): string[] | undefined {
  if (value === undefined) return undefined;
  const texts = checkPrompt(value, name);
  if (typeof value === 'string') return Array.from({ length: count }, () => value);
  if (texts.length === count) return texts;
  throw expected(`${count} texts, one per prompt,`, name, texts);
}

/** Refuses two options that exclude each other: `{ seed, generator }`. */
export function checkAtMostOne(options: Readonly<Record<string, unknown>>): void {
  const values = Object.values(options);
  if (values.every((value) => value !== undefined)) throw notOne(options, 'both');
}

/** Of two options that stand for each other one must be given: `{ prompt, promptEmbeds }`. */
export function checkExactlyOne(options: Readonly<Record<string, unknown>>): void {
  checkAtMostOne(options);
  const values = Object.values(options);
  if (values.every((value) => value === undefined)) throw notOne(options, 'neither');
}

function notOne(options: object, received: 'both' | 'neither'): InvalidArgumentError {
  const names = Object.keys(options).join(' and ');
  return new InvalidArgumentError(`Expected one of ${names} but received ${received}.`);
}
