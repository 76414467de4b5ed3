import { readFile, stat } from 'node:fs/promises';

import { CheckpointError } from '../errors.js';

export type JsonObject = Record<string, unknown>;

/** No configuration file is larger; anything beyond is no configuration file. */
const largestFile = 16 * 1024 * 1024;

/** A checkpoint's JSON file, which must hold an object. @throws CheckpointError that names the file */
export async function readJsonObject(path: string): Promise<JsonObject> {
  const text = await readSmallFile(path);
  let value: unknown;
  try {
    value = parseJson(text);
  } catch (cause) {
    throw new CheckpointError(`${path} is no valid JSON. Is the download complete?`, { cause });
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new CheckpointError(`${path} should hold a JSON object.`);
  }
  return value as JsonObject;
}

/**
 * JSON, and the numbers that JSON lacks as Python writes and reads them: a scheduler's
 * configuration may hold `-Infinity`.
 *
 * @throws SyntaxError
 */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    if (!/Infinity|NaN/.test(text)) throw error;
  }
  // No number of JSON becomes NaN, so a text stands for it that is nowhere in the file.
  let nan = 'NaN';
  while (text.includes(`"${nan}"`)) nan += '.';
  const literals: Readonly<Record<string, string>> = { Infinity: '1e999', NaN: `"${nan}"` };
  const plain = text.replace(
    /"[^"\\]*(?:\\[\s\S][^"\\]*)*"?|(?<![\w.])(?:Infinity|NaN)(?!\w)/g,
    (token) => literals[token] ?? token,
  );
  return JSON.parse(plain, (_key, value: unknown) => (value === nan ? Number.NaN : value));
}

async function readSmallFile(path: string): Promise<string> {
  try {
    await requireFile(path);
    const { size } = await stat(path);
    if (size > largestFile) {
      throw new CheckpointError(`${path} is too large for a configuration file (${size} bytes).`);
    }
    return await readFile(path, 'utf8');
  } catch (cause) {
    if (cause instanceof CheckpointError) throw cause;
    throw new CheckpointError(`${path} cannot be read: ${(cause as Error).message}.`, { cause });
  }
}

/**
 * Before anything is opened: a pipe or a device has no end that could be waited for.
 *
 * @throws CheckpointError
 */
export async function requireFile(path: string): Promise<void> {
  const status = await stat(path).catch((cause: NodeJS.ErrnoException) => {
    const isMissing = cause.code === 'ENOENT' || cause.code === 'ENOTDIR';
    const problem = isMissing ? 'is missing' : `cannot be read: ${cause.message}`;
    throw new CheckpointError(`${path} ${problem}. Is the download complete?`, { cause });
  });
  if (!status.isFile()) throw new CheckpointError(`${path} is no file.`);
}
