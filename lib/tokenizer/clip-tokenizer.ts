import { CheckpointError, expected } from '../errors.js';
import { type AddedToken, AddedTokens } from './added-tokens.js';
import { BytePairEncoder } from './byte-pair-encoder.js';
import { tokenBytes } from './bytes.js';
import { splitWords } from './pretokenize.js';
import { readTokenizerFolder } from './read-folder.js';
import type { TokenizerData } from './tokenizer-data.js';
import { toWellFormed } from './unicode.js';

/** Options of `encode`. */
export interface EncodeOptions {
  /** Length of a row with its begin and end tokens; `modelMaxLength` unless given. */
  maxLength?: number;
  /** `'max_length'` (default) fills each row up to `maxLength` with the pad token. */
  padding?: 'max_length' | 'none';
  /** Cuts rows down to `maxLength`, keeping the end token; true unless given. */
  truncation?: boolean;
}

export interface EncodedTexts {
  /** One row of token ids for each text: begin token, the text's tokens, end token, padding. */
  inputIds: number[][];
  /** 1 for tokens, the begin and end token among them, 0 for padding. */
  attentionMask: number[][];
}

/** Rows longer than any text encoder can take: a missing model_max_length, not a wish. */
const longestRow = 1_048_576;

// Python's strip(), which decode ends with, takes off the four separators U+001C…U+001F too.
const stripped = '[\\p{White_Space}\\u001c-\\u001f]+';
const outerSpace = new RegExp(`^${stripped}|${stripped}$`, 'gu');

/**
 * The byte-pair tokenizer of CLIP text encoders. Gives the ids that transformers' `CLIPTokenizer`
 * gives, for any Unicode text; unpaired surrogates count as U+FFFD.
 *
 * ```ts
 * const tokenizer = await ClipTokenizer.fromFolder('stable-diffusion-v1-5/tokenizer');
 * const { inputIds } = tokenizer.encode(['a watercolour fox']); // [[49406, …, 49407, 49407]]
 * ```
 */
export class ClipTokenizer {
  /** `model_max_length` as the folder says: 77 for CLIP, Infinity or 1e30 where it says nothing. */
  readonly modelMaxLength: number;
  /** The token that fills rows up to their length. */
  readonly padTokenId: number;
  /** The token that begins each row; 49406 in CLIP's vocabulary. */
  readonly bosTokenId: number;
  /** The token that ends each row; 49407 in CLIP's vocabulary. */
  readonly eosTokenId: number;
  /** The token that stands for what the vocabulary lacks. */
  readonly unkTokenId: number;
  readonly #data: TokenizerData;
  readonly #added: AddedTokens;
  readonly #encoder: BytePairEncoder;
  /** Ids that follow an id of their own accord: the further vectors of a textual inversion. */
  readonly #followers = new Map<number, readonly number[]>();
  #tokensById: Map<number, string> | undefined;

  /**
   * Reads a checkpoint's tokenizer folder: `tokenizer.json`, or `vocab.json` and `merges.txt`, and
   * beside them `tokenizer_config.json`, `special_tokens_map.json` and `added_tokens.json` where
   * they exist.
   *
   * @throws CheckpointError (ERR_CHECKPOINT) if a file is missing, too large or not what it should
   * be; the message names it
   */
  static async fromFolder(folder: string): Promise<ClipTokenizer> {
    return new ClipTokenizer(await readTokenizerFolder(folder));
  }

  /** @throws CheckpointError (ERR_CHECKPOINT) if the merges do not fit the vocabulary */
  constructor(data: TokenizerData) {
    this.#data = data;
    this.modelMaxLength = data.modelMaxLength;
    this.#encoder = new BytePairEncoder(data);
    this.#added = new AddedTokens(data.vocab);
    this.#added.add(data.addedTokens);
    this.unkTokenId = this.#requiredId(data.unkToken);
    this.bosTokenId = this.#requiredId(data.bosToken);
    this.eosTokenId = this.#requiredId(data.eosToken);
    this.padTokenId = this.#requiredId(data.padToken);
  }

  /** Number of ids: the vocabulary and the tokens that were added to it. */
  get size(): number {
    return this.#data.vocab.size + this.#added.newTokens;
  }

