import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { CheckpointError } from '../errors.js';

/** A parsed JSON object from a file nobody vouches for. */
export type JsonObject = { [key: string]: unknown };

/** CLIP's files are below 3 MB; anything much larger is not a tokenizer. */
const largestFile = 64 * 2 ** 20;
/** Ids are multiplied in pairs into one float64 (see BytePairEncoder). */
const largestId = 2 ** 26 - 1;

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The error for a file that is there but not what it should be. */
export function fail(path: string, problem: string, cause?: unknown): CheckpointError {
  return new CheckpointError(
    `Cannot use ${path}: ${problem}. The file is damaged or belongs to something else: ` +
      "download the checkpoint's tokenizer folder again.",
    { cause },
  );
}

/** Text of a file; undefined if there is none. */
export async function readText(path: string): Promise<string | undefined> {
  let file: FileHandle | undefined;
  try {
    // Without waiting: a pipe that nobody writes to would never open.
    file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const status = await file.stat();
    if (!status.isFile()) throw fail(path, 'it is not a file');
    const { size } = status;
    if (size > largestFile) throw fail(path, `it has ${size} bytes, more than ${largestFile}`);
    return await file.readFile('utf8');
  } catch (error) {
    if (error instanceof CheckpointError) throw error;
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw new CheckpointError(`Cannot read ${path}: ${message}.`, { cause: error });
  } finally {
    await file?.close();
  }
}

/** The object in a JSON file; undefined if there is no file. */
export async function readJson(path: string): Promise<JsonObject | undefined> {
  const text = await readText(path);
  if (text === undefined) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw fail(path, `it is not JSON (${(error as Error).message})`, error);
  }
  if (!isObject(value)) throw fail(path, 'it is not a JSON object');
  return value;
}

/** A vocabulary: an object from token to id, or a list of tokens. */
export function vocabularyOf(value: unknown, path: string): Map<string, number> {
  if (Array.isArray(value)) return listedVocabulary(value, path);
  if (!isObject(value)) throw fail(path, 'it has no vocabulary');
  const vocab = new Map<string, number>();
  for (const [token, id] of Object.entries(value)) {
    if (typeof id !== 'number' || !Number.isInteger(id) || id < 0 || id > largestId) {
      throw fail(path, `the id of the token "${token}" is ${JSON.stringify(id)}`);
    }
    vocab.set(token, id);
  }
  return vocab;
}

function listedVocabulary(list: readonly unknown[], path: string): Map<string, number> {
  const vocab = new Map<string, number>();
  for (const [id, entry] of list.entries()) {
    const token: unknown = Array.isArray(entry) ? entry[0] : entry;
    if (typeof token !== 'string') throw fail(path, `entry ${id} of the vocabulary is no token`);
    vocab.set(token, id);
  }
  return vocab;
}

/** Merges: a list of `"a b"` or `["a", "b"]`. */
export function pairsOf(value: unknown, path: string): [string, string][] {
  if (!Array.isArray(value)) throw fail(path, 'it has no list of merges');
  if (value.length > largestId) throw fail(path, `it has ${value.length} merges`);
  return value.map((entry: unknown, i) => {
    const pair: unknown = typeof entry === 'string' ? entry.split(' ') : entry;
    if (Array.isArray(pair) && pair.length === 2) {
      const [left, right]: unknown[] = pair;
      if (typeof left === 'string' && typeof right === 'string') return [left, right];
    }
    throw fail(path, `merge ${i + 1} is not a pair of tokens`);
  });
}
