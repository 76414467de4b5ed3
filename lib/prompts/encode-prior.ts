// Texts to what Kandinsky's prior is told of them, as KandinskyV22PriorPipeline does it.
import type { PriorConditions } from '../networks/prior.js';
import type { TextEncoder } from '../networks/text-encoder.js';
import { repeatInterleave } from '../ops.js';
import { Tensor } from '../tensor.js';
import type { ClipTokenizer } from '../tokenizer/index.js';
import { rowLength } from './encode.js';

/** Conditions [B·K,…] with each text's K copies side by side; the caller disposes them. */
export async function encodeForPrior(
  tokenizer: ClipTokenizer,
  encoder: TextEncoder,
  texts: readonly string[],
  copies: number,
): Promise<PriorConditions> {
  const maxLength = rowLength(tokenizer, encoder);
  const { inputIds, attentionMask } = tokenizer.encode(texts, { maxLength });
  const { embeddings, projected } = await encoder.encodeProjected(inputIds);
  using hidden = embeddings;
  using pooled = projected;
  using onHost = Tensor.fromArray(Float32Array.from(attentionMask.flat()), [
    texts.length,
    maxLength,
  ]);
  const { dtype, device } = encoder.network;
  using mask = onHost.to({ dtype, device });
  return {
    projEmbedding: repeatInterleave(pooled, copies),
    encoderHiddenStates: repeatInterleave(hidden, copies),
    attentionMask: repeatInterleave(mask, copies),
  };
}
