// Small architectures, one for each thing that the exporter knows how to do.
import { canonicalArchitecture } from '../../lib/networks/architecture.js';
import type { ExportRequest } from '../../lib/networks/export.js';

const request = (
  name: string,
  className: string,
  config: Record<string, unknown>,
): ExportRequest => ({ name, ...canonicalArchitecture(className, config) });

const twoLevels = {
  block_out_channels: [16, 32],
  layers_per_block: 1,
  norm_num_groups: 4,
  attention_head_dim: 2,
  cross_attention_dim: 24,
};

export const unet = (name: string, changes: Record<string, unknown> = {}): ExportRequest =>
  request(name, 'UNet2DConditionModel', {
    ...twoLevels,
    down_block_types: ['DownBlock2D', 'CrossAttnDownBlock2D'],
    up_block_types: ['CrossAttnUpBlock2D', 'UpBlock2D'],
    ...changes,
  });

const fourLevels = {
  block_out_channels: [16, 16, 32, 32],
  down_block_types: [...Array<string>(3).fill('CrossAttnDownBlock2D'), 'DownBlock2D'],
  up_block_types: ['UpBlock2D', ...Array<string>(3).fill('CrossAttnUpBlock2D')],
};

const controlnet = (name: string, changes: Record<string, unknown> = {}): ExportRequest =>
  request(name, 'ControlNetModel', {
    ...twoLevels,
    down_block_types: ['DownBlock2D', 'CrossAttnDownBlock2D'],
    conditioning_embedding_out_channels: [4, 8],
    ...changes,
  });

// The form of the latent upscaler; its groups have 32 channels.
const latentUpscaler = {
  block_out_channels: [32, 32, 64, 64],
  down_block_types: ['KDownBlock2D', ...Array<string>(3).fill('KCrossAttnDownBlock2D')],
  mid_block_type: null,
  up_block_types: [...Array<string>(3).fill('KCrossAttnUpBlock2D'), 'KUpBlock2D'],
  layers_per_block: 2,
  norm_num_groups: null,
  attention_head_dim: 16,
  act_fn: 'gelu',
  timestep_post_act: 'gelu',
  time_embedding_type: 'fourier',
  resnet_time_scale_shift: 'scale_shift',
  time_cond_proj_dim: 12,
  conv_in_kernel: 1,
  conv_out_kernel: 1,
  in_channels: 8,
  out_channels: 5,
};

// The form of Kandinsky 2.2's decoder, whose condition is a picture's embedding.
const byImage = {
  down_block_types: ['ResnetDownsampleBlock2D', 'SimpleCrossAttnDownBlock2D'],
  mid_block_type: 'UNetMidBlock2DSimpleCrossAttn',
  up_block_types: ['SimpleCrossAttnUpBlock2D', 'ResnetUpsampleBlock2D'],
  addition_embed_type: 'image',
  encoder_hid_dim_type: 'image_proj',
  encoder_hid_dim: 14,
  resnet_time_scale_shift: 'scale_shift',
  out_channels: 8,
};

const autoencoder = (name: string, changes: Record<string, unknown> = {}): ExportRequest =>
  request(name, 'AutoencoderKL', {
    block_out_channels: [8, 16],
    down_block_types: Array<string>(2).fill('DownEncoderBlock2D'),
    up_block_types: Array<string>(2).fill('UpDecoderBlock2D'),
    norm_num_groups: 4,
    ...changes,
  });

export const text = (
  name: string,
  changes: Record<string, unknown> = {},
  className = 'CLIPTextModel',
): ExportRequest =>
  request(name, className, {
    vocab_size: 99,
    hidden_size: 24,
    intermediate_size: 40,
    num_hidden_layers: 3,
    num_attention_heads: 4,
    ...changes,
  });

export const vq = (name: string, changes: Record<string, unknown> = {}): ExportRequest =>
  request(name, 'VQModel', {
    block_out_channels: [32, 64],
    down_block_types: ['DownEncoderBlock2D', 'AttnDownEncoderBlock2D'],
    up_block_types: ['AttnUpDecoderBlock2D', 'UpDecoderBlock2D'],
    latent_channels: 4,
    norm_type: 'spatial',
    ...changes,
  });

const tiny = (name: string, changes: Record<string, unknown> = {}): ExportRequest =>
  request(name, 'AutoencoderTiny', {
    encoder_block_out_channels: [8, 8],
    decoder_block_out_channels: [8, 8],
    num_encoder_blocks: [1, 2],
    num_decoder_blocks: [2, 1],
    ...changes,
  });

const prior = (name: string, changes: Record<string, unknown> = {}): ExportRequest =>
  request(name, 'PriorTransformer', {
    num_attention_heads: 2,
    attention_head_dim: 12,
    num_layers: 2,
    embedding_dim: 24,
    num_embeddings: 9,
    ...changes,
  });

