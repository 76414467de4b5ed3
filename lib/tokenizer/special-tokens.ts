import { join } from 'node:path';
import type { AddedToken } from './added-tokens.js';
import { fail, isObject, type JsonObject } from './read-json.js';
import type { TokenizerData } from './tokenizer-data.js';

/** The parsed files of a folder; undefined for those that it lacks. */
export interface SpecialTokenFiles {
  folder: string;
  tokenizer: JsonObject | undefined;
  config: JsonObject | undefined;
  specialTokensMap: JsonObject | undefined;
  addedTokens: JsonObject | undefined;
}

type SpecialTokens = Pick<
  TokenizerData,
  'addedTokens' | 'bosToken' | 'eosToken' | 'unkToken' | 'padToken'
>;

/** In the order in which tokens that the vocabulary lacks get their ids. */
const namedKeys = [
  'bos_token',
  'eos_token',
  'unk_token',
  'sep_token',
  'pad_token',
  'cls_token',
  'mask_token',
];
const defaults: JsonObject = {
  bos_token: '<|startoftext|>',
  eos_token: '<|endoftext|>',
  unk_token: '<|endoftext|>',
  pad_token: '<|endoftext|>',
};

/**
 * The special and added tokens of a folder, by transformers' rules: `added_tokens_decoder` in
 * tokenizer_config.json settles everything; without it special_tokens_map.json overrides
 * tokenizer_config.json, and added_tokens.json and tokenizer.json say which other tokens there are.
 */
export function resolveSpecialTokens(files: SpecialTokenFiles): SpecialTokens {
  const { folder } = files;
  const config = files.config ?? {};
  const configPath = join(folder, 'tokenizer_config.json');
  const decoder = config.added_tokens_decoder;
  const settled = decoder !== undefined;
  const special = { ...config, ...(settled ? {} : files.specialTokensMap) };
  const specialPath = join(folder, 'special_tokens_map.json');
  const added = settled
    ? listedTokens(decoder, configPath)
    : [...addedTokensFile(files, special), ...serializedTokens(files)];
  const byId = new Map(added);
  const byContent = new Map([...byId.values()].map((token) => [token.content, token]));

  const named = new Map<string, AddedToken>();
  for (const key of [...namedKeys, ...otherKeys(special)]) {
    const value = key in special ? special[key] : defaults[key];
    if (value === null || value === undefined) continue;
    const inMap = !settled && files.specialTokensMap !== undefined && key in files.specialTokensMap;
    const token = tokenOf(value, inMap ? specialPath : configPath, key, { fromMap: inMap });
    named.set(key, byContent.get(token.content) ?? token);
  }
  const required = (key: string) => {
    const token = named.get(key);
    if (token === undefined) throw fail(configPath, `"${key}" is null`);
    return token.content;
  };
  return {
    addedTokens: tokensToAdd(byId, named, extraTokens(files, settled)),
    bosToken: required('bos_token'),
    eosToken: required('eos_token'),
    unkToken: required('unk_token'),
    padToken: required('pad_token'),
  };
}

/** Tokens that the files list come first, then named and further special tokens not among them. */
function tokensToAdd(
  listed: ReadonlyMap<number, AddedToken>,
  named: ReadonlyMap<string, AddedToken>,
  extra: readonly AddedToken[],
): AddedToken[] {
  const contentsOfNamed = new Set([...named.values()].map((token) => token.content));
  const tokens = [...listed]
    .sort(([a], [b]) => a - b)
    .map(([, token]) => ({
      ...token,
      special: token.special === true || contentsOfNamed.has(token.content),
    }));
  const known = new Set(tokens.map((token) => token.content));
  const further = [...named.values(), ...extra].filter((token) => !known.has(token.content));
  return [...tokens, ...further.map((token) => ({ ...token, special: true }))];
}

/** Model-specific names such as `image_token`. */
function otherKeys(special: JsonObject): string[] {
  return Object.keys(special).filter(
    (key) => key.endsWith('_token') && !namedKeys.includes(key) && isTokenValue(special[key]),
  );
}

function isTokenValue(value: unknown): boolean {
  return typeof value === 'string' || (isObject(value) && typeof value.content === 'string');
}

/**
 * Special tokens without a role. tokenizer_config.json may use either name for them;
 * special_tokens_map.json adds to the new name and is asked for the old one only if the
 * configuration has neither.
 */
