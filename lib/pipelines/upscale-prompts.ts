// The texts of the x2 upscaler, or embeddings in their place.
import { expectedShape, InvalidArgumentError } from '../errors.js';
import type { TextEncoder } from '../networks/text-encoder.js';
import {
  checkAtMostOne,
  checkExactlyOne,
  checkPrompt,
  checkTensor,
  checkTexts,
} from '../options.js';
import type { Tensor } from '../tensor.js';

export interface UpscaleTextOptions {
  /** What the picture shows; one for all, or one per picture. The empty text will do. */
  prompt?: string | readonly string[];
  /** What it should not show. Needs guidance above 1; 9 by default. */
  negativePrompt?: string | readonly string[];
  /** Embeddings [B,L,D] instead of `prompt`, with `pooledPromptEmbeds` [B,D]. Not disposed. */
  promptEmbeds?: Tensor;
  /** Embeddings of the whole texts, [B,D], with `promptEmbeds`. Not disposed. */
  pooledPromptEmbeds?: Tensor;
  /**
   * Embeddings [B,L,D] instead of `negativePrompt`, with `negativePooledPromptEmbeds`. Not
   * disposed.
   */
  negativePromptEmbeds?: Tensor;
  /** Embeddings of the whole negative texts, [B,D]. Not disposed. */
  negativePooledPromptEmbeds?: Tensor;
}

export const upscaleTextOptionNames = [
  'prompt',
  'negativePrompt',
  'promptEmbeds',
  'pooledPromptEmbeds',
  'negativePromptEmbeds',
  'negativePooledPromptEmbeds',
];

export interface TextEmbeddings {
  /** [B,L,D] */
  tokens: Tensor;
  /** [B,D] */
  pooled: Tensor;
}

/** One text or one row for each picture. */
export interface UpscalePrompts {
  count: number;
  positive: readonly string[] | TextEmbeddings;
  /** Undefined without guidance. */
  negative: readonly string[] | TextEmbeddings | undefined;
}

/** @throws InvalidArgumentError */
export function checkUpscalePrompts(
  options: UpscaleTextOptions,
  guidanceScale: number,
  encoder: TextEncoder,
): UpscalePrompts {
  const { prompt, promptEmbeds, negativePrompt, negativePromptEmbeds } = options;
  checkExactlyOne({ prompt, promptEmbeds });
  checkAtMostOne({ negativePrompt, negativePromptEmbeds });
  const embeddings = checkPair(options, ['promptEmbeds', 'pooledPromptEmbeds'], [], encoder);
  const texts = embeddings === undefined ? checkPrompt(prompt, 'prompt') : [];
  const count = embeddings?.tokens.shape[0] ?? texts.length;
  const wanted = embeddings === undefined ? [count] : [count, embeddings.tokens.shape[1]];
  const names = ['negativePromptEmbeds', 'negativePooledPromptEmbeds'] as const;
  const negative =
    checkPair(options, names, wanted, encoder) ??
    checkTexts(negativePrompt ?? '', 'negativePrompt', count);
  return {
    count,
    // A scale of exactly 0 is diffusers' way of saying that no text counts.
    positive: embeddings ?? (guidanceScale === 0 ? texts.map(() => '') : texts),
    negative: guidanceScale > 1 ? negative : undefined,
  };
}

type PairNames = readonly [keyof UpscaleTextOptions, keyof UpscaleTextOptions];

/** Both or neither. @param wanted Rows and length they must have, as far as that is decided. */
function checkPair(
  options: UpscaleTextOptions,
  [tokenName, pooledName]: PairNames,
  [rows, length]: readonly (number | undefined)[],
  { width }: TextEncoder,
): TextEmbeddings | undefined {
  const [tokens, pooled] = [options[tokenName], options[pooledName]];
  if (tokens === undefined && pooled === undefined) return undefined;
  if (tokens === undefined || pooled === undefined) {
    const missing = tokens === undefined ? tokenName : pooledName;
    throw new InvalidArgumentError(
      `Expected ${tokenName} and ${pooledName}; ${missing} is missing.`,
    );
  }
  const checked = checkTensor(tokens, tokenName, 3);
  const [b = rows, l = length] = [rows ?? checked.shape[0], length ?? checked.shape[1]];
  for (const [name, tensor, shape] of [
    [tokenName, checked, [b, l, width]],
    [pooledName, checkTensor(pooled, pooledName, 2), [b, width]],
  ] as const) {
    if (tensor.size > 0 && tensor.shape.join() === shape.join()) continue;
    throw expectedShape(`[${shape.join(', ')}]`, name, tensor.shape);
  }
  return { tokens: checked, pooled: pooled as Tensor };
}
