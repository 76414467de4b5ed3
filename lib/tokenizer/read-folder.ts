import { join } from 'node:path';
import { CheckpointError } from '../errors.js';
import {
  fail,
  isObject,
  type JsonObject,
  pairsOf,
  readJson,
  readText,
  vocabularyOf,
} from './read-json.js';
import { resolveSpecialTokens, type SpecialTokenFiles } from './special-tokens.js';
import type { TokenizerData } from './tokenizer-data.js';

/** Reads a tokenizer folder in any of its published layouts. */
export async function readTokenizerFolder(folder: string): Promise<TokenizerData> {
  const path = (name: string) => join(folder, name);
  const [tokenizer, config, specialTokensMap, addedTokens] = await Promise.all([
    readJson(path('tokenizer.json')),
    readJson(path('tokenizer_config.json')),
    readJson(path('special_tokens_map.json')),
    readJson(path('added_tokens.json')),
  ]);
  // Where both forms lie side by side, tokenizer.json counts.
  const { vocab, merges } =
    tokenizer === undefined
      ? await readVocabAndMerges(folder)
      : readTokenizerJson(tokenizer, path('tokenizer.json'));
  const files: SpecialTokenFiles = { folder, tokenizer, config, specialTokensMap, addedTokens };
  return {
    source: folder,
    vocab,
    merges,
    ...resolveSpecialTokens(files),
    modelMaxLength: modelMaxLength(config, path('tokenizer_config.json')),
    paddingSide: side(config, 'padding_side', tokenizer?.padding),
    truncationSide: side(config, 'truncation_side', tokenizer?.truncation),
    splitSpecialTokens: config?.split_special_tokens === true,
  };
}

type Model = Pick<TokenizerData, 'vocab' | 'merges'>;

async function readVocabAndMerges(folder: string): Promise<Model> {
  const [vocabPath, mergesPath] = [join(folder, 'vocab.json'), join(folder, 'merges.txt')];
  const [vocab, merges] = await Promise.all([readJson(vocabPath), readText(mergesPath)]);
  if (vocab === undefined || merges === undefined) {
    const missing = [vocab === undefined && 'vocab.json', merges === undefined && 'merges.txt']
      .filter((name) => name !== false)
      .join(' and ');
    throw new CheckpointError(
      `The tokenizer folder ${folder} has no ${missing}, and no tokenizer.json either. A CLIP ` +
        'tokenizer is vocab.json with merges.txt, or tokenizer.json: download the folder again.',
    );
  }
  return { vocab: vocabularyOf(vocab, vocabPath), merges: parseMerges(merges, mergesPath) };
}

function parseMerges(text: string, path: string): [string, string][] {
  const merges: [string, string][] = [];
  for (const [i, ending] of text.split('\n').entries()) {
    const line = ending.endsWith('\r') ? ending.slice(0, -1) : ending;
    if (line === '' || line.startsWith('#version')) continue;
    const space = line.indexOf(' ');
    if (space < 0 || line.includes(' ', space + 1)) {
      throw fail(path, `line ${i + 1} is not two tokens with one space between them`);
    }
    merges.push([line.slice(0, space), line.slice(space + 1)]);
  }
  return merges;
}

function readTokenizerJson(tokenizer: JsonObject, path: string): Model {
  const { model } = tokenizer;
  if (!isObject(model)) throw fail(path, 'it has no "model"');
  if (model.type !== undefined && model.type !== 'BPE') {
    throw fail(
      path,
      `its model is "${String(model.type)}", not "BPE" as CLIP's is: this folder belongs to a ` +
        'text encoder of another kind',
    );
  }
  return { vocab: vocabularyOf(model.vocab, path), merges: pairsOf(model.merges, path) };
}

function modelMaxLength(config: JsonObject | undefined, path: string): number {
  const value = config?.model_max_length ?? config?.max_len;
  if (value === undefined || value === null) return Number.POSITIVE_INFINITY;
  if (typeof value !== 'number' || !(value >= 2)) {
    throw fail(path, `"model_max_length" is ${JSON.stringify(value)}, not a number above 1`);
  }
  return value;
}

/** tokenizer_config.json first, then the direction that tokenizer.json was saved with. */
function side(config: JsonObject | undefined, key: string, saved: unknown): 'left' | 'right' {
  const direction = config?.[key] ?? (isObject(saved) ? saved.direction : undefined);
  return typeof direction === 'string' && direction.toLowerCase() === 'left' ? 'left' : 'right';
}
