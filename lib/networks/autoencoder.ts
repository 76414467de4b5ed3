import type { Generator } from '../generator.js';
import {
  add,
  concat,
  exp,
  linearCombination,
  log,
  multiply,
  narrow,
  randn,
  subtract,
} from '../ops.js';
import { Tensor } from '../tensor.js';
import type { Network } from './network.js';
import { isLarger, quarterOverlap, runPerPicture, runTiled } from './tiling.js';
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
  /** Encodes and decodes pictures larger than those it was trained on in tiles, for less memory. */
  tiling = false;
  /**
   * Draws the posterior's samples in float32, and gives latents in it, whatever the network computes
   * in: where diffusers converts an autoencoder to float32 for each use, the noise is float32 too.
   */
  drawsInFloat32 = false;

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
   * Scaled latents [B,C,H/f,W/f], in the network's dtype unless `drawsInFloat32`, of pixels [B,3,H,W] in
   * −1..1: a sample of the posterior, drawn from one generator for the batch or from one per picture.
   */
  async encode(pixels: Tensor, generator: Generator | readonly Generator[]): Promise<Tensor> {
    using placed = this.placed(pixels);
    const [mean, std] = await this.#moments(placed);
    using means = mean;
    using stds = std;
    const dtype = this.drawsInFloat32 ? 'float32' : means.dtype;
    using noise = noiseLike({ shape: means.shape, device: means.device, dtype }, generator);
    using spread = multiply(stds, noise);
    const factor = this.scalingFactor;
    const terms = [means, spread];
    if (this.#spread === undefined) return linearCombination([factor, factor], terms, { dtype });
    using sample = linearCombination([1, 1], terms, { dtype });
    using channelMeans = this.#perChannel(this.#spread.mean);
    using channelFactors = this.#perChannel(this.#spread.std.map((value) => factor / value));
    using centred = subtract(sample, channelMeans);
    return multiply(centred, channelFactors);
  }

  /** Pixels [B,3,H,W], about −1..1, of scaled latents, in the network's dtype. */
  async decode(latents: Tensor): Promise<Tensor> {
    using placed = this.placed(latents);
    using unscaled = this.#unscaled(placed);
    return await this.perPicture(unscaled, (part) => this.decodePart(part));
  }

  protected async decodePart(latents: Tensor): Promise<Tensor> {
    const decode = async (part: Tensor): Promise<Tensor> => {
      const [pixels] = await this.network.run('decode', { latents: part }, ['sample']);
      return pixels as Tensor;
    };
    const { pixels, latents: side } = this.#tile;
    if (!this.tiling || !isLarger(latents, side)) return await decode(latents);
    return await runTiled(latents, decode, quarterOverlap(side, pixels));
  }

  /** Sides of a tile: those of the pictures that the network was trained on. */
  get #tile(): { pixels: number; latents: number } {
    const { sample_size: size } = this.network.config;
    const pixels = numberOr(Array.isArray(size) ? size[0] : size, 32);
    return { pixels, latents: Math.max(Math.floor(pixels / this.scaleFactor), 2) };
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
    const { pixels: side, latents } = this.#tile;
    const isTiled = this.tiling && isLarger(pixels, side);
    // Both halves of the moments at once, so that slicing stays in one place.
    let channels = 0;
    const encode = async (part: Tensor): Promise<Tensor> => {
      const [mean, std] = await this.network.run('encode', { sample: part }, ['mean', 'std']);
      using means = mean as Tensor;
      using stds = std as Tensor;
      channels = means.shape[1] as number;
      // Deviations are blended as the network makes them: as logarithms.
      using second = isTiled ? log(stds) : stds.alias();
      return concat([means, second], 1);
    };
    const tiling = quarterOverlap(side, latents);
    using both = await this.perPicture(pixels, (part) =>
      isTiled ? runTiled(part, encode, tiling) : encode(part),
    );
    using second = narrow(both, 1, channels, channels);
    return [narrow(both, 1, 0, channels), isTiled ? exp(second) : second.alias()];
  }

  /** What `run` makes of a batch: at once, or picture by picture where slicing is on. */
  protected perPicture(batch: Tensor, run: (part: Tensor) => Promise<Tensor>): Promise<Tensor> {
    return this.slicing ? runPerPicture(batch, run) : run(batch);
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
