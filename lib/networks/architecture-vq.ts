import type { ArchitectureRule } from './architecture-rule.js';

/**
 * `VQModel`, the autoencoder of Kandinsky 2.2 (MoVQ). The codebook lies between encoding and decoding
 * and its size is no part of either: what is listed is what the two halves are made of.
 */
export const vqModel: ArchitectureRule = {
  fields: {
    in_channels: { kind: 'integer', default: 3, always: true },
    out_channels: { kind: 'integer', default: 3, always: true },
    latent_channels: { kind: 'integer', default: 3, always: true },
    vq_embed_dim: { kind: 'integer', default: null },
    down_block_types: { kind: 'strings', default: ['DownEncoderBlock2D'], always: true },
    up_block_types: { kind: 'strings', default: ['UpDecoderBlock2D'], always: true },
    block_out_channels: { kind: 'integers', default: [64], always: true },
    layers_per_block: { kind: 'integer', default: 1, always: true },
    norm_num_groups: { kind: 'integer', default: 32, always: true },
    norm_type: { kind: 'string', default: 'group', always: true },
    act_fn: { kind: 'string', default: 'silu' },
    mid_block_add_attention: { kind: 'boolean', default: true },
    lookup_from_codebook: { kind: 'boolean', default: false },
  },

  normalize(config) {
    const isLatentWidth = config.vq_embed_dim === config.latent_channels;
    return isLatentWidth ? { ...config, vq_embed_dim: null } : config;
  },
};
