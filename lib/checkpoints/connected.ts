// Checkpoints that name a second one which holds parts of them: Kandinsky's decoder and its prior.
import { existsSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';

import { CheckpointError } from '../errors.js';
import { type CheckpointFolder, openCheckpointFolder } from './folder.js';

/**
 * Opens the checkpoint that another one names.
 *
 * @param name The entry in the front matter of the other's README.md, and the option: `'prior'`.
 * @param given The folder that the caller names instead.
 * @throws CheckpointError where nothing is named, or what is named is not there
 */
export async function openConnectedCheckpoint(
  { folder }: CheckpointFolder,
  name: string,
  given: string | undefined,
): Promise<CheckpointFolder> {
  if (given !== undefined) return openCheckpointFolder(given);
  const reference = frontMatterEntry(await beginningOf(join(folder, 'README.md')), name);
  if (reference === undefined) {
    throw new CheckpointError(
      `The checkpoint ${folder} needs a ${name}, and no README.md in it names one. ` +
        `Pass the ${name}'s folder: fromPretrained(path, { ${name}: folder }).`,
    );
  }
  // A path, or a name on the hub whose download lies beside this one.
  const places = [resolve(folder, reference), join(dirname(folder), basename(reference))];
  const found = places.find((place) => existsSync(join(place, 'model_index.json')));
  if (found !== undefined) return openCheckpointFolder(found);
  throw new CheckpointError(
    `The README.md of ${folder} names the ${name} ${reference}, but there is no checkpoint in ` +
      `${places.join(' or ')}. Download it and pass its folder: ` +
      `fromPretrained(path, { ${name}: folder }).`,
  );
}

/** Front matter stands at the top; what follows can be long. */
const mostBytes = 65_536;

/** The beginning of a text file; empty where there is none. */
async function beginningOf(path: string): Promise<string> {
  if (!existsSync(path)) return '';
  let file: FileHandle | undefined;
  try {
    file = await open(path);
    const { buffer, bytesRead } = await file.read(Buffer.alloc(mostBytes), 0, mostBytes, 0);
    return buffer.toString('utf8', 0, bytesRead);
  } catch (cause) {
    throw new CheckpointError(`Cannot read ${path}: ${(cause as Error).message}`, { cause });
  } finally {
    await file?.close();
  }
}

/**
 * A text, or the first of a list, in the front matter of a Markdown file: the YAML between two lines
 * of dashes at its top.
 */
export function frontMatterEntry(markdown: string, name: string): string | undefined {
  const [, yaml] = /^\uFEFF?---\s*\n(.*?)\n---\s*(\n|$)/s.exec(markdown) ?? [];
  const lines = yaml?.split(/\r?\n/) ?? [];
  const start = lines.findIndex((line) => line.startsWith(`${name}:`));
  if (start < 0) return undefined;
  const inline = plainText((lines[start] as string).slice(name.length + 1).replace('[', ' '));
  if (inline !== '') return inline;
  const next = lines.slice(start + 1).find((line) => !/^\s*(#.*)?$/.test(line));
  const [, item] = /^\s*-\s+(.*)$/.exec(next ?? '') ?? [];
  const text = plainText(item ?? '');
  return text === '' ? undefined : text;
}

/** What a scalar, or the first of several in a row, says, without quotes and comments. */
function plainText(yaml: string): string {
  const [, double, single, bare = ''] = /^\s*(?:"([^"]*)"|'([^']*)'|([^#,\]]*))/.exec(yaml) ?? [];
  return (double ?? single ?? bare).trim();
}
