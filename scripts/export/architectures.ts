import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { demoModel } from '../../lib/package-root.js';

/** An architecture whose programs ship with the package. */
export interface BundledArchitecture {
  /** Names the program files. */
  name: string;
  className: string;
  config: Record<string, unknown>;
}

const sd1Unet = {
  block_out_channels: [320, 640, 1280, 1280],
  layers_per_block: 2,
  cross_attention_dim: 768,
  attention_head_dim: 8,
};

/** The blocks of Stable Diffusion XL, which its ControlNets share. */
const sdxlDown = {
  block_out_channels: [320, 640, 1280],
  down_block_types: ['DownBlock2D', 'CrossAttnDownBlock2D', 'CrossAttnDownBlock2D'],
  transformer_layers_per_block: [1, 2, 10],
  attention_head_dim: [5, 10, 20],
  cross_attention_dim: 2048,
  use_linear_projection: true,
  addition_embed_type: 'text_time',
  addition_time_embed_dim: 256,
  projection_class_embeddings_input_dim: 2816,
};

const unets: Readonly<Record<string, Record<string, unknown>>> = {
  // Stable Diffusion 1.1 to 1.5 and their fine-tunes.
  'unet-sd1': sd1Unet,
  'unet-sd1-inpainting': { ...sd1Unet, in_channels: 9 },
  // Latent consistency models, which take the guidance scale as an input.
  'unet-lcm': { ...sd1Unet, time_cond_proj_dim: 256 },
  // Stable Diffusion 2.0 and 2.1, both sizes, and SD-Turbo.
  'unet-sd2': {
    ...sd1Unet,
    cross_attention_dim: 1024,
    attention_head_dim: [5, 10, 20, 20],
    use_linear_projection: true,
  },
  // Stable Diffusion XL and SDXL-Turbo.
  'unet-sdxl': {
    ...sdxlDown,
    up_block_types: ['CrossAttnUpBlock2D', 'CrossAttnUpBlock2D', 'UpBlock2D'],
  },
  'unet-sdxl-refiner': {
    ...sdxlDown,
    block_out_channels: [384, 768, 1536, 1536],
    down_block_types: [
      'DownBlock2D',
      'CrossAttnDownBlock2D',
      'CrossAttnDownBlock2D',
      'DownBlock2D',
    ],
    up_block_types: ['UpBlock2D', 'CrossAttnUpBlock2D', 'CrossAttnUpBlock2D', 'UpBlock2D'],
    transformer_layers_per_block: 4,
    attention_head_dim: [6, 12, 24, 24],
    cross_attention_dim: 1280,
    projection_class_embeddings_input_dim: 2560,
  },
  // Latents with three channels of the small picture beside them; the class is the noise level.
  'unet-x4-upscaler': {
    in_channels: 7,
    block_out_channels: [256, 512, 512, 1024],
    down_block_types: ['DownBlock2D', ...Array<string>(3).fill('CrossAttnDownBlock2D')],
    up_block_types: [...Array<string>(3).fill('CrossAttnUpBlock2D'), 'UpBlock2D'],
    attention_head_dim: 8,
    cross_attention_dim: 1024,
    only_cross_attention: [true, true, true, false],
    use_linear_projection: true,
    num_class_embeds: 1000,
  },
  // Latents twice, noisy and as they were before; predicts the variance in a fifth channel.
  'unet-x2-upscaler': {
    in_channels: 8,
    out_channels: 5,
    block_out_channels: [384, 384, 768, 768],
    down_block_types: ['KDownBlock2D', ...Array<string>(3).fill('KCrossAttnDownBlock2D')],
    mid_block_type: null,
    up_block_types: [...Array<string>(3).fill('KCrossAttnUpBlock2D'), 'KUpBlock2D'],
    layers_per_block: 4,
    attention_head_dim: 64,
    cross_attention_dim: 768,
    norm_num_groups: null,
    act_fn: 'gelu',
    time_embedding_type: 'fourier',
    timestep_post_act: 'gelu',
    time_cond_proj_dim: 896,
    resnet_time_scale_shift: 'scale_shift',
    conv_in_kernel: 1,
    conv_out_kernel: 1,
  },
  // The decoder: its condition is a picture's embedding, and it predicts the variance as well.
  'unet-kandinsky-2-2': {
    out_channels: 8,
    block_out_channels: [384, 768, 1152, 1536],
    down_block_types: [
      'ResnetDownsampleBlock2D',
      ...Array<string>(3).fill('SimpleCrossAttnDownBlock2D'),
    ],
    mid_block_type: 'UNetMidBlock2DSimpleCrossAttn',
    up_block_types: [...Array<string>(3).fill('SimpleCrossAttnUpBlock2D'), 'ResnetUpsampleBlock2D'],
    layers_per_block: 3,
    attention_head_dim: 64,
    cross_attention_dim: 768,
    encoder_hid_dim: 1280,
    encoder_hid_dim_type: 'image_proj',
    addition_embed_type: 'image',
    resnet_time_scale_shift: 'scale_shift',
  },
};

const controlnets: Readonly<Record<string, Record<string, unknown>>> = {
  'controlnet-sd1': sd1Unet,
  'controlnet-sdxl': sdxlDown,
};

