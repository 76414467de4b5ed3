// Text encoders at work on rows of weighted tokens.
import type { TextEncoder } from '../networks/text-encoder.js';
import { concat } from '../ops.js';
import { Scratch } from '../scratch.js';
import type { Tensor } from '../tensor.js';
import type { ClipTokenizer } from '../tokenizer/index.js';
import { rowLength } from './encode.js';

/** A text encoder with the tokenizer it was trained with. */
export interface PromptEncoder {
  tokenizer: ClipTokenizer;
  encoder: TextEncoder;
}

export const returnedEmbeddingsTypes = [
  'lastHiddenStatesNormalized',
  'penultimateHiddenStatesNormalized',
  'penultimateHiddenStatesNonNormalized',
] as const;

/** Which of an encoder's outputs are the embeddings; Compel's names. */
export type ReturnedEmbeddingsType = (typeof returnedEmbeddingsTypes)[number];

/** A row as a text encoder takes it: begin token, tokens, end token, padding. */
export interface TokenRow {
  ids: readonly number[];
  weights: readonly number[];
  /** Whether others may attend to a token. */
  visible: readonly boolean[];
}

/** A token of a prompt. */
export interface WeightedToken {
  id: number;
  weight: number;
}

/** Makes rows for a text encoder. */
export class RowMaker {
  readonly tokenizer: ClipTokenizer;
  /** Tokens of a row. */
  readonly length: number;
  /** Tokens of a row without the begin and the end token. */
  readonly room: number;
  readonly #visiblePadding: boolean;

  /** @param visiblePadding Whether padding can be attended to, as Stable Diffusion needs. */
  constructor({ tokenizer, encoder }: PromptEncoder, visiblePadding = true) {
    this.tokenizer = tokenizer;
    this.length = rowLength(tokenizer, encoder);
    this.room = this.length - 2;
    this.#visiblePadding = visiblePadding;
  }

  /** The row of up to `room` tokens. */
  row(tokens: readonly WeightedToken[]): TokenRow {
    const { bosTokenId, eosTokenId, padTokenId } = this.tokenizer;
    const ids = [bosTokenId, ...tokens.map(({ id }) => id), eosTokenId];
    const weights = [1, ...tokens.map(({ weight }) => weight), 1];
    const padding = this.length - ids.length;
    return {
      ids: [...ids, ...new Array<number>(padding).fill(padTokenId)],
      weights: [...weights, ...new Array<number>(padding).fill(1)],
      visible: Array.from(
        { length: this.length },
        (_, i) => this.#visiblePadding || i < ids.length,
      ),
    };
  }
}

/** More rows at once take more memory, and are hardly quicker. */
const rowsAtOnce = 16;

/** One output of one text encoder, in float32. Dispose it; the encoder stays the caller's. */
export class RowEncoder extends RowMaker implements Disposable {
  readonly #encoder: TextEncoder;
  readonly #output: string;
  readonly #isOrigin: boolean;
  #empty: Tensor | undefined;
  #origin: Tensor | undefined;

  /** @param output A name that `TextEncoder.run` knows. */
  constructor(part: PromptEncoder, output: string, visiblePadding: boolean) {
    super(part, visiblePadding);
    this.#encoder = part.encoder;
    this.#output = output;
    this.#isOrigin = visiblePadding;
  }

  /** What the encoder makes of rows, [R,L,D]; weights play no part. */
  async run(rows: readonly TokenRow[]): Promise<Tensor> {
    using scratch = new Scratch();
    const batches: Tensor[] = [];
    for (let start = 0; start < rows.length; start += rowsAtOnce) {
      const batch = rows.slice(start, start + rowsAtOnce);
      const [made] = await this.#encoder.run(
        batch.map(({ ids }) => ids),
        [this.#output],
        batch.map(({ visible }) => visible),
      );
      const embeddings = scratch.own(made as Tensor);
      batches.push(scratch.own(embeddings.to({ dtype: 'float32' })));
    }
    return concat(batches);
  }

  /** The embeddings of a prompt without words, [1,L,D]. They stay this object's own. */
  async empty(): Promise<Tensor> {
    this.#empty ??= await this.run([this.row([])]);
    return this.#empty;
  }

  /** What weights are counted from, [1,L,D]: the same with all tokens visible. */
  async origin(): Promise<Tensor> {
    if (this.#isOrigin) return this.empty();
    this.#origin ??= await this.run([allVisible(this.row([]))]);
    return this.#origin;
  }

  [Symbol.dispose](): void {
    this.#empty?.dispose();
    this.#origin?.dispose();
  }
}

export function allVisible(row: TokenRow): TokenRow {
  return { ...row, visible: row.visible.map(() => true) };
}

export function outputName(encoder: TextEncoder, type: ReturnedEmbeddingsType): string {
  const before = encoder.layers - 1;
  if (type === 'lastHiddenStatesNormalized') return 'last_hidden_state';
  if (type === 'penultimateHiddenStatesNormalized') return `normed_hidden_states.${before}`;
  return `hidden_states.${before}`;
}
