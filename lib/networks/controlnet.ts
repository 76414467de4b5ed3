import { resolveCheckpoint } from '../checkpoints/hub.js';
import {
  type DownloadProgress,
  type HubOptions,
  hubAccessNames,
} from '../checkpoints/hub-settings.js';
import { openSingleFile } from '../checkpoints/single-file.js';
import { CheckpointError } from '../errors.js';
import { concat, full, mean, narrow } from '../ops.js';
import { checkBoolean, checkKnownOptions, checkVariant, resolvePlacement } from '../options.js';
import type { DType, Tensor } from '../tensor.js';
import { canonicalArchitecture } from './architecture.js';
import type { LoadNetworkOptions } from './load-entries.js';
import { Network } from './network.js';
import type { UNetConditions, UNetResiduals } from './unet.js';

/** Options of `ControlNetModel.fromPretrained`. */
export interface LoadControlNetOptions extends HubOptions {
  /** `'auto'` (default): float16 on CUDA, float32 on the CPU; as the pipeline it is for. */
  dtype?: 'auto' | Extract<DType, 'float32' | 'float16' | 'bfloat16'>;
  /** `'auto'` (default), `'cpu'`, `'cuda'` or `'cuda:1'`. */
  device?: string;
  /** Takes the weight files of a variant, such as `'fp16'`, where there are some. */
  variant?: string;
  /** Lets code in the folder run, as for pipelines. */
  trustTorchScript?: boolean;
  /** Called as files come from the hub. */
  onProgress?: (progress: DownloadProgress) => void;
  /** Stops downloads. */
  signal?: AbortSignal;
}

/** Options of `ControlNetModel.fromSingleFile`. */
export interface SingleFileControlNetOptions
  extends Omit<LoadControlNetOptions, 'variant' | 'trustTorchScript'> {
  /**
   * A ControlNet, a folder or a name on the hub, for its `config.json`; needed where the figures are not
   * the usual ones.
   */
  config?: string;
}

/** What ControlNets add to a UNet. Dispose it. */
export class ControlResiduals implements UNetResiduals {
  /** @param tensors For each skip connection, in the order of the down blocks, then the middle. */
  constructor(readonly tensors: readonly Tensor[]) {}

  get down(): readonly Tensor[] {
    return this.tensors.slice(0, -1);
  }

  get mid(): Tensor {
    return this.tensors.at(-1) as Tensor;
  }

  /** Fresh ones; `change` gives a tensor of its own for each. */
  map(change: (tensor: Tensor, index: number) => Tensor): ControlResiduals {
    const changed: Tensor[] = [];
    try {
      for (const [index, tensor] of this.tensors.entries()) changed.push(change(tensor, index));
      return new ControlResiduals(changed);
    } catch (error) {
      for (const tensor of changed) tensor.dispose();
      throw error;
    }
  }

  [Symbol.dispose](): void {
    for (const tensor of this.tensors) tensor.dispose();
  }
}

/** What a ControlNet takes beside latents, time, text and picture, where its architecture asks. */
export type ControlNetConditions = Pick<UNetConditions, 'textEmbeds' | 'timeIds'>;

/**
 * Steers a UNet by a picture, of edges or depths or a pose (`ControlNetModel`; Zhang et al.,
 * https://arxiv.org/abs/2302.05543).
 */
export class ControlNetModel {
  /** Shared and counted; pipelines hold it too. */
  readonly network: Network;
  /** Each residual is one number per picture and channel, the mean over the whole area. */
  readonly globalPoolConditions: boolean;
  /** Channels of the control picture. */
  readonly conditioningChannels: number;
  /** How many times smaller than the control picture the latents are, each side. */
  readonly scaleFactor: number;
  readonly #isFlipped: boolean;

  constructor(network: Network) {
    this.network = network;
    const { global_pool_conditions: pooled, controlnet_conditioning_channel_order: order = 'rgb' } =
      network.config;
    if (order !== 'rgb' && order !== 'bgr') {
      throw new CheckpointError(
        `The ControlNet's config.json has controlnet_conditioning_channel_order ${JSON.stringify(order)}, expected "rgb" or "bgr".`,
      );
    }
    const { config } = canonicalArchitecture(network.className, network.config);
    this.globalPoolConditions = pooled === true;
    this.conditioningChannels = Number(config.conditioning_channels);
    this.scaleFactor = 2 ** ((config.conditioning_embedding_out_channels as unknown[]).length - 1);
    this.#isFlipped = order === 'bgr';
  }

