import { expected, expectedShape } from '../errors.js';
import { TextEncoder } from '../networks/text-encoder.js';
import { concat } from '../ops.js';
import {
  checkBoolean,
  checkChoice,
  checkKnownOptions,
  checkPrompt,
  checkTensor,
} from '../options.js';
import { Scratch } from '../scratch.js';
import type { Tensor } from '../tensor.js';
import { ClipTokenizer } from '../tokenizer/index.js';
import {
  type CompelSettings,
  compelDefaults,
  type DownweightMode,
  embedCompel,
} from './compel-embedding.js';
import { parseCompel } from './compel-syntax.js';
import type { CompelPrompt } from './compel-tree.js';
import {
  outputName,
  type PromptEncoder,
  type ReturnedEmbeddingsType,
  returnedEmbeddingsTypes,
} from './row-encoder.js';
import { poolTexts, RowEncoders } from './row-encoders.js';

/** How prompts become embeddings; Compel's names and defaults. */
export interface CompelEncodingOptions {
  /** Cuts prompts to what the text encoder takes at once (true); otherwise they may be longer. */
  truncateLongPrompts?: boolean;
  /** Whether tokens attend to padding: 1 (default), as Stable Diffusion needs, or 0. */
  paddingAttentionMaskValue?: 0 | 1;
  /**
   * How words with a weight below 1 are left out of what is mixed in: hidden from attention
   * (`'mask'`, default), or taken out, so that later words move up (`'remove'`).
   */
  downweightMode?: DownweightMode;
  /** Which output of the text encoder to take, or of each. */
  returnedEmbeddingsType?: ReturnedEmbeddingsType | readonly ReturnedEmbeddingsType[];
}

type OneOrMore<Part> = Part | readonly Part[];

/** What `new Compel` takes. */
export interface CompelOptions<Pooled extends boolean | readonly boolean[]>
  extends CompelEncodingOptions {
  /** One, or one for each text encoder. */
  tokenizer: OneOrMore<ClipTokenizer>;
  /** As many as there are tokenizers. */
  textEncoder: OneOrMore<TextEncoder>;
  /** Whether, or of which encoders, the embedding of the whole text is wanted; false. */
  requiresPooled?: Pooled;
}

/** What Stable Diffusion XL takes: both are options of `generate()`. */
export interface PooledEmbeddings extends Record<'promptEmbeds' | 'pooledPromptEmbeds', Tensor> {}

type Encoded<Pooled> = Pooled extends false ? Tensor : PooledEmbeddings;

/** The parts of a pipeline that encode prompts. */
export interface PromptComponents {
  tokenizer?: ClipTokenizer | undefined;
  textEncoder?: TextEncoder | undefined;
  tokenizer2?: ClipTokenizer | undefined;
  textEncoder2?: TextEncoder | undefined;
}

type PooledOf<Components> = 'textEncoder2' extends keyof Components
  ? Components extends { textEncoder2: TextEncoder }
    ? true
    : boolean
  : false;

const encodingOptionNames = [
  'truncateLongPrompts',
  'paddingAttentionMaskValue',
  'downweightMode',
  'returnedEmbeddingsType',
];

/**
 * Weighted prompts in the syntax of the Python package Compel 2.0, with its numbers:
 * `a (red fox)1.3 asleep, blurry--`, `("a fox", "a wolf").blend(0.7, 0.3)`.
 *
 * It works with a pipeline's own text encoders and holds nothing that needs disposing.
 *
 * ```ts
 * const compel = Compel.fromPipe(pipe);
 * using promptEmbeds = await compel.encode('a red cat playing with a (ball)1.5');
 * const { images } = await pipe.generate({ promptEmbeds, image });
 * ```
 */
export class Compel<Pooled extends boolean | readonly boolean[] = false> {
  readonly #encoders: readonly PromptEncoder[];
  readonly #outputs: readonly string[];
  readonly #pooling: readonly PromptEncoder[];
  readonly #settings: CompelSettings;
  readonly #visiblePadding: boolean;

