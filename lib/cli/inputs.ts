// What the drawing commands read: picture files by pattern, and prompts by line.
import { existsSync, readdirSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { basename, extname, join } from 'node:path';
import { text } from 'node:stream/consumers';

import { InvalidArgumentError } from '../errors.js';
import { signal } from './interrupt.js';
import { isFolder } from './values.js';

export interface Input {
  /** A path or a URL. */
  path: string;
  /** Its file name without an ending, for the names of pictures made from it. */
  name: string;
}

/** Endings of the files that a folder or a pattern with `*` at its end means. */
const pictureFile = /\.(png|jpe?g|webp|gif|tiff?|avif|bmp)$/i;

/** @throws InvalidArgumentError for a pattern or a folder that holds no picture */
export function findInputs(values: readonly string[]): Input[] {
  return values.flatMap(expand).map((path) => ({ path, name: nameOf(path) }));
}

function expand(value: string): string[] {
  if (/^(https?|data):/.test(value)) return [value];
  if (isFolder(value)) return orNone(value, matches(join(value, '*')).filter(isPicture));
  // A file may have brackets in its name.
  if (existsSync(value) || !/[*?[]/.test(value)) return [value];
  const found = matches(value);
  return orNone(value, value.endsWith('*') ? found.filter(isPicture) : found);
}

function isPicture(path: string): boolean {
  return pictureFile.test(path);
}

function orNone(value: string, found: string[]): string[] {
  if (found.length > 0) return found;
  throw new InvalidArgumentError(`Expected pictures for --image but ${value} holds none.`);
}

function nameOf(path: string): string {
  if (path.startsWith('data:')) return 'data';
  const file = /^https?:/.test(path) ? new URL(path).pathname : path;
  return basename(file, extname(file)) || 'picture';
}

/** Files that match `*`, `?`, `[a-z]` and `**`, in the order in which people count: 2 before 10. */
export function matches(pattern: string): string[] {
  const isAbsolute = pattern.startsWith('/');
  const steps = pattern.split('/').filter((step, i) => step !== '' || i === 0);
  if (isAbsolute) steps.shift();
  return walk(isAbsolute ? '/' : '', steps).sort((a, b) =>
    a.localeCompare(b, 'en', { numeric: true }),
  );
}

function walk(folder: string, [step, ...rest]: readonly string[]): string[] {
  if (step === undefined) return [];
  if (!/[*?[]/.test(step)) {
    const path = join(folder, step);
    if (rest.length > 0) return isFolder(path) ? walk(path, rest) : [];
    return existsSync(path) && !isFolder(path) ? [path] : [];
  }
  const entries = listed(folder);
  if (step === '**') {
    const here = walk(folder, rest);
    const deeper = entries.filter(({ isDirectory, isLink }) => isDirectory && !isLink);
    return [...here, ...deeper.flatMap(({ name }) => walk(join(folder, name), [step, ...rest]))];
  }
  const expression = expressionOf(step);
  return entries
    .filter(({ name }) => expression.test(name))
    .flatMap(({ name, isDirectory }) => {
      const path = join(folder, name);
      if (rest.length > 0) return isDirectory ? walk(path, rest) : [];
      return isDirectory ? [] : [path];
    });
}

/** Without hidden ones, as a shell does. */
function listed(folder: string) {
  try {
    return readdirSync(folder === '' ? '.' : folder, { withFileTypes: true })
      .filter(({ name }) => !name.startsWith('.'))
      .map((entry) => ({
        name: entry.name,
        isLink: entry.isSymbolicLink(),
        isDirectory: entry.isSymbolicLink()
          ? isFolder(join(folder, entry.name))
          : entry.isDirectory(),
      }));
  } catch {
    return [];
  }
}

function expressionOf(step: string): RegExp {
  const source = step.replaceAll(/\[[^\]]+\]|[\s\S]/g, (part) => {
    if (part === '*') return '.*';
    if (part === '?') return '.';
    if (part.length > 1) return part.replace(/^\[!/, '[^').replaceAll('\\', '\\\\');
    return part.replace(/[\\^$.*+?()[\]{}|]/, '\\$&');
  });
  return new RegExp(`^${source}$`, 's');
}

/** @throws InvalidArgumentError where there is no prompt, or the file cannot be read */
export async function readPrompts(
  { prompt = [], promptFile }: { prompt?: readonly string[]; promptFile?: string },
  fallback?: string,
): Promise<string[]> {
  if (promptFile === undefined) {
    if (prompt.length > 0) return [...prompt];
    if (fallback !== undefined) return [fallback];
    throw new InvalidArgumentError('Expected --prompt or --prompt-file but received neither.');
  }
  if (prompt.length > 0) {
    throw new InvalidArgumentError('Expected one of --prompt and --prompt-file but received both.');
  }
  const content = promptFile === '-' ? await readStandardInput() : await readText(promptFile);
  const lines = content.split(/\r?\n/).map((line) => line.trim());
  const prompts = lines.filter((line) => line !== '' && !line.startsWith('#'));
  if (prompts.length > 0) return prompts;
  const source = promptFile === '-' ? 'standard input' : promptFile;
  throw new InvalidArgumentError(`Expected a prompt on a line of its own, but ${source} has none.`);
}

/** @throws the signal's reason, also while nothing comes */
async function readStandardInput(): Promise<string> {
  const stop = () => process.stdin.destroy();
  signal.addEventListener('abort', stop, { once: true });
  try {
    return await text(process.stdin);
  } finally {
    signal.removeEventListener('abort', stop);
    signal.throwIfAborted();
  }
}

async function readText(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (cause) {
    throw new InvalidArgumentError(`Cannot read ${file}: ${(cause as Error).message}.`, { cause });
  }
}

/** One for all, or one for each prompt. @throws InvalidArgumentError */
export function perPrompt(
  values: readonly string[] | undefined,
  prompts: readonly string[],
  flag: string,
): (string | undefined)[] {
  if (values === undefined) return prompts.map(() => undefined);
  const [only] = values;
  if (values.length === 1) return prompts.map(() => only);
  if (values.length === prompts.length) return [...values];
  throw new InvalidArgumentError(
    `Expected one ${flag}, or ${prompts.length}, one per prompt, but received ${values.length}.`,
  );
}
