import { Tensor } from '../tensor.js';
import type { Network } from './network.js';
import { numberOr } from './unet.js';

/** CLIP's text model, `CLIPTextModel`. */
export class TextEncoder {
  readonly network: Network;
  /** The longest row of tokens it can take. */
  readonly maxPositions: number;
  readonly layers: number;

  constructor(network: Network) {
    this.network = network;
    this.maxPositions = numberOr(network.config.max_position_embeddings, 77);
    this.layers = numberOr(network.config.num_hidden_layers, 12);
  }

  /**
   * Embeddings [B,L,D] of token rows of one length: the last layer's output, normalised.
   *
   * @param clipSkip Take the output of the layer so many before the last, normalised all the same.
   */
  async encode(tokens: readonly (readonly number[])[], clipSkip?: number): Promise<Tensor> {
    const length = tokens[0]?.length ?? 0;
    const ids = BigInt64Array.from(tokens.flat(), (id) => BigInt(id));
    using onHost = Tensor.fromArray(ids, [tokens.length, length]);
    using inputIds = onHost.to({ device: this.network.device });
    const output =
      clipSkip === undefined
        ? 'last_hidden_state'
        : `normed_hidden_states.${this.layers - clipSkip}`;
    const [embeddings] = await this.network.run('forward', { input_ids: inputIds }, [output]);
    return embeddings as Tensor;
  }
}
