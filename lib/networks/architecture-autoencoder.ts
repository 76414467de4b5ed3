import type { ArchitectureRule } from './architecture-rule.js';

/**
 * `AutoencoderKL`. Scaling and shift of the latents happen outside the networks, and
 * `force_upcast` is a choice of dtype, so none of them is listed.
 */
export const autoencoderKL: ArchitectureRule = {
  fields: {
    in_channels: { kind: 'integer', default: 3, always: true },
    out_channels: { kind: 'integer', default: 3, always: true },
    latent_channels: { kind: 'integer', default: 4, always: true },
    down_block_types: { kind: 'strings', default: ['DownEncoderBlock2D'], always: true },
    up_block_types: { kind: 'strings', default: ['UpDecoderBlock2D'], always: true },
    block_out_channels: { kind: 'integers', default: [64], always: true },
    layers_per_block: { kind: 'integer', default: 1, always: true },
    // Stable Diffusion 1.4 was saved before the field existed; 32 groups were built in then.
    norm_num_groups: { kind: 'integer', default: 32, always: true },
    act_fn: { kind: 'string', default: 'silu' },
    use_quant_conv: { kind: 'boolean', default: true },
    use_post_quant_conv: { kind: 'boolean', default: true },
    mid_block_add_attention: { kind: 'boolean', default: true },
  },
};

/**
 * `AutoencoderTiny`. `latent_magnitude` and `latent_shift` are only for storing latents as bytes,
 * which no pipeline does.
 */
export const autoencoderTiny: ArchitectureRule = {
  fields: {
    in_channels: { kind: 'integer', default: 3, always: true },
    out_channels: { kind: 'integer', default: 3, always: true },
    latent_channels: { kind: 'integer', default: 4, always: true },
    encoder_block_out_channels: { kind: 'integers', default: [64, 64, 64, 64], always: true },
    decoder_block_out_channels: { kind: 'integers', default: [64, 64, 64, 64], always: true },
    num_encoder_blocks: { kind: 'integers', default: [1, 3, 3, 3], always: true },
    num_decoder_blocks: { kind: 'integers', default: [3, 3, 3, 1], always: true },
    upsampling_scaling_factor: { kind: 'integer', default: 2 },
    upsample_fn: { kind: 'string', default: 'nearest' },
    act_fn: { kind: 'string', default: 'relu' },
  },
};
