// What a UNet takes in a guided step, by its configuration: the same numbers that the peers draw.
import { Generator } from '../../../lib/generator.js';
import type { Network } from '../../../lib/networks/network.js';
import { numberOr, UNet } from '../../../lib/networks/unet.js';
import { randn } from '../../../lib/ops.js';
import { timeIdTensor } from '../../../lib/pipelines/stable-diffusion-xl-time-ids.js';
import type { Tensor } from '../../../lib/tensor.js';

/** Standard normal numbers in the network's dtype, the peers' for the same seed. */
export function normal(network: Network, seed: number, shape: readonly number[]): Tensor {
  using drawn = randn(shape, { generator: new Generator().manualSeed(seed) });
  return drawn.to({ dtype: network.dtype, device: network.device });
}

/** Sizes and crop as Stable Diffusion XL is told them. */
const timeIds = [1024, 1024, 0, 0, 1024, 1024];

/** Width of the pooled text that a UNet is told beside; undefined where it is told none. */
function pooledWidth(config: Network['config']): number | undefined {
  if (config.addition_embed_type !== 'text_time') return undefined;
  const all = numberOr(config.projection_class_embeddings_input_dim, 2816);
  return all - timeIds.length * numberOr(config.addition_time_embed_dim, 256);
}

export interface GuidedStep {
  /** Predictions for both halves, [2,4,side,side]; the caller's. */
  run(): Promise<Tensor>;
  dispose(): void;
}

/** A step with guidance: a batch of two. */
export function prepareGuidedStep(network: Network, side: number): GuidedStep {
  const { config, dtype, device } = network;
  const unet = new UNet(network);
  const held: Tensor[] = [];
  const hold = (tensor: Tensor): Tensor => {
    held.push(tensor);
    return tensor;
  };
  const sample = hold(normal(network, 0, [2, 4, side, side]));
  const text = hold(normal(network, 1, [2, 77, numberOr(config.cross_attention_dim, 768)]));
  const pooled = pooledWidth(config);
  const conditions =
    pooled === undefined
      ? {}
      : {
          textEmbeds: hold(normal(network, 2, [2, pooled])),
          timeIds: hold(timeIdTensor([timeIds, timeIds], { dtype, device })),
        };
  return {
    run: () => unet.predict(sample, 500, text, conditions),
    dispose: () => {
      for (const tensor of held) tensor.dispose();
    },
  };
}
