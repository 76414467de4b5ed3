// The prompts of a generation in a syntax with weights.
import { InvalidArgumentError } from '../errors.js';
import type { TextEncoder } from '../networks/text-encoder.js';
import { concat, repeatInterleave } from '../ops.js';
import { checkChoice } from '../options.js';
import { Scratch } from '../scratch.js';
import type { Tensor } from '../tensor.js';
import type { ClipTokenizer } from '../tokenizer/index.js';
import { embedA1111, firstRow } from './a1111-embedding.js';
import { parseA1111 } from './a1111-syntax.js';
import { compelDefaults, embedCompel } from './compel-embedding.js';
import { parseCompel } from './compel-syntax.js';
import { type EncodedPrompts, type PromptOptions, rowLength } from './encode.js';
import { type XLEmbeddings, type XLPromptOptions, zerosLike } from './encode-xl.js';
import type { PromptEncoder } from './row-encoder.js';
import { longestOf, pool, RowEncoders } from './row-encoders.js';

/** How the words of a prompt are given weights: `docs/prompt-weighting.md`. */
export type Weighting = 'compel' | 'a1111';

const weightings: readonly Weighting[] = ['compel', 'a1111'];

/** Prompts, and which output of each encoder to take for them. */
export interface WeightedPrompts {
  texts: readonly string[];
  /** Names that `TextEncoder.run` knows, one for each encoder. */
  outputs: readonly string[];
}

export interface WeightedEmbeddings {
  /** [B,L,D], those of all encoders side by side, in their dtype. */
  promptEmbeds: Tensor;
  /** [B,P] of the encoders with a projection; undefined where there is none. */
  textEmbeds: Tensor | undefined;
}

/**
 * Embeddings of prompts and of their negatives, of one length. The caller disposes them.
 *
 * @throws PromptSyntaxError `ERR_PROMPT_SYNTAX`, before any network runs
 */
export async function encodeWeighted(
  weighting: Weighting,
  encoders: readonly PromptEncoder[],
  positive: WeightedPrompts,
  negative: WeightedPrompts | undefined,
): Promise<{ positive: WeightedEmbeddings; negative: WeightedEmbeddings | undefined }> {
  using ours = new Side(weighting, encoders, positive);
  using theirs = negative && new Side(weighting, encoders, negative);
  await ours.embed();
  await theirs?.embed();
  const length = Math.max(ours.length, theirs?.length ?? 0);
  const made = await ours.finish(length);
  try {
    return { positive: made, negative: await theirs?.finish(length) };
  } catch (error) {
    made.promptEmbeds.dispose();
    made.textEmbeds?.dispose();
    throw error;
  }
}

/** The same for pipelines with one text encoder. */
export async function encodeWeightedPrompts(
  tokenizer: ClipTokenizer,
  encoder: TextEncoder,
  options: PromptOptions,
): Promise<EncodedPrompts> {
  const { prompts = [], guided, clipSkip, numImagesPerPrompt } = options;
  const negative = options.negativePrompts ?? prompts.map(() => '');
  const skipped = `normed_hidden_states.${encoder.layers - (clipSkip ?? 0)}`;
  const once = await encodeWeighted(
    options.weighting as Weighting,
    [{ tokenizer, encoder }],
    { texts: prompts, outputs: [clipSkip === undefined ? 'last_hidden_state' : skipped] },
    guided ? { texts: negative, outputs: ['last_hidden_state'] } : undefined,
  );
  using scratch = new Scratch();
  const repeated = (side: WeightedEmbeddings) => {
    if (side.textEmbeds !== undefined) scratch.own(side.textEmbeds);
    return repeatInterleave(scratch.own(side.promptEmbeds), numImagesPerPrompt);
  };
  return { positive: repeated(once.positive), negative: once.negative && repeated(once.negative) };
}

