import { CheckpointError } from '../errors.js';
import {
  type ClipPreprocessor,
  clipPreprocessor,
  preprocessForClip,
} from '../images/clip-preprocess.js';
import type { Image } from '../images/image.js';
import { concat, full, narrow } from '../ops.js';
import { Tensor } from '../tensor.js';
import { canonicalArchitecture } from './architecture.js';
import type { LoadNetworkOptions } from './load-entries.js';
import { Network } from './network.js';

/** Options of `SafetyChecker.load`. */
export interface LoadSafetyCheckerOptions extends LoadNetworkOptions {
  /** The `feature_extractor` of the checkpoint (`readPreprocessor`); CLIP's own unless given. */
  preprocessor?: ClipPreprocessor | undefined;
}

/** What a picture that resembles one of the special concepts is held to more strictly by. */
const strictness = Math.fround(0.01);

/**
 * Finds pictures that resemble one of seventeen concepts, `StableDiffusionSafetyChecker`. The
 * concepts and their thresholds come with the checkpoint, as embeddings.
 */
export class SafetyChecker {
  /** Shared and counted; the pipeline disposes it. */
  readonly network: Network;
  /** How pictures are prepared for the network. */
  readonly preprocessor: ClipPreprocessor;
  /** Side of the pictures that the network sees. */
  readonly imageSize: number;

  constructor(network: Network, preprocessor: ClipPreprocessor = clipPreprocessor) {
    this.network = network;
    this.preprocessor = preprocessor;
    const { config } = canonicalArchitecture(network.className, network.config);
    this.imageSize = Number(config.image_size);
  }

  /**
   * Loads a checkpoint's `safety_checker` folder. The network is the caller's to dispose.
   *
   * @throws CheckpointError (ERR_CHECKPOINT), ProgramNotFoundError (ERR_PROGRAM_NOT_FOUND)
   */
  static async load(folder: string, options: LoadSafetyCheckerOptions): Promise<SafetyChecker> {
    const { preprocessor, ...rest } = options;
    const network = await Network.load(folder, 'StableDiffusionSafetyChecker', rest);
    return new SafetyChecker(network, preprocessor);
  }

  /** Whether each picture is to be held back. */
  async check(images: readonly Image[]): Promise<boolean[]> {
    const { data, shape } = preprocessForClip(images, this.preprocessor);
    const [, , height, width] = shape;
    if (height !== this.imageSize || width !== this.imageSize) {
      throw new CheckpointError(
        `The safety checker takes pictures of ${this.imageSize}×${this.imageSize} pixels, but its ` +
          `preprocessor_config.json makes some of ${width}×${height}.`,
      );
    }
    using onHost = Tensor.fromArray(data, shape);
    using pixels = onHost.to({ dtype: this.network.dtype, device: this.network.device });
    const [special, concepts] = await this.network.run('forward', { pixel_values: pixels }, [
      'special_scores',
      'concept_scores',
    ]);
    using specialScores = special as Tensor;
    using conceptScores = concepts as Tensor;
    const specialRows = rowsOf(await specialScores.toFloat32Array(), images.length);
    const conceptRows = rowsOf(await conceptScores.toFloat32Array(), images.length);
    return conceptRows.map((row, i) => {
      const adjustment = specialRows[i]?.some(isPositive) === true ? strictness : 0;
      return row.some((score) => isPositive(Math.fround(score + adjustment)));
    });
  }

  /**
   * Pixels [B,3,H,W] in 0..1 with the flagged pictures black.
   *
   * @param flagged One answer of `check` per picture.
   */
  static blacken(pixels: Tensor, flagged: readonly boolean[]): Tensor {
    if (!flagged.includes(true)) return pixels.alias();
    const { dtype, device } = pixels;
    using black = full([1, ...pixels.shape.slice(1)], 0, { dtype, device });
    const parts = flagged.map((isFlagged, i) =>
      isFlagged ? black.alias() : narrow(pixels, 0, i, 1),
    );
    try {
      return concat(parts, 0);
    } finally {
      for (const part of parts) part.dispose();
    }
  }
}

/** Above 0 after rounding to three decimals, halves to even, all in float32. */
function isPositive(score: number): boolean {
  return Math.fround(score * 1000) > 0.5;
}

function rowsOf(values: Float32Array, count: number): Float32Array[] {
  const length = values.length / count;
  return Array.from({ length: count }, (_, i) => values.subarray(i * length, (i + 1) * length));
}
