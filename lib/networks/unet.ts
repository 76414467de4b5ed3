import { full, linearCombination } from '../ops.js';
import { Tensor } from '../tensor.js';
import type { Network } from './network.js';

/** Inputs that only some architectures have. */
export interface UNetExtras {
  /** [B,timeCondProjDim]: the guidance scale, for distilled networks. */
  timestepCond?: Tensor | undefined;
  /** Pooled prompt embeddings [B,P] and sizes [B,5 or 6]: Stable Diffusion XL. */
  textEmbeds?: Tensor | undefined;
  timeIds?: Tensor | undefined;
}

/** The denoising network of Stable Diffusion, `UNet2DConditionModel`. */
export class UNet {
  readonly network: Network;
  readonly inChannels: number;
  /** Side of the latents it was trained on; sets the default picture size. */
  readonly sampleSize: number;
  /** Set in distilled networks that take the guidance scale as an input and need no second pass. */
  readonly timeCondProjDim: number | undefined;

  constructor(network: Network) {
    this.network = network;
    const { config } = network;
    this.inChannels = numberOr(config.in_channels, 4);
    this.timeCondProjDim = numberOr(config.time_cond_proj_dim, undefined);
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
   * @param promptEmbeds [B,L,D].
   */
  async predict(
    sample: Tensor,
    timestep: number,
    promptEmbeds: Tensor,
    { timestepCond, textEmbeds, timeIds }: UNetExtras = {},
  ): Promise<Tensor> {
    using time = full([1], timestep, { device: sample.device });
    const inputs: Record<string, Tensor> = {
      sample,
      timestep: time,
      encoder_hidden_states: promptEmbeds,
    };
    if (timestepCond !== undefined) inputs.timestep_cond = timestepCond;
    if (textEmbeds !== undefined) inputs.text_embeds = textEmbeds;
    if (timeIds !== undefined) inputs.time_ids = timeIds;
    const [prediction] = await this.network.run('forward', inputs, ['sample']);
    return prediction as Tensor;
  }

  /**
   * The guidance scale as distilled networks take it: sines and cosines of 1000·(scale−1), one row
   * per image, [B,timeCondProjDim] (Meng et al., https://arxiv.org/abs/2210.03142).
   */
  guidanceEmbedding(guidanceScale: number, batch: number): Tensor | undefined {
    const dimension = this.timeCondProjDim;
    if (dimension === undefined) return undefined;
    const half = Math.floor(dimension / 2);
    const row = new Float32Array(dimension);
    for (let i = 0; i < half; i += 1) {
      const angle = (guidanceScale - 1) * 1000 * Math.exp((-i * Math.log(10_000)) / (half - 1));
      row[i] = Math.sin(angle);
      row[half + i] = Math.cos(angle);
    }
    const rows = new Float32Array(batch * dimension);
    for (let i = 0; i < batch; i += 1) rows.set(row, i * dimension);
    using onHost = Tensor.fromArray(rows, [batch, dimension]);
    return onHost.to({ dtype: this.network.dtype, device: this.network.device });
  }

  /** ε_uncond + scale·(ε_cond − ε_uncond) (Ho & Salimans, https://arxiv.org/abs/2207.12598). */
  static guide(unconditional: Tensor, conditional: Tensor, scale: number): Tensor {
    // The difference first: it is small and nearly exact, where scale·ε_cond would be rounded.
    using difference = linearCombination([1, -1], [conditional, unconditional]);
    return linearCombination([1, scale], [unconditional, difference]);
  }
}

export function numberOr<Fallback>(value: unknown, fallback: Fallback): number | Fallback {
  return typeof value === 'number' ? value : fallback;
}

function isBefore(version: string, major: number, minor: number): boolean {
  const [a = 0, b = 0] = version.split('.').map((part) => Number.parseInt(part, 10));
  return a < major || (a === major && b < minor);
}
