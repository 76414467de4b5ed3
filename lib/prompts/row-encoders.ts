// Several text encoders side by side, and what an embedding of a whole text is.
import { concat, repeat } from '../ops.js';
import { Scratch } from '../scratch.js';
import type { Tensor } from '../tensor.js';
import { rowLength } from './encode.js';
import { type PromptEncoder, RowEncoder } from './row-encoder.js';

/** Dispose it; the text encoders stay the caller's. */
export class RowEncoders implements Disposable {
  readonly #encoders: readonly RowEncoder[];
  #empty: Tensor | undefined;

  /**
   * @param outputs The output to take of each encoder.
   * @param visiblePadding Whether padding can be attended to, as Stable Diffusion needs.
   */
  constructor(parts: readonly PromptEncoder[], outputs: readonly string[], visiblePadding = true) {
    this.#encoders = parts.map(
      (part, i) => new RowEncoder(part, outputs[i] as string, visiblePadding),
    );
  }

  /** What `embed` makes with each encoder, [1,n·L,D1+D2]; a shorter one is padded. */
  async embed(embed: (encoder: RowEncoder) => Promise<Tensor>): Promise<Tensor> {
    using scratch = new Scratch();
    const parts: Tensor[] = [];
    for (const encoder of this.#encoders) parts.push(scratch.own(await embed(encoder)));
    const longest = longestOf(parts);
    const padded: Tensor[] = [];
    for (const [i, encoder] of this.#encoders.entries()) {
      padded.push(scratch.own(padTo(longest, parts[i] as Tensor, await encoder.empty())));
    }
    return concat(padded, 2);
  }

  /** The embeddings of a prompt without words, [1,L,D1+D2]. They stay this object's own. */
  async empty(): Promise<Tensor> {
    this.#empty ??= await this.embed(async (encoder) => (await encoder.empty()).alias());
    return this.#empty;
  }

  /**
   * Embeddings [B,n·L,D] filled up by those of empty prompts; fresh handles.
   *
   * @param length Of all; that of the longest unless given.
   */
  async padToSameLength(
    tensors: readonly Tensor[],
    length = longestOf(tensors),
  ): Promise<Tensor[]> {
    const [first] = tensors as readonly [Tensor];
    using empty = (await this.empty()).to({ dtype: first.dtype, device: first.device });
    return tensors.map((tensor) => padTo(length, tensor, empty));
  }

  [Symbol.dispose](): void {
    this.#empty?.dispose();
    for (const encoder of this.#encoders) encoder[Symbol.dispose]();
  }
}

export function longestOf(tensors: readonly Tensor[]): number {
  return Math.max(...tensors.map(({ shape }) => shape[1] as number));
}

/** [B,length,D] from [B,n,D]: what is missing is filled with blocks [1,L,D]. */
function padTo(length: number, tensor: Tensor, empty: Tensor): Tensor {
  const [batch = 1, own = 0] = tensor.shape;
  const blocks = (length - own) / (empty.shape[1] as number);
  if (blocks === 0) return tensor.alias();
  using filling = repeat(empty, [batch, blocks, 1]);
  return concat([tensor, filling], 1);
}

/** Embeddings [B,P] of the whole texts in rows of tokens, of all encoders side by side. */
export async function pool(
  parts: readonly PromptEncoder[],
  rowsFor: (part: PromptEncoder) => readonly (readonly number[])[],
): Promise<Tensor> {
  using scratch = new Scratch();
  const pooled: Tensor[] = [];
  for (const part of parts) {
    const [embeddings] = await part.encoder.run(rowsFor(part), ['text_embeds']);
    pooled.push(scratch.own(embeddings as Tensor));
  }
  return concat(pooled, 1);
}

/** The same of texts as they are written. */
export function poolTexts(
  parts: readonly PromptEncoder[],
  texts: readonly string[],
): Promise<Tensor> {
  return pool(parts, ({ tokenizer, encoder }) => {
    const { inputIds } = tokenizer.encode(texts, { maxLength: rowLength(tokenizer, encoder) });
    return inputIds;
  });
}
