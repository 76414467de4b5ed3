// What goes to standard output, and how failures are told. With --json all of it is lines of JSON.
import { CommanderError } from 'commander';

import { InvalidArgumentError, TorchbrushError } from '../errors.js';
import { signal } from './interrupt.js';
import { writeLine } from './progress.js';

/** A picture on standard output leaves no room for anything else. @throws InvalidArgumentError */
export function checkOutput({ output, json }: { output: string; json?: boolean }): void {
  if (output !== '-') return;
  if (json === true) {
    throw new InvalidArgumentError('Expected a file for --output beside --json but received -.');
  }
  if (process.stdout.isTTY) {
    throw new InvalidArgumentError(
      '--output - writes a .png file to standard output: redirect it.',
    );
  }
}

export function printResult(text: string): void {
  writeLine(text, process.stdout);
}

/** One line; seeds may have more digits than a JSON number keeps, and are texts then. */
export function printJson(value: object): void {
  printResult(JSON.stringify(value, jsonValue));
}

function jsonValue(_: string, value: unknown): unknown {
  if (typeof value !== 'bigint') return value;
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : `${value}`;
}

export interface Failure {
  code: string;
  message: string;
}

export function failureOf(error: unknown): Failure {
  if (signal.aborted) return { code: 'ERR_INTERRUPTED', message: 'interrupted' };
  if (error instanceof TorchbrushError) {
    const isArgument = error instanceof InvalidArgumentError;
    return {
      code: error.code,
      message: isArgument ? inFlags(error.message) : error.message,
    };
  }
  if (error instanceof CommanderError) {
    return { code: 'ERR_USAGE', message: error.message.replace(/^error: /, '') };
  }
  return {
    code: 'ERR_UNKNOWN',
    message: error instanceof Error ? error.message : String(error),
  };
}

/** Says on standard error what failed; the exit code for it. */
export function reportFailure(error: unknown, { json = false } = {}): number {
  const isUsage = error instanceof CommanderError;
  if (isUsage && error.exitCode === 0) return 0;
  const failure = failureOf(error);
  if (json) printJson({ type: 'error', ...failure });
  if (signal.aborted) {
    writeLine('interrupted');
    return 130;
  }
  // Commander has said it already.
  if (isUsage) return 2;
  writeLine(`error: ${failure.message} (${failure.code})`);
  // An argument that cannot be meant is wrong usage, wherever it is noticed.
  return error instanceof InvalidArgumentError ? 2 : 1;
}

/** Options of the library, where the flag is called otherwise. */
const flagNames: Readonly<Record<string, string>> = {
  numInferenceSteps: 'steps',
  numImagesPerPrompt: 'num-images',
  controlnetConditioningScale: 'controlnet-scale',
  controlGuidanceStart: 'control-start',
  controlGuidanceEnd: 'control-end',
  originalInferenceSteps: 'original-steps',
};

const sameNames = new Set(
  'prompt negativePrompt guidanceScale guidanceRescale strength height width image controlImage eta clipSkip seed timesteps sigmas noiseLevel dtype device variant revision weighting guessMode quality prior config vae controlnet threads scheduler prompt2 negativePrompt2'.split(
    ' ',
  ),
);

/** A message about an option, in the words of the command line. */
function inFlags(message: string): string {
  const [, who, option] = /^(.+) has no option (\w+)\. Known are: /.exec(message) ?? [];
  if (who !== undefined && option !== undefined) {
    return `${who} with this checkpoint takes no ${flagOf(option) ?? option}. Leave it out.`;
  }
  return message.replaceAll(/(?<=for )(\w+)(?= but received)/g, (name) => flagOf(name) ?? name);
}

function flagOf(option: string): string | undefined {
  const named = Object.hasOwn(flagNames, option) ? flagNames[option] : undefined;
  if (named !== undefined) return `--${named}`;
  if (!sameNames.has(option)) return undefined;
  return `--${option.replaceAll(/([A-Z]|\d)/g, '-$1').toLowerCase()}`;
}