/** The same for Stable Diffusion XL. */
export async function encodeWeightedXL(
  encoders: readonly PromptEncoder[],
  options: XLPromptOptions,
): Promise<{ positive: XLEmbeddings; negative: XLEmbeddings | undefined }> {
  const { prompts = [], negativePrompts, clipSkip = 0 } = options;
  const outputs = (skip: number) =>
    encoders.map(({ encoder }) => `hidden_states.${encoder.layers - 1 - skip}`);
  const once = await encodeWeighted(
    options.weighting as Weighting,
    encoders,
    { texts: prompts[0] ?? [], outputs: outputs(clipSkip) },
    options.guided && negativePrompts !== undefined
      ? { texts: negativePrompts[0] ?? [], outputs: outputs(0) }
      : undefined,
  );
  using scratch = new Scratch();
  const copies = (tensor: Tensor) =>
    repeatInterleave(scratch.own(tensor), options.numImagesPerPrompt);
  const repeated = ({ promptEmbeds, textEmbeds }: WeightedEmbeddings): XLEmbeddings => ({
    promptEmbeds: copies(promptEmbeds),
    textEmbeds: copies(textEmbeds as Tensor),
  });
  const positive = repeated(once.positive);
  if (!options.guided) return { positive, negative: undefined };
  const negative =
    once.negative === undefined
      ? {
          promptEmbeds: zerosLike(positive.promptEmbeds),
          textEmbeds: zerosLike(positive.textEmbeds),
        }
      : repeated(once.negative);
  return { positive, negative };
}

/** What a weighting cannot go together with: it is for texts, of which all encoders read the same. */
const textsOnly = [
  'promptEmbeds',
  'negativePromptEmbeds',
  'pooledPromptEmbeds',
  'negativePooledPromptEmbeds',
  'prompt2',
  'negativePrompt2',
];

/** @throws InvalidArgumentError */
export function checkWeighting(options: { weighting?: unknown }): Weighting | undefined {
  const { weighting } = options;
  if (weighting === undefined || weighting === null) return undefined;
  const given = options as Readonly<Record<string, unknown>>;
  const other = textsOnly.find((name) => given[name] !== undefined);
  if (other !== undefined) {
    throw new InvalidArgumentError(
      `Expected one of weighting and ${other} but received both. Make embeddings with Compel.`,
    );
  }
  return checkChoice(weighting, 'weighting', weightings);
}

/** A prompt that has been read. */
interface Reading {
  embed(encoders: RowEncoders): Promise<Tensor>;
  /** What stands for the whole text in the eyes of an encoder. */
  row(part: PromptEncoder): readonly number[];
}

const readers: Readonly<Record<Weighting, (text: string) => Reading>> = {
  compel: (text) => {
    const prompt = parseCompel(text);
    return {
      embed: (encoders) => embedCompel(encoders, prompt, compelDefaults),
      row: ({ tokenizer, encoder }) => {
        const { inputIds } = tokenizer.encode([text], { maxLength: rowLength(tokenizer, encoder) });
        return inputIds[0] as number[];
      },
    };
  },
  a1111: (text) => {
    const parts = parseA1111(text);
    return {
      embed: (encoders) => embedA1111(encoders, parts),
      row: (part) => firstRow(part, parts),
    };
  },
};

/** The prompts of one side of the guidance. */
class Side implements Disposable {
  readonly #encoders: readonly PromptEncoder[];
  readonly #readings: readonly Reading[];
  readonly #rows: RowEncoders;
  readonly #scratch = new Scratch();
  readonly #embedded: Tensor[] = [];

  constructor(weighting: Weighting, encoders: readonly PromptEncoder[], prompts: WeightedPrompts) {
    this.#encoders = encoders;
    this.#readings = prompts.texts.map(readers[weighting]);
    this.#rows = new RowEncoders(encoders, prompts.outputs);
  }

  async embed(): Promise<void> {
    for (const reading of this.#readings) {
      this.#embedded.push(this.#scratch.own(await reading.embed(this.#rows)));
    }
  }

  /** Tokens of the longest prompt. */
  get length(): number {
    return longestOf(this.#embedded);
  }

  async finish(length: number): Promise<WeightedEmbeddings> {
    const padded = await this.#rows.padToSameLength(this.#embedded, length);
    for (const tensor of padded) this.#scratch.own(tensor);
    const pooling = this.#encoders.filter(({ encoder }) => encoder.projectionDim !== undefined);
    const rowsFor = (part: PromptEncoder) => this.#readings.map((reading) => reading.row(part));
    const textEmbeds = pooling.length > 0 ? await pool(pooling, rowsFor) : undefined;
    const { dtype } = (this.#encoders[0] as PromptEncoder).encoder.network;
    using promptEmbeds = concat(padded);
    return { promptEmbeds: promptEmbeds.to({ dtype }), textEmbeds };
  }

  [Symbol.dispose](): void {
    this.#rows[Symbol.dispose]();
    this.#scratch[Symbol.dispose]();
  }
}
