import { expected } from '../errors.js';
import { Tensor } from '../tensor.js';
import type { Network } from './network.js';
import { numberOr } from './unet.js';

const tokenTable = /(^|\.)token_embedding\.weight$/;

/** CLIP's text model, `CLIPTextModel` or `CLIPTextModelWithProjection`. */
export class TextEncoder {
  /** Shared and counted; the pipeline disposes it. */
  readonly network: Network;
  /** The longest row of tokens it can take. */
  readonly maxPositions: number;
  /** How many layers it has, which `clipSkip` counts from the end. */
  readonly layers: number;
  /** Width of the embedding of a token. */
  readonly width: number;
  /** Width of the embedding of a whole text; undefined where there is no projection. */
  readonly projectionDim: number | undefined;
  /** The parameter with a row for each token. */
  readonly #table: string | undefined;

  constructor(network: Network) {
    this.network = network;
    this.maxPositions = numberOr(network.config.max_position_embeddings, 77);
    this.layers = numberOr(network.config.num_hidden_layers, 12);
    this.width = numberOr(network.config.hidden_size, 512);
    const isProjected = network.className === 'CLIPTextModelWithProjection';
    this.projectionDim = isProjected ? numberOr(network.config.projection_dim, 512) : undefined;
    this.#table = [...network.parameters.keys()].find((name) => tokenTable.test(name));
  }

  /**
   * Embeddings [B,L,D] of token rows of one length: the last layer's output, normalised.
   *
   * @param clipSkip Take the output of the layer so many before the last, normalised all the same.
   */
  async encode(tokens: readonly (readonly number[])[], clipSkip?: number): Promise<Tensor> {
    const output =
      clipSkip === undefined
        ? 'last_hidden_state'
        : `normed_hidden_states.${this.layers - clipSkip}`;
    const [embeddings] = await this.run(tokens, [output]);
    return embeddings as Tensor;
  }

  /**
   * As Stable Diffusion XL reads it: the output [B,L,D] of the layer before the last, not normalised,
   * and the projected embedding [B,P] of the whole text where the encoder has a projection.
   *
   * @param clipSkip Take the output of a layer so many before that one.
   */
  async encodePenultimate(
    tokens: readonly (readonly number[])[],
    clipSkip = 0,
  ): Promise<{ embeddings: Tensor; pooled: Tensor | undefined }> {
    const outputs = [`hidden_states.${this.layers - 1 - clipSkip}`];
    if (this.projectionDim !== undefined) outputs.push('text_embeds');
    const [embeddings, pooled] = await this.run(tokens, outputs);
    return { embeddings: embeddings as Tensor, pooled };
  }

  /**
   * As the x2 upscaler reads it: the last layer's output [B,L,D], not normalised, and the normalised
   * embedding [B,D] of the end of the text.
   */
  async encodeLast(
    tokens: readonly (readonly number[])[],
  ): Promise<{ embeddings: Tensor; pooled: Tensor }> {
    const outputs = [`hidden_states.${this.layers}`, 'pooler_output'];
    const [embeddings, pooled] = await this.run(tokens, outputs);
    return { embeddings: embeddings as Tensor, pooled: pooled as Tensor };
  }

  /**
   * As Kandinsky's prior reads it: the last layer's output [B,L,D], normalised, and the projected
   * embedding [B,P] of the whole text. For encoders with a projection only.
   */
  async encodeProjected(
    tokens: readonly (readonly number[])[],
  ): Promise<{ embeddings: Tensor; projected: Tensor }> {
    const outputs = ['last_hidden_state', 'text_embeds'];
    const [embeddings, projected] = await this.run(tokens, outputs);
    return { embeddings: embeddings as Tensor, projected: projected as Tensor };
  }

  /**
   * Outputs of the program by name: `last_hidden_state`, `hidden_states.N` and
   * `normed_hidden_states.N` [B,L,D] after layer N, `text_embeds` or `pooler_output` [B,P].
   *
   * @param visible Row for row the tokens that others may attend to; all unless given.
   * @throws InvalidArgumentError for a token that the encoder has no embedding for
   */
  async run(
    tokens: readonly (readonly number[])[],
    outputs: readonly string[],
    visible?: readonly (readonly boolean[])[],
  ): Promise<Tensor[]> {
    const shape = [tokens.length, tokens[0]?.length ?? 0];
    const { device } = this.network;
    const flat = tokens.flat();
    this.#checkTokens(flat);
    const ids = BigInt64Array.from(flat, (id) => BigInt(id));
    using onHost = Tensor.fromArray(ids, shape);
    using inputIds = onHost.to({ device });
    const seen = visible?.flat() ?? new Array<boolean>(ids.length).fill(true);
    using maskOnHost = Tensor.fromArray(Uint8Array.from(seen, Number), shape, { dtype: 'bool' });
    using attentionMask = maskOnHost.to({ device });
    const inputs = { input_ids: inputIds, attention_mask: attentionMask };
    return await this.network.run('forward', inputs, outputs);
  }

  #checkTokens(ids: readonly number[]): void {
    const known = this.#table === undefined ? undefined : this.network.rowsOf(this.#table);
    if (known === undefined) return;
    for (const id of ids) {
      if (Number.isInteger(id) && id >= 0 && id < known) continue;
      throw expected(
        `a token id from 0 to ${known - 1}`,
        'tokens',
        id,
        'The text encoder has no embedding for it: take the tokenizer that belongs to the encoder, and load a textual inversion before it is used.',
      );
    }
  }
}