  /** @throws InvalidArgumentError */
  constructor(options: CompelOptions<Pooled>) {
    const known = [...encodingOptionNames, 'tokenizer', 'textEncoder', 'requiresPooled'];
    checkKnownOptions(options, known, 'Compel');
    this.#encoders = checkEncoders(options.tokenizer, options.textEncoder);
    const count = this.#encoders.length;
    const types = perEncoder(
      options.returnedEmbeddingsType ?? 'lastHiddenStatesNormalized',
      'returnedEmbeddingsType',
      count,
    ).map((type) => checkChoice(type, 'returnedEmbeddingsType', returnedEmbeddingsTypes));
    this.#outputs = this.#encoders.map(({ encoder }, i) =>
      outputName(encoder, types[i] as ReturnedEmbeddingsType),
    );
    const pooled = perEncoder<boolean>(options.requiresPooled ?? false, 'requiresPooled', count);
    if (pooled.some((one) => typeof one !== 'boolean')) {
      throw expected('true or false', 'requiresPooled', options.requiresPooled);
    }
    this.#pooling = this.#encoders.filter((_, i) => pooled[i]);
    for (const { encoder } of this.#pooling) {
      if (encoder.projectionDim !== undefined) continue;
      throw expected(
        'encoders with a projection',
        'requiresPooled',
        encoder.network.className,
        'Only a CLIPTextModelWithProjection has an embedding of the whole text.',
      );
    }
    this.#settings = checkSettings(options);
    const { paddingAttentionMaskValue = 1 } = options;
    if (paddingAttentionMaskValue !== 0 && paddingAttentionMaskValue !== 1) {
      throw expected('0 or 1', 'paddingAttentionMaskValue', paddingAttentionMaskValue);
    }
    this.#visiblePadding = paddingAttentionMaskValue === 1;
  }

  /**
   * For a pipeline's text encoders, with what its family needs: of Stable Diffusion XL the layer
   * before the last, and the embedding of the whole text.
   */
  static fromPipe<Components extends PromptComponents>(
    pipe: { readonly components: Readonly<Components> },
    options: CompelEncodingOptions = {},
  ): Compel<PooledOf<Components>> {
    checkKnownOptions(options, encodingOptionNames, 'Compel.fromPipe');
    const { tokenizer, textEncoder, tokenizer2, textEncoder2 } = pipe.components;
    const isXL = textEncoder2 !== undefined;
    const type = isXL ? 'penultimateHiddenStatesNonNormalized' : 'lastHiddenStatesNormalized';
    // The refiner of Stable Diffusion XL has only the second of each.
    const compel = new Compel<boolean[] | false>({
      tokenizer: [tokenizer, tokenizer2].filter((part) => part !== undefined),
      textEncoder: [textEncoder, textEncoder2].filter((part) => part !== undefined),
      requiresPooled: isXL && (textEncoder === undefined ? [true] : [false, true]),
      ...options,
      returnedEmbeddingsType: options.returnedEmbeddingsType ?? type,
    });
    return compel as Compel<PooledOf<Components>>;
  }

  /** What Compel reads in a prompt. @throws PromptSyntaxError `ERR_PROMPT_SYNTAX` */
  static parsePromptString(prompt: string): CompelPrompt {
    if (typeof prompt !== 'string') throw expected('a string', 'prompt', prompt);
    return parseCompel(prompt);
  }

  /**
   * Embeddings [B,L,D] of one prompt or several, in the text encoder's dtype, all padded to the
   * longest. With `requiresPooled` an object with these as `promptEmbeds`, and with
   * `pooledPromptEmbeds` [B,P]; as in Compel, those are of the text as it is written, signs and all.
   * The caller disposes them.
   *
   * @throws PromptSyntaxError `ERR_PROMPT_SYNTAX`, before any network runs
   */
  async encode(prompt: string | readonly string[]): Promise<Encoded<Pooled>> {
    const texts = checkPrompt(prompt, 'prompt');
    const prompts = texts.map(parseCompel);
    const promptEmbeds = await this.#embed(prompts);
    if (this.#pooling.length === 0) return promptEmbeds as Encoded<Pooled>;
    try {
      const pooledPromptEmbeds = await poolTexts(this.#pooling, texts);
      return { promptEmbeds, pooledPromptEmbeds } as Encoded<Pooled>;
    } catch (error) {
      promptEmbeds.dispose();
      throw error;
    }
  }

  /**
   * Embeddings [B,n·L,D] of different length, made equally long by embeddings of nothing: what a
   * prompt and its negative need where one of them is long, or has `.and()`. Fresh tensors, in order.
   */
  async padToSameLength<const Embeddings extends readonly Tensor[]>(
    embeddings: Embeddings,
  ): Promise<{ -readonly [Place in keyof Embeddings]: Tensor }> {
    if (!Array.isArray(embeddings) || embeddings.length === 0) {
      throw expected('an array of tensors', 'embeddings', embeddings);
    }
    for (const tensor of embeddings) checkTensor(tensor, 'embeddings', 3);
    using encoders = this.#rowEncoders();
    const [, block = 1, width] = (await encoders.empty()).shape;
    for (const { shape } of embeddings) {
      if (shape[2] === width && (shape[1] as number) % block === 0) continue;
      throw expectedShape(['B', `n·${block}`, width ?? 'D'], 'embeddings', shape);
    }
    const padded = await encoders.padToSameLength(embeddings);
    return padded as { -readonly [Place in keyof Embeddings]: Tensor };
  }

  async #embed(prompts: readonly CompelPrompt[]): Promise<Tensor> {
    using scratch = new Scratch();
    using encoders = this.#rowEncoders();
    const embedded: Tensor[] = [];
    for (const prompt of prompts) {
      embedded.push(scratch.own(await embedCompel(encoders, prompt, this.#settings)));
    }
    const padded = await encoders.padToSameLength(embedded);
    for (const tensor of padded) scratch.own(tensor);
    const { dtype } = (this.#encoders[0] as PromptEncoder).encoder.network;
    return scratch.own(concat(padded)).to({ dtype });
  }

  #rowEncoders(): RowEncoders {
    return new RowEncoders(this.#encoders, this.#outputs, this.#visiblePadding);
  }
}

function checkEncoders(
  tokenizer: OneOrMore<ClipTokenizer>,
  textEncoder: OneOrMore<TextEncoder>,
): PromptEncoder[] {
  const tokenizers = [tokenizer].flat() as unknown[];
  const encoders = [textEncoder].flat() as unknown[];
  if (encoders.length === 0) throw expected('at least one', 'textEncoder', encoders);
  if (tokenizers.length !== encoders.length) {
    const count = encoders.length;
    throw expected(`${count}, one for each text encoder,`, 'tokenizer', tokenizers);
  }
  return encoders.map((encoder, i) => {
    const own = tokenizers[i];
    if (!(encoder instanceof TextEncoder)) throw expected('a TextEncoder', 'textEncoder', encoder);
    if (!(own instanceof ClipTokenizer)) throw expected('a ClipTokenizer', 'tokenizer', own);
    return { tokenizer: own, encoder };
  });
}

/** One value for all encoders, or one for each. */
function perEncoder<Value>(value: OneOrMore<Value>, name: string, count: number): Value[] {
  const values = Array.isArray(value)
    ? (value as Value[])
    : new Array<Value>(count).fill(value as Value);
  if (values.length === count) return values;
  throw expected(`one value or ${count}, one for each text encoder,`, name, value);
}

function checkSettings(options: CompelEncodingOptions): CompelSettings {
  const {
    truncateLongPrompts = compelDefaults.truncateLongPrompts,
    downweightMode = compelDefaults.downweightMode,
  } = options;
  checkBoolean(truncateLongPrompts, 'truncateLongPrompts');
  return {
    truncateLongPrompts,
    downweightMode: checkChoice(downweightMode, 'downweightMode', ['mask', 'remove']),
  };
}
