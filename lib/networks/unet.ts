import { CheckpointError } from '../errors.js';
import { concat, cos, exp, full, linearCombination, sin } from '../ops.js';
import { Tensor } from '../tensor.js';
import type { Network } from './network.js';

/** What a {@link UNet} takes besides latents, time and text, where its architecture asks for it. */
export interface UNetConditions {
  /** [B,timeCondProjDim], or one row for all. */
  timestepCond?: Tensor | undefined;
  /** [B] int64 where classes are counted, as the x4 upscaler's noise levels are. */
  classLabels?: Tensor | undefined;
  /** Pooled text [B,P]. */
  textEmbeds?: Tensor | undefined;
  /** Sizes and crops in pixels, or the score in place of the target size, [B,5 or 6]. */
  timeIds?: Tensor | undefined;
  /** A picture's embedding [B,E], which Kandinsky's decoder takes in place of text. */
  imageEmbeds?: Tensor | undefined;
  /** What ControlNets add to the skip connections and to the middle block's output. */
  residuals?: UNetResiduals | undefined;
}

export interface UNetResiduals {
  /** One for each skip connection, in the order of the down blocks. */
  down: readonly Tensor[];
  mid: Tensor;
}

const skip = 'down_block_additional_residuals';

/** The denoising network of Stable Diffusion, `UNet2DConditionModel`. */
export class UNet {
  /** Shared and counted; the pipeline disposes it. */
  readonly network: Network;
  /** Channels of its input: those of the latents and, in upscalers, of what stands beside them. */
  readonly inChannels: number;
  /**
   * Side of the latents it was trained on, in latent pixels (64 for 512×512); sets the default picture
   * size.
   */
  readonly sampleSize: number;
  /** What the sides of the latents must be a multiple of; 1 where up-sampling follows the way down. */
  readonly multipleOf: number;
  /** Set in distilled networks that take the guidance scale as an input and need no second pass. */
  readonly timeCondProjDim: number | undefined;

  constructor(network: Network) {
    this.network = network;
    const { config } = network;
    this.inChannels = numberOr(config.in_channels, 4);
    this.timeCondProjDim = numberOr(config.time_cond_proj_dim, undefined);
    const blocks = Array.isArray(config.up_block_types) ? config.up_block_types : [];
    // Only the blocks of Stable Diffusion up-sample to the size of their skip connection.
    const doubles = blocks.some((type) => String(type).startsWith('K'));
    this.multipleOf = doubles ? 2 ** (blocks.length - 1) : 1;
    const written = String(config._diffusers_version ?? '0.0.0');
    const size = numberOr(config.sample_size, 64);
    // Early configs carry a wrong size; diffusers mends it in the same way.
    this.sampleSize = isBefore(written, 0, 9) && size < 64 ? 64 : size;
  }

  /**
   * The network's prediction, [B,C,h,w].
   *
   * @param sample Scaled latents [B,C,h,w].
   * @param timestep One for the whole batch; may be fractional.
   * @param promptEmbeds [B,L,D]; undefined for networks without text.
   */
  async predict(
    sample: Tensor,
    timestep: number,
    promptEmbeds: Tensor | undefined,
    conditions: UNetConditions = {},
  ): Promise<Tensor> {
    using time = full([1], timestep, { device: sample.device });
    const inputs = given({
      sample,
      timestep: time,
      encoder_hidden_states: promptEmbeds,
      timestep_cond: conditions.timestepCond,
      class_labels: conditions.classLabels,
      text_embeds: conditions.textEmbeds,
      time_ids: conditions.timeIds,
      image_embeds: conditions.imageEmbeds,
      ...this.#residualInputs(conditions.residuals),
    });
    const [prediction] = await this.network.runTogether('forward', inputs, ['sample']);
    return prediction as Tensor;
  }

  #residualInputs(residuals: UNetResiduals | undefined): Record<string, Tensor> {
    if (residuals === undefined) return {};
    const { down, mid } = residuals;
    const taken = this.network.inputsOf('forward').filter((name) => name.startsWith(skip)).length;
    if (down.length !== taken) {
      throw new CheckpointError(
        `The UNet takes residuals for ${taken} skip connections but received ${down.length}. ` +
          'Use a ControlNet made for this kind of checkpoint.',
      );
    }
    const named = down.map((tensor, index) => [`${skip}.${index}`, tensor] as const);
    return { ...Object.fromEntries(named), mid_block_additional_residual: mid };
  }

  /** The scale where the network takes one as an input; else undefined. */
  told(guidanceScale: number): number | undefined {
    return this.timeCondProjDim === undefined ? undefined : guidanceScale;
  }

  /**
   * The guidance scale as distilled networks take it: sines and cosines of 1000·(scale−1), one row
   * for all images, [1,timeCondProjDim] (Meng et al., https://arxiv.org/abs/2210.03142). Without a
   * scale the row is zeros, which say nothing. Undefined for other networks.
   */
  guidanceEmbedding(guidanceScale: number | undefined): Tensor | undefined {
    const dimension = this.timeCondProjDim;
    if (dimension === undefined) return undefined;
    using row = guidanceRow(guidanceScale, dimension);
    return row.to({ dtype: this.network.dtype, device: this.network.device });
  }

  /** ε_uncond + scale·(ε_cond − ε_uncond) (Ho & Salimans, https://arxiv.org/abs/2207.12598). */
  static guide(unconditional: Tensor, conditional: Tensor, scale: number): Tensor {
    // The difference first: it is small and nearly exact, where scale·ε_cond would be rounded.
    using difference = linearCombination([1, -1], [conditional, unconditional]);
    return linearCombination([1, scale], [unconditional, difference]);
  }
}

/**
 * Every operation rounds to float32 as in diffusers: the angles reach thousands, where its last bit
 * is seen in the sine.
 */
function guidanceRow(guidanceScale: number | undefined, dimension: number): Tensor {
  if (guidanceScale === undefined) return full([1, dimension], 0);
  const { fround } = Math;
  const half = Math.floor(dimension / 2);
  const step = fround(fround(Math.log(10_000)) / (half - 1));
  const scaled = fround(fround(guidanceScale - 1) * 1000);
  using exponents = Tensor.fromArray(
    Float32Array.from({ length: half }, (_, i) => -i * step),
    [1, half],
  );
  using frequencies = exp(exponents);
  using angles = linearCombination([scaled], [frequencies]);
  using sines = sin(angles);
  using cosines = cos(angles);
  using rest = full([1, dimension - 2 * half], 0);
  return concat([sines, cosines, rest], 1);
}

function given(inputs: Readonly<Record<string, Tensor | undefined>>): Record<string, Tensor> {
  const present = Object.entries(inputs).filter(([, tensor]) => tensor !== undefined);
  return Object.fromEntries(present) as Record<string, Tensor>;
}

export function numberOr<Fallback>(value: unknown, fallback: Fallback): number | Fallback {
  return typeof value === 'number' ? value : fallback;
}

function isBefore(version: string, major: number, minor: number): boolean {
  const [a = 0, b = 0] = version.split('.').map((part) => Number.parseInt(part, 10));
  return a < major || (a === major && b < minor);
}
