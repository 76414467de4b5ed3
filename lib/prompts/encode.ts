// Prompts to embeddings, as StableDiffusionPipeline.encode_prompt does it.
import { InvalidArgumentError } from '../errors.js';
import type { TextEncoder } from '../networks/text-encoder.js';
import { concat, repeatInterleave } from '../ops.js';
import type { Tensor } from '../tensor.js';
import type { ClipTokenizer } from '../tokenizer/index.js';

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
}

/** Length of a row of tokens: what the tokenizer says, or the encoder where it says nothing. */
export function rowLength(tokenizer: ClipTokenizer, encoder: TextEncoder): number {
  return Math.min(tokenizer.modelMaxLength, encoder.maxPositions);
}

/**
 * Embeddings [B·K,L,D] (prompt 0's copies first), or [2·B·K,L,D] with the negative half first. The
 * negative prompt always uses the last layer; `clipSkip` is for the prompt.
 */
export async function encodePrompts(
  tokenizer: ClipTokenizer,
  encoder: TextEncoder,
  options: PromptOptions,
): Promise<Tensor> {
  using positive = await positiveEmbeddings(tokenizer, encoder, options);
  using expanded = repeatInterleave(positive, options.numImagesPerPrompt);
  if (!options.guided) return expanded.alias();
  using negative = await negativeEmbeddings(tokenizer, encoder, options, positive);
  using expandedNegative = repeatInterleave(negative, options.numImagesPerPrompt);
  return concat([expandedNegative, expanded]);
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

function placed(embeddings: Tensor, encoder: TextEncoder): Tensor {
  const { dtype, device } = encoder.network;
  return embeddings.to({ dtype, device });
}

function warnOfTruncation(
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