const vision = (
  name: string,
  className: string,
  changes: Record<string, unknown> = {},
): ExportRequest =>
  request(name, className, {
    hidden_size: 24,
    intermediate_size: 40,
    num_hidden_layers: 2,
    num_attention_heads: 4,
    image_size: 28,
    patch_size: 7,
    projection_dim: 18,
    ...changes,
  });

export const variants: readonly ExportRequest[] = [
  unet('two-levels'),
  unet('four-levels', { ...fourLevels, layers_per_block: 2 }),
  unet('heads-per-block', { ...fourLevels, attention_head_dim: [1, 2, 4, 4] }),
  unet('layers-per-block', { layers_per_block: [1, 2], transformer_layers_per_block: [1, 3] }),
  unet('linear-projection', { use_linear_projection: true }),
  unet('inpainting', { in_channels: 9 }),
  unet('timestep-cond', { time_cond_proj_dim: 12 }),
  unet('class-labels', { num_class_embeds: 50, only_cross_attention: [true, false] }),
  unet('class-timestep', { class_embed_type: 'timestep' }),
  unet('class-projection', {
    class_embed_type: 'projection',
    projection_class_embeddings_input_dim: 14,
  }),
  unet('text-time', {
    addition_embed_type: 'text_time',
    addition_time_embed_dim: 8,
    projection_class_embeddings_input_dim: 80,
  }),
  unet('text-projection', { encoder_hid_dim: 20 }),
  unet('scale-shift', { resnet_time_scale_shift: 'scale_shift', mid_block_scale_factor: 1.5 }),
  unet('no-middle', { mid_block_type: null, center_input_sample: true, freq_shift: 1 }),
  unet('one-level', {
    block_out_channels: [16],
    down_block_types: ['CrossAttnDownBlock2D'],
    up_block_types: ['CrossAttnUpBlock2D'],
  }),
  unet('other-activation', { act_fn: 'gelu', flip_sin_to_cos: false, downsample_padding: 0 }),
  unet('latent-upscaler', latentUpscaler),
  unet('by-image', byImage),
  unet('by-image-only-cross', { ...byImage, only_cross_attention: true }),
  controlnet('controlnet'),
  controlnet('controlnet-four-levels', {
    block_out_channels: [16, 16, 32, 32],
    down_block_types: [...Array<string>(3).fill('CrossAttnDownBlock2D'), 'DownBlock2D'],
    conditioning_embedding_out_channels: [4, 8, 8, 16],
    layers_per_block: 2,
  }),
  controlnet('controlnet-text-time', {
    addition_embed_type: 'text_time',
    addition_time_embed_dim: 8,
    projection_class_embeddings_input_dim: 80,
    transformer_layers_per_block: [1, 2],
    use_linear_projection: true,
    conditioning_channels: 1,
  }),
  controlnet('controlnet-no-attention', {
    down_block_types: ['DownBlock2D', 'DownBlock2D'],
    mid_block_type: 'UNetMidBlock2D',
    num_class_embeds: 7,
  }),
  autoencoder('autoencoder'),
  autoencoder('autoencoder-bare', {
    use_quant_conv: false,
    use_post_quant_conv: false,
    mid_block_add_attention: false,
    latent_channels: 3,
  }),
  vq('movq'),
  vq('vq-plain', {
    down_block_types: Array<string>(2).fill('DownEncoderBlock2D'),
    up_block_types: Array<string>(2).fill('UpDecoderBlock2D'),
    norm_type: 'group',
    vq_embed_dim: 6,
    norm_num_groups: 8,
    mid_block_add_attention: false,
  }),
  tiny('tiny'),
  tiny('tiny-wide', { latent_channels: 16, act_fn: 'silu', upsampling_scaling_factor: 3 }),
  prior('prior'),
  prior('prior-normed', {
    norm_in_type: 'layer',
    embedding_proj_norm_type: 'layer',
    embedding_proj_dim: 14,
    clip_embed_dim: 20,
    time_embed_dim: 30,
  }),
  vision('vision', 'CLIPVisionModelWithProjection'),
  vision('vision-gelu', 'CLIPVisionModelWithProjection', {
    hidden_act: 'gelu',
    layer_norm_eps: 1e-6,
  }),
  vision('safety-checker', 'StableDiffusionSafetyChecker'),
  text('text'),
  text('text-gelu', { hidden_act: 'gelu', layer_norm_eps: 1e-6 }),
  text('text-other-end', { eos_token_id: 7 }),
  text('text-projected', { projection_dim: 18 }, 'CLIPTextModelWithProjection'),
];