  /** Token ids of one text, without begin and end token, not cut. */
  tokenize(text: string): number[] {
    const { splitSpecialTokens } = this.#data;
    const ids: number[] = [];
    for (const piece of this.#added.split(toWellFormed(text), { splitSpecialTokens })) {
      if (typeof piece === 'number') {
        ids.push(piece, ...(this.#followers.get(piece) ?? []));
        continue;
      }
      for (const word of splitWords(piece))
        for (const id of this.#encoder.encodeWord(word)) ids.push(id);
    }
    return ids;
  }

  /**
   * Token ids of several texts in rows, as a text encoder takes them.
   *
   * @throws InvalidArgumentError (ERR_INVALID_ARGUMENT) for a `maxLength` that leaves no room for
   * the begin and end token, or none at all where rows are to be filled up
   */
  encode(texts: readonly string[], options: EncodeOptions = {}): EncodedTexts {
    const { maxLength = this.modelMaxLength, padding = 'max_length', truncation = true } = options;
    checkOptions(texts, maxLength, padding);
    const inputIds: number[][] = [];
    const attentionMask: number[][] = [];
    for (const text of texts) {
      const tokens = this.tokenize(text);
      const kept = truncation ? this.#truncate(tokens, maxLength - 2) : tokens;
      const row = [this.bosTokenId, ...kept, this.eosTokenId];
      const fill = padding === 'max_length' ? Math.max(0, maxLength - row.length) : 0;
      inputIds.push(this.#pad(row, fill, this.padTokenId));
      attentionMask.push(this.#pad(new Array<number>(row.length).fill(1), fill, 0));
    }
    return { inputIds, attentionMask };
  }

  /** The text that ids stand for, in lowercase and with a space after each word. */
  decode(ids: readonly number[], options: { skipSpecialTokens?: boolean } = {}): string {
    const { skipSpecialTokens = false } = options;
    this.#tokensById ??= new Map(Array.from(this.#data.vocab, ([token, id]) => [id, token]));
    const bytes: number[] = [];
    for (const id of ids) {
      const token = this.#added.textOf(id) ?? this.#tokensById.get(id);
      if (token === undefined || (skipSpecialTokens && this.#added.isSpecial(token))) continue;
      for (const byte of tokenBytes(token)) bytes.push(byte);
    }
    const text = new TextDecoder('utf-8', { ignoreBOM: true }).decode(Uint8Array.from(bytes));
    return text.replaceAll('</w>', ' ').replace(outerSpace, '');
  }

  /** The id of a token as the vocabulary writes it (`'cat</w>'`), or of an added token. */
  tokenId(token: string): number | undefined {
    return this.#added.idOf(token);
  }

  /**
   * Adds tokens, for example the names of textual inversions. A token that the vocabulary lacks
   * gets the next free id, `size`; one that it has is from now on found as a whole in texts.
   * Returns how many tokens were new or changed.
   */
  addTokens(tokens: readonly (string | AddedToken)[], options: { special?: boolean } = {}): number {
    const { special = false } = options;
    return this.#added.add(
      tokens.map((token) => (typeof token === 'string' ? { content: token, special } : token)),
    );
  }

  /**
   * Adds a token that stands for several: wherever it is found in a text, the ids of `token`,
   * `token_1`, `token_2`, … come out, `count` of them. Returns the first id.
   */
  addTokenSequence(token: string, count: number): number {
    const parts = tokenSequence(token, count);
    this.addTokens(parts);
    const [first = this.unkTokenId, ...rest] = parts.map((part) => this.#requiredId(part));
    this.#followers.set(first, rest);
    return first;
  }

  /** Takes back what `addTokenSequence` added. */
  removeTokenSequence(token: string, count: number): void {
    const first = this.#added.idOf(token);
    if (first !== undefined) this.#followers.delete(first);
    this.#added.remove(tokenSequence(token, count));
  }

  #requiredId(token: string): number {
    const id = this.#added.idOf(token) ?? this.#added.idOf(this.#data.unkToken);
    if (id !== undefined) return id;
    throw new CheckpointError(
      `The tokenizer of ${this.#data.source} has no token "${token}". ` +
        'Download the tokenizer folder again.',
    );
  }

  #truncate(ids: number[], length: number): number[] {
    if (ids.length <= length) return ids;
    const right = this.#data.truncationSide === 'right';
    return right ? ids.slice(0, length) : ids.slice(ids.length - length);
  }

  #pad(row: number[], count: number, value: number): number[] {
    const filling = new Array<number>(count).fill(value);
    return this.#data.paddingSide === 'right' ? [...row, ...filling] : [...filling, ...row];
  }
}

/** `token`, `token_1`, `token_2`, …: the names of the vectors that a token stands for. */
export function tokenSequence(token: string, count: number): string[] {
  return Array.from({ length: count }, (_, i) => (i === 0 ? token : `${token}_${i}`));
}

function checkOptions(texts: readonly string[], maxLength: number, padding: string): void {
  if (!Array.isArray(texts)) throw expected('an array of strings', 'texts', texts);
  for (const text of texts) {
    if (typeof text !== 'string') throw expected('only strings', 'texts', text);
  }
  if (padding !== 'max_length' && padding !== 'none') {
    throw expected("'max_length' or 'none'", 'padding', padding);
  }
  if (padding === 'none' && maxLength > longestRow) return;
  if (!Number.isInteger(maxLength) || maxLength < 2 || maxLength > longestRow) {
    throw expected(
      `an integer between 2 and ${longestRow}`,
      'maxLength',
      maxLength,
      "Pass the text encoder's max_position_embeddings: the tokenizer folder names no usable " +
        'model_max_length.',
    );
  }
}
