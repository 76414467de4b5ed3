// The names of the pictures that a command writes, all of them known before the first is drawn.
import { createHash } from 'node:crypto';
import { basename, dirname, extname, join, resolve } from 'node:path';

import { InvalidArgumentError } from '../errors.js';

/** What placeholders stand for in the name of one picture. */
export interface NameParts {
  /** Of the input; undefined where there is none. */
  name: string | undefined;
  seed: bigint;
  prompt: string;
}

const placeholders = ['name', 'seed', 'index', 'prompt'] as const;

/**
 * A file for each picture: the pattern with its placeholders replaced, and a number behind it where
 * several would have the same name.
 *
 * @throws InvalidArgumentError for an unknown placeholder, or a picture that would replace an input
 */
export function outputNames(
  pattern: string,
  pictures: readonly NameParts[],
  inputs: readonly string[] = [],
): string[] {
  if (pattern === '-') {
    if (pictures.length === 1) return [pattern];
    throw new InvalidArgumentError(
      `Expected one picture for standard output but there are ${pictures.length}. Name a file.`,
    );
  }
  const width = `${pictures.length - 1}`.length;
  const names = pictures.map((parts, index) =>
    replaced(pattern, parts, `${index}`.padStart(width, '0')),
  );
  const groups = new Map<string, number[]>();
  for (const [i, name] of names.entries()) groups.set(name, [...(groups.get(name) ?? []), i]);
  for (const [name, members] of groups) {
    if (members.length === 1) continue;
    const digits = `${members.length - 1}`.length;
    for (const [k, i] of members.entries()) {
      names[i] = withNumber(name, `${k}`.padStart(digits, '0'));
    }
  }
  checkDistinct(names);
  const taken = new Set(
    inputs.filter((path) => !/^(https?|data):/.test(path)).map((p) => resolve(p)),
  );
  const lost = names.find((name) => taken.has(resolve(name)));
  if (lost === undefined) return names;
  throw new InvalidArgumentError(`--output would replace the input ${lost}. Choose another name.`);
}

/** a-0.png may be a name of its own and the first of several a.png. */
function checkDistinct(names: readonly string[]): void {
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice === undefined) return;
  throw new InvalidArgumentError(
    `Two pictures would be called ${twice}. Put {index} into --output to tell them apart.`,
  );
}

function replaced(pattern: string, parts: NameParts, index: string): string {
  const file = basename(pattern).replaceAll(/\{([^{}]*)\}/g, (whole, word: string) => {
    switch (word as (typeof placeholders)[number]) {
      case 'name':
        if (parts.name !== undefined) return parts.name;
        throw new InvalidArgumentError(
          `There is no input for ${whole} in --output. Use {prompt}, {seed} or {index}.`,
        );
      case 'seed':
        return `${parts.seed}`;
      case 'index':
        return index;
      case 'prompt':
        return slug(parts.prompt);
      default:
        throw new InvalidArgumentError(
          `Unknown placeholder ${whole} in --output. There are ${placeholders.map((one) => `{${one}}`).join(', ')}.`,
        );
    }
  });
  return dirname(pattern) === '.' && !pattern.startsWith('./')
    ? file
    : join(dirname(pattern), file);
}

/** A prompt as part of a file name: its words, and not too many of them. */
function slug(prompt: string): string {
  const words = prompt
    .normalize('NFKC')
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N}]+/gu, '-')
    .replaceAll(/^-+|-+$/g, '');
  if (words === '') return 'picture';
  if (words.length <= 60) return words;
  // Long prompts often differ at their ends only.
  const rest = createHash('sha256').update(prompt).digest('hex').slice(0, 6);
  return `${words.slice(0, 50).replace(/-+$/, '')}-${rest}`;
}

/** out.png → out-0.png */
function withNumber(file: string, digits: string): string {
  const ending = extname(file);
  return `${file.slice(0, file.length - ending.length)}-${digits}${ending}`;
}
