// Textual inversion (Gal et al., https://arxiv.org/abs/2208.01618): new tokens, with the rows that a
// text encoder's embedding table gets for them.
import type { StoredTensor } from '../checkpoints/stored-tensor.js';
import { CheckpointError, expected } from '../errors.js';
import type { Network } from '../networks/network.js';
import { concat } from '../ops.js';
import { Tensor } from '../tensor.js';
import { tokenSequence } from '../tokenizer/clip-tokenizer.js';
import type { ClipTokenizer } from '../tokenizer/index.js';
import { type AdapterFileOptions, findTensorFile, readTensorFile } from './tensor-file.js';
import { type EncoderName, openInversion, readVectors } from './textual-inversion-file.js';

/** Options of `loadTextualInversion`. */
export interface LoadTextualInversionOptions extends Omit<AdapterFileOptions, 'token'> {
  /** What to write in prompts; the name in the file unless given. */
  token?: string;
  /** Access token for the hub, instead of `HF_TOKEN`. */
  hfToken?: string;
}

interface Inversion {
  token: string;
  /** One row per vector, [N,D], as the file has them. */
  rows: Float32Array;
  count: number;
}

const table = /(^|\.)token_embedding\.weight$/;

/** The text encoders of a pipeline, by the names that files for Stable Diffusion XL give them. */
export type InvertedEncoders = Partial<Record<EncoderName, TextualInversions>>;

/** Loads a file's token into the encoders that it has vectors for, or into none. */
export async function loadTextualInversion(
  path: string,
  { token, hfToken, ...where }: LoadTextualInversionOptions,
  encoders: InvertedEncoders,
): Promise<void> {
  if (token !== undefined && (typeof token !== 'string' || token.trim() === '')) {
    throw expected('a text', 'token', token);
  }
  const found = await findTensorFile(path, 'learned_embeds.safetensors', {
    ...where,
    token: hfToken,
  });
  const inversion = openInversion(await readTensorFile(found), token);
  if (inversion.vectors.has('clip_g') && encoders.clip_g === undefined) {
    throw new CheckpointError(`${found} was made for Stable Diffusion XL.`);
  }
  const changed: TextualInversions[] = [];
  try {
    for (const [name, vectors] of inversion.vectors) {
      const encoder = encoders[name];
      if (encoder === undefined) continue;
      await encoder.add(found, inversion.token, vectors);
      changed.push(encoder);
    }
  } catch (error) {
    for (const encoder of changed) await encoder.unload([inversion.token]);
    throw error;
  }
  if (changed.length > 0) return;
  throw new CheckpointError(`${found} has no vectors for the text encoder of this pipeline.`);
}

/** The textual inversions of one text encoder and its tokenizer; pipelines that share them share these. */
export class TextualInversions {
  readonly #network: Network;
  readonly #tokenizer: ClipTokenizer;
  readonly #parameter: string;
  readonly #width: number;
  #loaded: Inversion[] = [];
  /** Changes come one after the other: each sees the tokens of those before. */
  #last: Promise<unknown> = Promise.resolve();

  private constructor(network: Network, tokenizer: ClipTokenizer) {
    this.#network = network;
    this.#tokenizer = tokenizer;
    const found = [...network.parameters].find(([name]) => table.test(name));
    if (found === undefined) throw new CheckpointError('The text encoder has no token embeddings.');
    const [parameter, [, width = 0]] = found;
    this.#parameter = parameter;
    this.#width = width;
  }

  static readonly #ofNetworks = new WeakMap<Network, TextualInversions>();

  /** @throws InvalidArgumentError when the encoder already has inversions under another tokenizer */
  static of(network: Network, tokenizer: ClipTokenizer): TextualInversions {
    const known = TextualInversions.#ofNetworks.get(network);
    if (known !== undefined && known.#tokenizer !== tokenizer && known.#loaded.length > 0) {
      throw expected(
        'the tokenizer that the encoder has its textual inversions with',
        'tokenizer',
        tokenizer,
      );
    }
    if (known !== undefined && known.#tokenizer === tokenizer) return known;
    const fresh = new TextualInversions(network, tokenizer);
    TextualInversions.#ofNetworks.set(network, fresh);
    return fresh;
  }

  /** The tokens to write in prompts. */
  get tokens(): string[] {
    return this.#loaded.map(({ token }) => token);
  }

  /**
   * Adds a token. Vectors beyond the first get the tokens `token_1`, `token_2`, …; a prompt names
   * `token` only.
   *
   * @throws CheckpointError for vectors of another width
   * @throws InvalidArgumentError for a token that the tokenizer has already
   */
  async add(path: string, token: string, vectors: StoredTensor): Promise<void> {
    const inversion = { token, ...(await readVectors(path, vectors, this.#width)) };
    await this.#inTurn(async () => {
      const taken = tokenSequence(inversion.token, Math.max(2, inversion.count));
      const clash = taken.find((name) => this.#tokenizer.tokenId(name) !== undefined);
      if (clash !== undefined) {
        throw expected(
          'a token that the tokenizer does not have yet',
          'token',
          clash,
          'Choose another name with token, or unload the one that has it.',
        );
      }
      await this.#become([...this.#loaded, inversion]);
    });
  }

  /** Forgets tokens; all of them unless named. Without any, the table is the checkpoint's again. */
  async unload(tokens: readonly string[] = this.tokens): Promise<void> {
    await this.#inTurn(async () => {
      await this.#become(this.#loaded.filter(({ token }) => !tokens.includes(token)));
    });
  }

  #inTurn(change: () => Promise<void>): Promise<void> {
    const turn = this.#last.then(change);
    this.#last = turn.catch(() => {});
    return turn;
  }

  /** Gives the tokens consecutive ids behind the tokenizer's own, and the table their rows. */
  async #become(wanted: Inversion[]): Promise<void> {
    const before = this.#loaded;
    this.#setTokens(before, wanted);
    this.#loaded = wanted;
    try {
      await this.#setRows(wanted);
    } catch (error) {
      this.#setTokens(wanted, before);
      this.#loaded = before;
      throw error;
    }
  }

  #setTokens(from: readonly Inversion[], to: readonly Inversion[]): void {
    for (const { token, count } of from) this.#tokenizer.removeTokenSequence(token, count);
    for (const { token, count } of to) this.#tokenizer.addTokenSequence(token, count);
  }

  async #setRows(wanted: readonly Inversion[]): Promise<void> {
    const [first] = wanted;
    if (first === undefined) {
      await this.#network.updateWeights([{ parameter: this.#parameter, terms: [] }]);
      return;
    }
    const parts = wanted.map(({ rows, count }) => Tensor.fromArray(rows, [count, this.#width]));
    try {
      using rows = concat(parts);
      const start = this.#tokenizer.tokenId(first.token) as number;
      await this.#network.replaceRows(this.#parameter, start, rows);
    } finally {
      for (const part of parts) part.dispose();
    }
  }
}
