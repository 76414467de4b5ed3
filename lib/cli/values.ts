// What stands behind the command line's flags, read and checked before anything is loaded.
import { existsSync, statSync } from 'node:fs';
import { dirname, extname } from 'node:path';

import { InvalidArgumentError as CommanderArgumentError } from 'commander';

const pictureEndings: readonly string[] = ['.png', '.jpg', '.jpeg', '.webp'];

export function number(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !Number.isFinite(value)) {
    throw new CommanderArgumentError('Not a number.');
  }
  return value;
}

export function positiveInteger(text: string): number {
  const value = number(text);
  if (Number.isSafeInteger(value) && value > 0) return value;
  throw new CommanderArgumentError('Expected a whole number above 0.');
}

/** `0.5` or `0.5,1`. */
export function numbers(text: string): number[] {
  return text.split(',').map(number);
}

/** For flags that may be given several times. */
export function collect(text: string, before: string[] = []): string[] {
  return [...before, text];
}

/** More seeds than anybody looks at the pictures of. */
const mostSeeds = 10_000;

/** `7`, `1,2,3`, `1..4`, or several flags of these. Seeds have up to 64 bits, more than a number holds. */
export function seeds(text: string, before: readonly bigint[] = []): bigint[] {
  const all = [...before];
  for (const part of text.split(',')) {
    const [, first = '', last] = /^\s*(-?\d{1,20})(?:\.\.(-?\d{1,20}))?\s*$/.exec(part) ?? [];
    if (first === '') {
      throw new CommanderArgumentError('Expected whole numbers, such as 7, 1,2,3 or 1..4.');
    }
    const [from, to] = [BigInt(first), BigInt(last ?? first)];
    if (to < from || to - from >= mostSeeds) {
      throw new CommanderArgumentError(`Expected a range of 1 to ${mostSeeds} seeds.`);
    }
    for (let seed = from; seed <= to; seed += 1n) all.push(seed);
  }
  return all;
}

/** `style.safetensors` or `style.safetensors:0.7`. */
export interface ScaledFile {
  path: string;
  scale: number;
}

export function scaledFiles(text: string, before: readonly ScaledFile[] = []): ScaledFile[] {
  const [, path = text, scale] = /^(.+):(-?\d+(?:\.\d+)?)$/.exec(text) ?? [];
  return [...before, { path, scale: scale === undefined ? 1 : Number(scale) }];
}

/** `cat.safetensors` or `<cat>=cat.safetensors`. */
export interface TokenFile {
  path: string;
  token: string | undefined;
}

export function tokenFiles(text: string, before: readonly TokenFile[] = []): TokenFile[] {
  const at = text.indexOf('=');
  const isNamed = at > 0 && !existsSync(text);
  const one = isNamed
    ? { path: text.slice(at + 1), token: text.slice(0, at) }
    : { path: text, token: undefined };
  return [...before, one];
}

/** `useKarrasSigmas=true`: a value is JSON, or a text where it is none. */
export function settings(
  text: string,
  before: Readonly<Record<string, unknown>> = {},
): Record<string, unknown> {
  const [, name, value = ''] = /^([A-Za-z_]\w*)=(.*)$/s.exec(text) ?? [];
  if (name === undefined) throw new CommanderArgumentError('Expected name=value.');
  try {
    return { ...before, [name]: JSON.parse(value) as unknown };
  } catch {
    return { ...before, [name]: value };
  }
}

/** A file for a picture in a folder that is there: checked before minutes of drawing, not after. */
export function picturePath(file: string): string {
  const ending = extname(file).toLowerCase();
  if (!pictureEndings.includes(ending)) {
    throw new CommanderArgumentError('Name a file that ends in .png, .jpg, .jpeg or .webp.');
  }
  const folder = dirname(file);
  if (/[{}]/.test(folder)) {
    throw new CommanderArgumentError('Placeholders stand for a part of the file name only.');
  }
  if (!isFolder(folder)) {
    throw new CommanderArgumentError(`There is no folder ${folder}. Make it first.`);
  }
  return file;
}

/** A picture file, or `-` for standard output. */
export function outputPath(file: string): string {
  return file === '-' ? file : picturePath(file);
}

export function isFolder(path: string): boolean {
  return existsSync(path) && statSync(path).isDirectory();
}
