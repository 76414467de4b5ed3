// Checkpoints that name a second one which holds parts of them: Kandinsky's decoder and its prior.
import { existsSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';

import { CheckpointError, HubError } from '../errors.js';
import { type CheckpointFolder, openCheckpointFolder } from './folder.js';
import { parseRepository } from './hub-reference.js';
import { type HubAccess, withoutRevision } from './hub-settings.js';

/**
 * Opens the checkpoint that another one names.
 *
 * @param name The entry in the front matter of the other's README.md, and the option: `'prior'`.
 * @param given The folder, or name on the hub, that the caller names instead.
 * @param theirs How the other one was come by.
 * @throws CheckpointError where nothing is named, or what is named is not there
 * @throws HubError
 */
export async function openConnectedCheckpoint(
  { folder, snapshot }: CheckpointFolder,
  name: string,
  given: string | undefined,
  theirs: HubAccess,
): Promise<CheckpointFolder> {
  const access = withoutRevision(theirs);
  if (given !== undefined) return openCheckpointFolder(given, access);
  if (snapshot?.has('README.md') === true) await snapshot.fetch(['README.md']);
  const reference = frontMatterEntry(await beginningOf(join(folder, 'README.md')), name);
  if (reference === undefined) {
    throw new CheckpointError(
      `The checkpoint ${folder} needs a ${name}, and no README.md in it names one. ` +
        `Name it: fromPretrained(path, { ${name}: 'FOLDER or org/name' }).`,
    );
  }
  // A path, or a name on the hub whose download may lie beside this one.
  const places = [resolve(folder, reference), join(dirname(folder), basename(reference))];
  const found = places.find((place) => existsSync(join(place, 'model_index.json')));
  if (found !== undefined) return openCheckpointFolder(found);
  const problem = `The README.md of ${folder} names the ${name} ${reference}, which is not in ${places.join(' or ')}`;
  const way = `Name another: fromPretrained(path, { ${name}: 'FOLDER or org/name' }).`;
  if (parseRepository(reference) === undefined) throw new CheckpointError(`${problem}. ${way}`);
  try {
    return await openCheckpointFolder(reference, access);
  } catch (cause) {
    if (!(cause instanceof HubError)) throw cause;
    throw new HubError(`${problem}. ${cause.message} ${way}`, { code: cause.code, cause });
  }
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
