// Prompts to embeddings as StableDiffusionXLPipeline.encode_prompt does it: with two text encoders,
// or with the refiner's one.
import { concat, full, repeatInterleave } from '../ops.js';
import type { Tensor } from '../tensor.js';
import { rowLength, warnOfTruncation } from './encode.js';
import type { PromptEncoder } from './row-encoder.js';
import type { Weighting } from './weighted-prompts.js';

export interface XLPromptOptions {
  /** For each encoder one text per picture of the batch; undefined where embeddings are given. */
  prompts: readonly (readonly string[])[] | undefined;
  /** Likewise; undefined for embeddings of zeros. */
  negativePrompts: readonly (readonly string[])[] | undefined;
  embeddings: XLEmbeddings | undefined;
  negativeEmbeddings: XLEmbeddings | undefined;
  /** Whether an unconditional half is needed. */
  guided: boolean;
  numImagesPerPrompt: number;
  clipSkip: number | undefined;
  /** The syntax the texts are in; undefined where they have none. */
  weighting: Weighting | undefined;
}

/** Embeddings of the tokens [B,L,D], those of all encoders side by side, and of the text, [B,P]. */
export type XLEmbeddings = Record<'promptEmbeds' | 'textEmbeds', Tensor>;

/** Each prompt's K copies side by side; the caller disposes them. */
export async function encodePromptsXL(
  encoders: readonly PromptEncoder[],
  options: XLPromptOptions,
): Promise<{ positive: XLEmbeddings; negative: XLEmbeddings | undefined }> {
  const { prompts, embeddings, numImagesPerPrompt: copies } = options;
  for (const [i, { tokenizer, encoder }] of encoders.entries()) {
    warnOfTruncation(tokenizer, prompts?.[i] ?? [], rowLength(tokenizer, encoder));
  }
  const once =
    embeddings === undefined
      ? await encodeWithAll(encoders, prompts ?? [], options.clipSkip)
      : placed(embeddings, encoders);
  try {
    const negativeOnce = options.guided ? await negativeOf(encoders, options, once) : undefined;
    const positive = repeated(once, copies);
    const negative = negativeOnce && repeated(negativeOnce, copies);
    if (negativeOnce !== undefined) dispose(negativeOnce);
    return { positive, negative };
  } finally {
    dispose(once);
  }
}

async function negativeOf(
  encoders: readonly PromptEncoder[],
  { negativePrompts, negativeEmbeddings }: XLPromptOptions,
  positive: XLEmbeddings,
): Promise<XLEmbeddings> {
  if (negativeEmbeddings !== undefined) return placed(negativeEmbeddings, encoders);
  if (negativePrompts !== undefined) {
    const length = positive.promptEmbeds.shape[1];
    return encodeWithAll(encoders, negativePrompts, undefined, length);
  }
  return {
    promptEmbeds: zerosLike(positive.promptEmbeds),
    textEmbeds: zerosLike(positive.textEmbeds),
  };
}

async function encodeWithAll(
  encoders: readonly PromptEncoder[],
  prompts: readonly (readonly string[])[],
  clipSkip: number | undefined,
  length?: number,
): Promise<XLEmbeddings> {
  const parts: Tensor[] = [];
  let textEmbeds: Tensor | undefined;
  try {
    for (const [i, { tokenizer, encoder }] of encoders.entries()) {
      const maxLength = length ?? rowLength(tokenizer, encoder);
      const { inputIds } = tokenizer.encode(prompts[i] ?? [], { maxLength });
      const { embeddings, pooled } = await encoder.encodePenultimate(inputIds, clipSkip);
      parts.push(embeddings);
      textEmbeds ??= pooled;
    }
    return { promptEmbeds: concat(parts, 2), textEmbeds: textEmbeds as Tensor };
  } catch (error) {
    textEmbeds?.dispose();
    throw error;
  } finally {
    for (const part of parts) part.dispose();
  }
}

function placed(
  { promptEmbeds, textEmbeds }: XLEmbeddings,
  [first]: readonly PromptEncoder[],
): XLEmbeddings {
  const { dtype, device } = (first as PromptEncoder).encoder.network;
  return {
    promptEmbeds: promptEmbeds.to({ dtype, device }),
    textEmbeds: textEmbeds.to({ dtype, device }),
  };
}

function repeated({ promptEmbeds, textEmbeds }: XLEmbeddings, times: number): XLEmbeddings {
  return {
    promptEmbeds: repeatInterleave(promptEmbeds, times),
    textEmbeds: repeatInterleave(textEmbeds, times),
  };
}

export function zerosLike({ shape, dtype, device }: Tensor): Tensor {
  return full(shape, 0, { dtype, device });
}

function dispose({ promptEmbeds, textEmbeds }: XLEmbeddings): void {
  promptEmbeds.dispose();
  textEmbeds.dispose();
}