const autoencoder = (channels: readonly number[]): Record<string, unknown> => ({
  block_out_channels: channels,
  layers_per_block: 2,
  down_block_types: Array<string>(channels.length).fill('DownEncoderBlock2D'),
  up_block_types: Array<string>(channels.length).fill('UpDecoderBlock2D'),
});

const autoencoders: Readonly<Record<string, Record<string, unknown>>> = {
  // Stable Diffusion 1, 2 and XL: eight pixels a latent, four channels.
  'autoencoder-kl-f8': autoencoder([128, 256, 512, 512]),
  // The x4 upscaler: four pixels a latent.
  'autoencoder-kl-f4': autoencoder([128, 256, 512]),
};

const bigG = {
  hidden_size: 1280,
  intermediate_size: 5120,
  num_hidden_layers: 32,
  num_attention_heads: 20,
  hidden_act: 'gelu',
  eos_token_id: 2,
};

const textEncoders: Readonly<Record<string, Record<string, unknown>>> = {
  // CLIP ViT-L/14: Stable Diffusion 1, the x2 upscaler and the first encoder of XL.
  'clip-vit-l14-text': {
    hidden_size: 768,
    intermediate_size: 3072,
    num_hidden_layers: 12,
    num_attention_heads: 12,
    eos_token_id: 2,
  },
  // OpenCLIP ViT-H/14 without its last layer: Stable Diffusion 2 and the x4 upscaler.
  'clip-vit-h14-text': {
    hidden_size: 1024,
    intermediate_size: 4096,
    num_hidden_layers: 23,
    num_attention_heads: 16,
    hidden_act: 'gelu',
    eos_token_id: 2,
  },
  'clip-vit-bigg14-text': bigG,
};

const projectedTextEncoders: Readonly<Record<string, Record<string, unknown>>> = {
  // OpenCLIP ViT-bigG/14: the second encoder of XL, the refiner's, and Kandinsky 2.2's.
  'clip-vit-bigg14-text-projection': { ...bigG, projection_dim: 1280 },
};

const published: readonly BundledArchitecture[] = [
  ...ofClass('UNet2DConditionModel', unets),
  ...ofClass('ControlNetModel', controlnets),
  ...ofClass('AutoencoderKL', autoencoders),
  ...ofClass('CLIPTextModel', textEncoders),
  ...ofClass('CLIPTextModelWithProjection', projectedTextEncoders),
  {
    // Kandinsky 2.2's autoencoder, MoVQ.
    name: 'movq-kandinsky2',
    className: 'VQModel',
    config: {
      block_out_channels: [128, 256, 256, 512],
      layers_per_block: 2,
      down_block_types: [...Array<string>(3).fill('DownEncoderBlock2D'), 'AttnDownEncoderBlock2D'],
      up_block_types: ['AttnUpDecoderBlock2D', ...Array<string>(3).fill('UpDecoderBlock2D')],
      latent_channels: 4,
      norm_type: 'spatial',
    },
  },
  {
    // The tiny autoencoders of Stable Diffusion 1, 2 (taesd) and XL (taesdxl): all defaults.
    name: 'autoencoder-tiny-f8',
    className: 'AutoencoderTiny',
    config: {},
  },
  {
    name: 'prior-kandinsky2',
    className: 'PriorTransformer',
    config: { embedding_dim: 1280 },
  },
  {
    // The picture half of OpenCLIP ViT-bigG/14: Kandinsky 2.2's image encoder.
    name: 'clip-vit-bigg14-vision',
    className: 'CLIPVisionModelWithProjection',
    config: {
      hidden_size: 1664,
      intermediate_size: 8192,
      num_hidden_layers: 48,
      num_attention_heads: 16,
      patch_size: 14,
      projection_dim: 1280,
      hidden_act: 'gelu',
    },
  },
  {
    // Stable Diffusion 1's safety checker, which sees with CLIP ViT-L/14.
    name: 'safety-checker-vit-l14',
    className: 'StableDiffusionSafetyChecker',
    config: {
      hidden_size: 1024,
      intermediate_size: 4096,
      num_hidden_layers: 24,
      num_attention_heads: 16,
      patch_size: 14,
      projection_dim: 768,
    },
  },
];

/** Everything that `npm run export:programs` makes, in the order of the manifest. */
export function bundledArchitectures(): BundledArchitecture[] {
  return [
    ...published,
    ofDemo('demo-unet', 'UNet2DConditionModel', 'unet'),
    ofDemo('demo-autoencoder', 'AutoencoderKL', 'vae'),
    ofDemo('demo-text', 'CLIPTextModel', 'text_encoder'),
  ];
}

function ofClass(
  className: string,
  configs: Readonly<Record<string, Record<string, unknown>>>,
): BundledArchitecture[] {
  return Object.entries(configs).map(([name, config]) => ({ name, className, config }));
}

function ofDemo(name: string, className: string, component: string): BundledArchitecture {
  const file = join(demoModel, component, 'config.json');
  return { name, className, config: JSON.parse(readFileSync(file, 'utf8')) };
}