function extraTokens(files: SpecialTokenFiles, settled: boolean): AddedToken[] {
  const listed = [...listedExtraTokens(files, settled)];
  const path = join(files.folder, 'special_tokens_map.json');
  const config = files.config ?? {};
  const named = ['extra_special_tokens', 'additional_special_tokens'].some((key) => key in config);
  if (!settled && !named && listed.length === 0) {
    listed.push(...listOf(files.specialTokensMap?.additional_special_tokens, path));
  }
  return listed.map((entry) => tokenOf(entry, path, 'extra_special_tokens', { fromMap: true }));
}

function listedExtraTokens(files: SpecialTokenFiles, settled: boolean): unknown[] {
  const { config, folder } = files;
  const path = join(folder, 'tokenizer_config.json');
  const current = listOf(config?.extra_special_tokens, path);
  const own = current.length > 0 ? current : listOf(config?.additional_special_tokens, path);
  if (settled) return own;
  const mapPath = join(folder, 'special_tokens_map.json');
  return [...own, ...listOf(files.specialTokensMap?.extra_special_tokens, mapPath)];
}

/** A list of tokens, or an object from a name to a token. */
function listOf(value: unknown, path: string): unknown[] {
  if (value === undefined || value === null) return [];
  if (Array.isArray(value)) return value;
  if (isObject(value)) return Object.values(value);
  throw fail(path, 'its further special tokens are not a list');
}

/** `added_tokens_decoder`: id to token. */
function listedTokens(decoder: unknown, path: string): [number, AddedToken][] {
  if (!isObject(decoder)) throw fail(path, '"added_tokens_decoder" is not an object');
  return Object.entries(decoder).map(([id, entry]) => {
    if (!/^\d+$/.test(id)) throw fail(path, `"added_tokens_decoder" has the id "${id}"`);
    if (!isObject(entry)) throw fail(path, `"added_tokens_decoder" ${id} is not a token`);
    return [Number(id), tokenOf(entry, path, `added_tokens_decoder ${id}`, { fromMap: false })];
  });
}

/** added_tokens.json: token to id. */
function addedTokensFile(files: SpecialTokenFiles, special: JsonObject): [number, AddedToken][] {
  const path = join(files.folder, 'added_tokens.json');
  const names = new Set<unknown>(
    listedExtraTokens(files, false).map((token) => (isObject(token) ? token.content : token)),
  );
  for (const key of namedKeys) {
    const value = special[key];
    // A token that only tokenizer_config.json describes as an object does not count as special.
    const inMap = files.specialTokensMap !== undefined && key in files.specialTokensMap;
    names.add(isObject(value) && inMap ? value.content : value);
  }
  return Object.entries(files.addedTokens ?? {}).map(([content, id]) => {
    if (typeof id !== 'number') throw fail(path, `the id of "${content}" is not a number`);
    return [id, { content, special: names.has(content), normalized: !names.has(content) }];
  });
}

/** `added_tokens` of tokenizer.json: a list of tokens with their ids. */
function serializedTokens(files: SpecialTokenFiles): [number, AddedToken][] {
  const list: unknown = files.tokenizer?.added_tokens ?? [];
  const path = join(files.folder, 'tokenizer.json');
  if (!Array.isArray(list)) throw fail(path, '"added_tokens" is not a list');
  return list.map((entry: unknown, i) => {
    if (!isObject(entry) || typeof entry.id !== 'number') {
      throw fail(path, `entry ${i} of "added_tokens" is not a token with an id`);
    }
    return [entry.id, tokenOf(entry, path, `added_tokens ${i}`, { fromMap: false })];
  });
}

/** A token written as a string or as an object with flags. */
function tokenOf(
  value: unknown,
  path: string,
  name: string,
  { fromMap }: { fromMap: boolean },
): AddedToken {
  if (typeof value === 'string') return { content: value, special: true };
  if (!isObject(value) || typeof value.content !== 'string') {
    throw fail(path, `"${name}" is neither a token nor an object with a "content"`);
  }
  const flag = (key: string) => value[key] === true;
  return {
    content: value.content,
    singleWord: flag('single_word'),
    lstrip: flag('lstrip'),
    rstrip: flag('rstrip'),
    special: fromMap || flag('special'),
    ...(typeof value.normalized === 'boolean' ? { normalized: value.normalized } : {}),
  };
}
