import { CheckpointError } from '../errors.js';
import { byteCharacters } from './bytes.js';
import { MergeQueue } from './merge-queue.js';
import { PairTable } from './pair-table.js';

/** Marks the last symbol of a word. */
const endOfWord = '</w>';
/** A rank and an id share one exact float64. */
const idLimit = 2 ** 26;
/** Words that are remembered, and the longest worth remembering. */
const cacheEntries = 10_000;
const cacheWordLength = 64;

export interface BytePairEncoderOptions {
  /** Token to id. */
  vocab: ReadonlyMap<string, number>;
  /** Pairs of tokens, the first to be merged first. */
  merges: readonly (readonly [string, string])[];
  /** Token for bytes that the vocabulary lacks. */
  unkToken: string;
  /** Where the data came from, for error messages. */
  source: string;
}

/**
 * Byte-pair encoding of single words: the UTF-8 bytes of a word are joined, always the pair with
 * the lowest rank first and the leftmost of equals, until no pair has a merge.
 *
 * Source: Sennrich, Haddow and Birch, "Neural Machine Translation of Rare Words with Subword
 * Units", https://arxiv.org/abs/1508.07909, in the byte-level form that CLIP uses.
 */
export class BytePairEncoder {
  readonly #byteIds: readonly (number | undefined)[];
  readonly #lastByteIds: readonly (number | undefined)[];
  /** Pair of ids to rank · idLimit + id of the joined token. */
  readonly #merges: PairTable;
  readonly #unknown: number | undefined;
  readonly #options: BytePairEncoderOptions;
  readonly #cache = new Map<string, readonly number[]>();
  readonly #encoder = new TextEncoder();

  /** @throws CheckpointError (ERR_CHECKPOINT) if a merge names a token that is not in `vocab` */
  constructor(options: BytePairEncoderOptions) {
    const { vocab, merges, unkToken, source } = options;
    this.#options = options;
    this.#byteIds = byteCharacters.map((character) => vocab.get(character));
    this.#lastByteIds = byteCharacters.map((character) => vocab.get(character + endOfWord));
    this.#unknown = vocab.get(unkToken);
    this.#merges = new PairTable(merges.length);
    for (let rank = 0; rank < merges.length; rank++) {
      const [left, right] = merges[rank] as readonly [string, string];
      const leftId = vocab.get(left);
      const rightId = vocab.get(right);
      const joined = vocab.get(left + right);
      if (leftId === undefined || rightId === undefined || joined === undefined) {
        const missing = [left, right, left + right].find((token) => !vocab.has(token));
        throw new CheckpointError(
          `Merge ${rank + 1} ("${left} ${right}") of ${source} needs the token "${missing}", ` +
            'which the vocabulary lacks: the merges and the vocabulary belong to different ' +
            'tokenizers. Download the tokenizer folder again.',
        );
      }
      this.#merges.set(leftId, rightId, rank * idLimit + joined);
    }
  }

  /** Token ids of one word. */
  encodeWord(word: string): readonly number[] {
    const known = this.#cache.get(word);
    if (known !== undefined) return known;
    const ids = this.#merge(this.#symbols(word));
    if (word.length <= cacheWordLength) {
      if (this.#cache.size >= cacheEntries) {
        // The oldest entry goes: a map iterates in the order of insertion.
        for (const oldest of this.#cache.keys()) {
          this.#cache.delete(oldest);
          break;
        }
      }
      this.#cache.set(word, ids);
    }
    return ids;
  }

  #symbols(word: string): number[] {
    const bytes = this.#encoder.encode(word);
    const ids: number[] = [];
    for (const [i, byte] of bytes.entries()) {
      const table = i === bytes.length - 1 ? this.#lastByteIds : this.#byteIds;
      const id = table[byte] ?? this.#unknown;
      if (id === undefined) {
        throw new CheckpointError(
          `The vocabulary of ${this.#options.source} has neither byte 0x${byte.toString(16)} nor ` +
            `the unknown token "${this.#options.unkToken}". Download the tokenizer folder again.`,
        );
      }
      ids.push(id);
    }
    return ids;
  }

  #merge(ids: number[]): readonly number[] {
    const next = Int32Array.from(ids, (_, i) => (i + 1 < ids.length ? i + 1 : -1));
    const previous = Int32Array.from(ids, (_, i) => i - 1);
    const queue = new MergeQueue();
    const consider = (left: number, right: number) => {
      const merge = this.#mergeAt(ids, left, right);
      if (merge !== undefined) queue.push(merge, left);
    };
    for (let i = 0; i + 1 < ids.length; i++) consider(i, i + 1);

    for (let entry = queue.pop(); entry !== undefined; entry = queue.pop()) {
      const left = entry.position;
      const right = next[left] as number;
      // Entries are not taken back when a neighbour changes: those no longer true are skipped.
      if (right < 0 || ids[left] === -1) continue;
      const current = this.#mergeAt(ids, left, right);
      if (current === undefined || current % idLimit !== entry.merge % idLimit) continue;
      ids[left] = current % idLimit;
      ids[right] = -1;
      const after = next[right] as number;
      next[left] = after;
      if (after >= 0) previous[after] = left;
      if ((previous[left] as number) >= 0) consider(previous[left] as number, left);
      if (after >= 0) consider(left, after);
    }
    return ids.filter((id) => id !== -1);
  }

  #mergeAt(ids: readonly number[], left: number, right: number): number | undefined {
    return this.#merges.get(ids[left] as number, ids[right] as number);
  }
}