  /**
   * Loads a ControlNet (`config.json` and weights): a folder, or a name on the hub. Pipelines count it
   * as one of their parts; dispose it all the same when done.
   *
   * @throws CheckpointError, HubError, ProgramNotFoundError, InvalidArgumentError
   * @example
   * using controlnet = await ControlNetModel.fromPretrained('models/control-canny');
   * const pipe = await StableDiffusionControlNetPipeline.fromPretrained('models/sd15', { controlnet });
   */
  static async fromPretrained(
    path: string,
    options: LoadControlNetOptions = {},
  ): Promise<ControlNetModel> {
    const known = ['dtype', 'device', 'variant', 'trustTorchScript', ...hubAccessNames];
    checkKnownOptions(options, known, 'fromPretrained');
    const { dtype, device, variant, trustTorchScript, ...access } = options;
    checkBoolean(trustTorchScript, 'trustTorchScript');
    checkVariant(variant);
    const placement = resolvePlacement({ dtype, device });
    const { folder, snapshot } = await resolveCheckpoint(path, access);
    const part = { folder: '', className: 'ControlNetModel' };
    await snapshot?.fetchParts([part], { variant, weights: true });
    return await ControlNetModel.load(folder, { ...placement, variant, trustTorchScript });
  }

  /**
   * Loads a ControlNet that is one `.safetensors` or `.ckpt` file, in the layout of the original
   * implementation or in diffusers' own: a path, `'org/name/file'` on the hub, or its address there.
   *
   * @throws CheckpointError, HubError, UntrustedFileError, ProgramNotFoundError, InvalidArgumentError
   */
  static async fromSingleFile(
    path: string,
    options: SingleFileControlNetOptions = {},
  ): Promise<ControlNetModel> {
    checkKnownOptions(options, ['dtype', 'device', 'config', ...hubAccessNames], 'fromSingleFile');
    const { dtype, device, config, ...access } = options;
    const placement = resolvePlacement({ dtype, device });
    const { file, className, components } = await openSingleFile(path, { config, access });
    const part = components.get('controlnet');
    if (part === undefined) {
      throw new CheckpointError(`${file} is a ${className}, expected a ControlNetModel.`);
    }
    return ControlNetModel.of(await Network.fromWeights({ ...part, origin: file }, placement));
  }

  /** @internal With the dtype and device of the pipeline it is a part of. */
  static async load(folder: string, options: LoadNetworkOptions): Promise<ControlNetModel> {
    return ControlNetModel.of(await Network.load(folder, 'ControlNetModel', options));
  }

  /** Takes the network over. */
  private static of(network: Network): ControlNetModel {
    try {
      return new ControlNetModel(network);
    } catch (error) {
      network.dispose();
      throw error;
    }
  }

  /** The parsed config.json, snake_case. */
  get config(): Network['config'] {
    return this.network.config;
  }

  /**
   * What the UNet is to add, before any scale: [B,C,h,w] each, or [B,C,1,1] where they are pooled.
   *
   * @param sample Scaled latents [B,C,h,w].
   * @param timestep One for the whole batch; may be fractional.
   * @param promptEmbeds [B,L,D].
   * @param image The control picture, [B,3,H,W] in 0..1, red first.
   */
  async predict(
    sample: Tensor,
    timestep: number,
    promptEmbeds: Tensor,
    image: Tensor,
    { textEmbeds, timeIds }: ControlNetConditions = {},
  ): Promise<ControlResiduals> {
    using time = full([1], timestep, { device: sample.device });
    using picture = this.#isFlipped ? flipChannels(image) : image.alias();
    const taken = this.network.inputsOf('forward');
    const inputs = {
      sample,
      timestep: time,
      encoder_hidden_states: promptEmbeds,
      controlnet_cond: picture,
      // Some nets for Stable Diffusion XL are not told the sizes.
      ...(textEmbeds && taken.includes('text_embeds') && { text_embeds: textEmbeds }),
      ...(timeIds && taken.includes('time_ids') && { time_ids: timeIds }),
    };
    const outputs = this.network.outputsOf('forward');
    const residuals = new ControlResiduals(
      await this.network.runTogether('forward', inputs, outputs),
    );
    if (!this.globalPoolConditions) return residuals;
    using whole = residuals;
    return whole.map((tensor) => mean(tensor, [2, 3], true));
  }

  /** Gives up this hold on the network: pipelines that were given it keep theirs. */
  dispose(): void {
    this.network.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

function flipChannels(image: Tensor): Tensor {
  const channels = Array.from({ length: image.shape[1] as number }, (_, i) =>
    narrow(image, 1, i, 1),
  );
  try {
    return concat(channels.toReversed(), 1);
  } finally {
    for (const channel of channels) channel.dispose();
  }
}
