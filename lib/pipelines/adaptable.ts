// What adapters are asked of a pipeline: LoRA and textual inversion. They change networks, so all
// pipelines that share those see the change; it takes its turn between two runs of a network, in the
// middle of a generation if one is on its way.
import {
  type AdapterWeight,
  checkAdapterWeights,
  checkNames,
  type FuseLoraOptions,
  type LoadLoraOptions,
  LoraAdapters,
} from '../adapters/lora.js';
import { adapterFileOptionNames } from '../adapters/tensor-file.js';
import {
  type InvertedEncoders,
  type LoadTextualInversionOptions,
  loadTextualInversion,
  TextualInversions,
} from '../adapters/textual-inversion.js';
import { expected, InvalidArgumentError } from '../errors.js';
import type { TextEncoder } from '../networks/text-encoder.js';
import type { UNet } from '../networks/unet.js';
import { checkKnownOptions } from '../options.js';
import type { ClipTokenizer } from '../tokenizer/index.js';

/** The parts that adapters change. */
interface Adapted {
  unet: UNet;
  textEncoder: TextEncoder;
  textEncoder2: TextEncoder;
  tokenizer: ClipTokenizer;
  tokenizer2: ClipTokenizer;
}

/** A pipeline whose parts adapters can change. */
export abstract class AdaptablePipeline {
  /** @throws DisposedError */
  abstract get components(): object;

  /**
   * Loads a LoRA file, in the form of diffusers, peft or Kohya, and makes it the active adapter, with
   * weight 1, of the networks it has layers for. The file must stay where it is while it is loaded.
   *
   * @param path A `.safetensors` file, or a folder or a repository on the hub (`'org/name'`) with one.
   * @throws CheckpointError for a file of another kind, or for another base model; HubError
   */
  async loadLoraWeights(path: string, options: LoadLoraOptions = {}): Promise<void> {
    checkKnownOptions(options, ['adapterName', ...adapterFileOptionNames], 'loadLoraWeights');
    await this.#lora.load(path, options);
  }

  /**
   * Makes these adapters the active ones, several at once if need be, each with its weight: one
   * number for all, one per adapter, or `{ unet, textEncoder, textEncoder2 }`; 1 unless given.
   *
   * @throws InvalidArgumentError for an adapter that is not loaded; CheckpointError for a file that was
   * changed since. No adapter is active then.
   */
  async setAdapters(
    names: string | readonly string[],
    weights?: AdapterWeight | readonly AdapterWeight[],
  ): Promise<void> {
    const list = checkNames(names, 'adapterNames');
    await this.#lora.set(list, checkAdapterWeights(list, weights));
  }

  /** Names of the active adapters. */
  getActiveAdapters(): string[] {
    return this.#lora.active;
  }

  /** Names of all loaded adapters. */
  getListAdapters(): string[] {
    return this.#lora.names;
  }

  /**
   * Forgets these adapters; active ones leave the weights first. Throws for names that are not
   * loaded.
   */
  async deleteAdapters(names: string | readonly string[]): Promise<void> {
    await this.#lora.delete(checkNames(names, 'adapterNames'));
  }

  /** Forgets all adapters. Except for fused ones, the weights are the checkpoint's again, bit for bit. */
  async unloadLoraWeights(): Promise<void> {
    const lora = this.#lora;
    await lora.delete(lora.names);
  }

  /** Takes adapters out of the weights, and keeps them for `enableLora()`. */
  async disableLora(): Promise<void> {
    await this.#lora.enable(false);
  }

  /** Puts the adapters that `disableLora()` took out back into the weights. */
  async enableLora(): Promise<void> {
    await this.#lora.enable(true);
  }

  /**
   * Makes the active adapters stay, with their weights times `loraScale`, whatever is set or unloaded
   * later. No run is the faster for it: adapters are always part of the weights.
   */
  async fuseLora(options: FuseLoraOptions = {}): Promise<void> {
    checkKnownOptions(options, ['loraScale', 'adapterNames'], 'fuseLora');
    await this.#lora.fuse(options);
  }

  /** Takes fused adapters out of the weights again. */
  async unfuseLora(): Promise<void> {
    await this.#lora.unfuse();
  }

  /**
   * Loads a textual inversion: a new word for prompts, `token`, or the name in the file.
   *
   * @param path A `.safetensors` file, a `.bin` or `.pt` file as torch.save writes it, or a folder or
   *   a repository on the hub (`'org/name'`) with one.
   * @throws CheckpointError for a file of another kind, or for another base model; HubError
   * @throws UntrustedFileError for a file that could run code in Python
   */
  async loadTextualInversion(
    path: string,
    options: LoadTextualInversionOptions = {},
  ): Promise<void> {
    checkKnownOptions(
      options,
      ['token', 'hfToken', ...adapterFileOptionNames],
      'loadTextualInversion',
    );
    await loadTextualInversion(path, options, this.#textualInversions);
  }

  /** Forgets the named tokens, or all. @throws InvalidArgumentError for one that is not loaded */
  async unloadTextualInversion(tokens?: string | readonly string[]): Promise<void> {
    const names = tokens === undefined ? undefined : checkNames(tokens, 'tokens');
    const encoders = Object.values(this.#textualInversions);
    const known = encoders.flatMap((encoder) => encoder.tokens);
    const missing = names?.find((token) => !known.includes(token));
    if (missing !== undefined) throw expected('a loaded token', 'tokens', missing);
    for (const encoder of encoders) {
      await encoder.unload(names?.filter((token) => encoder.tokens.includes(token)));
    }
  }

  get #lora(): LoraAdapters {
    const { unet, textEncoder, textEncoder2 } = this.#adapted;
    if (unet === undefined) throw this.#notAdaptable();
    return new LoraAdapters({
      unet: unet.network,
      textEncoder: textEncoder?.network,
      textEncoder2: textEncoder2?.network,
    });
  }

  get #textualInversions(): InvertedEncoders {
    const { textEncoder, tokenizer, textEncoder2, tokenizer2 } = this.#adapted;
    const encoders: InvertedEncoders = {};
    if (textEncoder !== undefined && tokenizer !== undefined) {
      encoders.clip_l = TextualInversions.of(textEncoder.network, tokenizer);
    }
    if (textEncoder2 !== undefined && tokenizer2 !== undefined) {
      encoders.clip_g = TextualInversions.of(textEncoder2.network, tokenizer2);
    }
    if (Object.keys(encoders).length === 0) throw this.#notAdaptable();
    return encoders;
  }

  get #adapted(): Partial<Adapted> {
    return this.components as Partial<Adapted>;
  }

  #notAdaptable(): InvalidArgumentError {
    return new InvalidArgumentError(`The ${this.constructor.name} has no parts that this changes.`);
  }
}
