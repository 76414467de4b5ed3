// Prompts to embeddings, as StableDiffusionPipeline.encode_prompt does it.
import { InvalidArgumentError } from '../errors.js';
import type { TextEncoder } from '../networks/text-encoder.js';
import { repeatInterleave } from '../ops.js';
import type { Tensor } from '../tensor.js';
import type { ClipTokenizer } from '../tokenizer/index.js';
import type { Weighting } from './weighted-prompts.js';

export interface PromptOptions {
  /** One prompt per picture of the batch; undefined where embeddings are given. */
  prompts: readonly string[] | undefined;
  negativePrompts: readonly string[] | undefined;
  promptEmbeds: Tensor | undefined;
  negativePromptEmbeds: Tensor | undefined;
  /** Whether an unconditional half is needed. */
  guided: boolean;
  numImagesPerPrompt: number;
  clipSkip: number | undefined;
  /** The syntax the texts are in; undefined where they have none. */
  weighting: Weighting | undefined;
}

/** Length of a row of tokens: what the tokenizer says, or the encoder where it says nothing. */
export function rowLength(tokenizer: ClipTokenizer, encoder: TextEncoder): number {
  return Math.min(tokenizer.modelMaxLength, encoder.maxPositions);
}

/** Embeddings of the prompts and, where guidance needs them, of their negatives; each [B·K,L,D]. */
export interface EncodedPrompts {
  positive: Tensor;
  negative: Tensor | undefined;
}

/**
 * Embeddings with each prompt's K copies side by side; the caller disposes them. The negative prompt
 * always uses the last layer; `clipSkip` is for the prompt.
 */
export async function encodePrompts(
  tokenizer: ClipTokenizer,
  encoder: TextEncoder,
  options: PromptOptions,
): Promise<EncodedPrompts> {
  using once = await positiveEmbeddings(tokenizer, encoder, options);
  using negativeOnce = options.guided
    ? await negativeEmbeddings(tokenizer, encoder, options, once)
    : undefined;
  const copies = options.numImagesPerPrompt;
  return {
    positive: repeatInterleave(once, copies),
    negative: negativeOnce && repeatInterleave(negativeOnce, copies),
  };
}

async function positiveEmbeddings(
  tokenizer: ClipTokenizer,
  encoder: TextEncoder,
  { prompts, promptEmbeds, clipSkip }: PromptOptions,
): Promise<Tensor> {
  if (promptEmbeds !== undefined) return placed(promptEmbeds, encoder);
  const texts = prompts ?? [];
  const maxLength = rowLength(tokenizer, encoder);
  warnOfTruncation(tokenizer, texts, maxLength);
  const { inputIds } = tokenizer.encode(texts, { maxLength });
  return encoder.encode(inputIds, clipSkip);
}

async function negativeEmbeddings(
  tokenizer: ClipTokenizer,
  encoder: TextEncoder,
  { negativePrompts, negativePromptEmbeds }: PromptOptions,
  positive: Tensor,
): Promise<Tensor> {
  if (negativePromptEmbeds !== undefined) return placed(negativePromptEmbeds, encoder);
  const [batch = 1, length = 0] = positive.shape;
  const texts = negativePrompts ?? Array.from({ length: batch }, () => '');
  const { inputIds } = tokenizer.encode(texts, { maxLength: length });
  return encoder.encode(inputIds);
}

/**
 * Embeddings longer than the encoder can make need negative ones of their own. Checked before any
 * network runs.
 */
export function checkEmbeddingLength(
  options: PromptOptions,
  tokenizer: ClipTokenizer,
  encoder: TextEncoder,
): void {
  const length = options.promptEmbeds?.shape[1];
  if (length === undefined || !options.guided || options.negativePromptEmbeds !== undefined) return;
  if (length <= encoder.maxPositions) return;
  throw new InvalidArgumentError(
    `promptEmbeds has ${length} tokens, and a text encoder of ${rowLength(tokenizer, encoder)} cannot make a negative prompt of that length. Pass negativePromptEmbeds too.`,
  );
}

export function placed(embeddings: Tensor, encoder: TextEncoder): Tensor {
  const { dtype, device } = encoder.network;
  return embeddings.to({ dtype, device });
}

export function warnOfTruncation(
  tokenizer: ClipTokenizer,
  texts: readonly string[],
  maxLength: number,
): void {
  for (const text of texts) {
    const ids = tokenizer.tokenize(text);
    const room = maxLength - 2;
    if (ids.length <= room) continue;
    const lost = tokenizer.decode(ids.slice(room, room + 100));
    process.emitWarning(
      `The text encoder takes ${room} tokens, so this part of the prompt was cut off: "${lost}${ids.length > room + 100 ? ' …' : ''}"`,
      { code: 'TORCHBRUSH_PROMPT_TRUNCATED' },
    );
  }
}
