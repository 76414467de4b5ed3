import { full } from '../ops.js';
import type { Tensor } from '../tensor.js';
import type { Network } from './network.js';
import { numberOr } from './unet.js';

/** What the prior is told of the text. */
export interface PriorConditions {
  /** The text encoder's projected embedding, [B,D]. */
  projEmbedding: Tensor;
  /** The text encoder's last hidden states, [B,L,D]. */
  encoderHiddenStates: Tensor;
  /** 1 for tokens of the text and 0 for padding, [B,L], in the network's dtype. */
  attentionMask: Tensor;
}

/** Predicts the embedding of a picture from a text's, `PriorTransformer`. */
export class Prior {
  /** Shared and counted; the pipeline disposes it. */
  readonly network: Network;
  /** D, the width of the embeddings. */
  readonly embeddingDim: number;
  /** L, the number of text tokens: exactly so many are taken. */
  readonly maxTokens: number;

  constructor(network: Network) {
    this.network = network;
    this.embeddingDim = numberOr(network.config.embedding_dim, 768);
    this.maxTokens = numberOr(network.config.num_embeddings, 77);
  }

  /**
   * The predicted embedding, [B,D], normalised.
   *
   * @param sample Noisy normalised embeddings [B,D].
   * @param timestep One for the whole batch.
   */
  async predict(sample: Tensor, timestep: number, conditions: PriorConditions): Promise<Tensor> {
    using time = full([1], timestep, { device: sample.device });
    const inputs = {
      hidden_states: sample,
      timestep: time,
      proj_embedding: conditions.projEmbedding,
      encoder_hidden_states: conditions.encoderHiddenStates,
      attention_mask: conditions.attentionMask,
    };
    const [prediction] = await this.network.runTogether('forward', inputs, [
      'predicted_image_embedding',
    ]);
    return prediction as Tensor;
  }

  /** Embeddings [B,D] as the decoder takes them, of normalised ones: x·σ + μ, both learned. */
  async denormalize(latents: Tensor): Promise<Tensor> {
    const [embeddings] = await this.network.run('denormalize', { latents }, ['image_embeds']);
    return embeddings as Tensor;
  }
}
