import type { Generator } from '../generator.js';
import { add, concat, linearCombination, multiply, narrow, randn, subtract } from '../ops.js';
import { Tensor } from '../tensor.js';
import type { Network } from './network.js';
import { numberOr } from './unet.js';

/** The autoencoder between pixels and latents, `AutoencoderKL`. */
export class Autoencoder {
  /** Shared and counted; the pipeline disposes it. */
  readonly network: Network;
  /** Pixels per latent along a side: 8 for Stable Diffusion, but nothing may count on it. */
  readonly scaleFactor: number;
  /** Channels of latents, 4 in the published checkpoints. */
  readonly latentChannels: number;
  /** Latents are multiplied by it after encoding and divided by it before decoding. */
  readonly scalingFactor: number;
  /** Mean and deviation of each channel before scaling, where the checkpoint was made with them. */
  readonly #spread: { mean: number[]; std: number[] } | undefined;
  /** Encodes and decodes one picture at a time, for less memory. */
  slicing = false;

  /** @param scalingFactor Instead of what the checkpoint says. */
  constructor(network: Network, scalingFactor?: number) {
    this.network = network;
    const channels = network.config.block_out_channels;
    this.scaleFactor = 2 ** ((Array.isArray(channels) ? channels.length : 1) - 1);
    this.latentChannels = numberOr(network.config.latent_channels, 4);
    this.scalingFactor = scalingFactor ?? numberOr(network.config.scaling_factor, 0.18215);
    const { latents_mean: mean, latents_std: std } = network.config;
    if (isNumbers(mean) && isNumbers(std)) this.#spread = { mean, std };
  }

  /**
   * Scaled latents [B,C,H/f,W/f], in the network's dtype, of pixels [B,3,H,W] in −1..1: a sample of
   * the posterior, drawn from one generator for the batch or from one per picture.
   */
  async encode(pixels: Tensor, generator: Generator | readonly Generator[]): Promise<Tensor> {
    using placed = this.placed(pixels);
    const [mean, std] = await this.#moments(placed);
    using means = mean;
    using stds = std;
    using noise = noiseLike(means, generator);
    using spread = multiply(stds, noise);
    const factor = this.scalingFactor;
    if (this.#spread === undefined) return linearCombination([factor, factor], [means, spread]);
    using sample = linearCombination([1, 1], [means, spread]);
    using channelMeans = this.#perChannel(this.#spread.mean);
    using channelFactors = this.#perChannel(this.#spread.std.map((value) => factor / value));
    using centred = subtract(sample, channelMeans);
    return multiply(centred, channelFactors);
  }

  /** Pixels [B,3,H,W], about −1..1, of scaled latents, in the network's dtype. */
  async decode(latents: Tensor): Promise<Tensor> {
    using placed = this.placed(latents);
    using unscaled = this.#unscaled(placed);
    return await this.perPicture(unscaled, async (part) => {
      const [pixels] = await this.network.run('decode', { latents: part }, ['sample']);
      return pixels as Tensor;
    });
  }

  #unscaled(latents: Tensor): Tensor {
    if (this.#spread === undefined) return linearCombination([1 / this.scalingFactor], [latents]);
    using channelFactors = this.#perChannel(
      this.#spread.std.map((value) => value / this.scalingFactor),
    );
    using channelMeans = this.#perChannel(this.#spread.mean);
    using spread = multiply(latents, channelFactors);
    return add(spread, channelMeans);
  }

  /** The tensor in the network's dtype, on its device. */
  protected placed(tensor: Tensor): Tensor {
    const { dtype, device } = this.network;
    return tensor.to({ dtype, device });
  }

  /** A number for each channel, [1,C,1,1]. */
  #perChannel(values: readonly number[]): Tensor {
    using onHost = Tensor.fromArray(Float32Array.from(values), [1, values.length, 1, 1]);
    return this.placed(onHost);
  }

  async #moments(pixels: Tensor): Promise<[Tensor, Tensor]> {
    // Both halves of the moments at once, so that slicing stays in one place.
    let channels = 0;
    using both = await this.perPicture(pixels, async (part) => {
      const [mean, std] = await this.network.run('encode', { sample: part }, ['mean', 'std']);
      using means = mean as Tensor;
      using stds = std as Tensor;
      channels = means.shape[1] as number;
      return concat([means, stds], 1);
    });
    return [narrow(both, 1, 0, channels), narrow(both, 1, channels, channels)];
  }

  /** What `run` makes of a batch: at once, or picture by picture where slicing is on. */
  protected async perPicture(
    batch: Tensor,
    run: (part: Tensor) => Promise<Tensor>,
  ): Promise<Tensor> {
    const count = batch.shape[0] as number;
    if (!this.slicing || count === 1) return run(batch);
    const parts: Tensor[] = [];
    try {
      for (let i = 0; i < count; i += 1) {
        using one = narrow(batch, 0, i, 1);
        parts.push(await run(one));
      }
      return concat(parts, 0);
    } finally {
      for (const part of parts) part.dispose();
    }
  }
}

function isNumbers(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((item) => typeof item === 'number');
}

/** Noise of a batch's shape: from one generator at once, or picture by picture from several. */
export function noiseLike(
  like: Pick<Tensor, 'shape' | 'dtype' | 'device'>,
  generator: Generator | readonly Generator[],
): Tensor {
  const { shape, dtype, device } = like;
  if (!Array.isArray(generator)) {
    return randn(shape, { generator: generator as Generator, dtype, device });
  }
  const one = [1, ...shape.slice(1)];
  const rows = (generator as readonly Generator[]).map((source) =>
    randn(one, { generator: source, dtype, device }),
  );
  try {
    return rows.length === 1 && rows[0] !== undefined ? rows[0].alias() : concat(rows, 0);
  } finally {
    for (const row of rows) row.dispose();
  }
}
