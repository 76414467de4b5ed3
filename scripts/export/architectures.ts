import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../../lib/package-root.js';

/** An architecture whose programs ship with the package. */
export interface BundledArchitecture {
  /** Names the program files. */
  name: string;
  className: string;
  config: Record<string, unknown>;
}

const published: readonly BundledArchitecture[] = [
  {
    // Stable Diffusion 1.1 to 1.5 and their fine-tunes.
    name: 'unet-sd1',
    className: 'UNet2DConditionModel',
    config: {
      block_out_channels: [320, 640, 1280, 1280],
      layers_per_block: 2,
      cross_attention_dim: 768,
      attention_head_dim: 8,
    },
  },
  {
    // The autoencoder of Stable Diffusion 1, 2 and XL: eight pixels a latent, four channels.
    name: 'autoencoder-kl-f8',
    className: 'AutoencoderKL',
    config: {
      block_out_channels: [128, 256, 512, 512],
      layers_per_block: 2,
      down_block_types: Array<string>(4).fill('DownEncoderBlock2D'),
      up_block_types: Array<string>(4).fill('UpDecoderBlock2D'),
    },
  },
  {
    // The text half of CLIP ViT-L/14: Stable Diffusion 1 and the first encoder of XL.
    name: 'clip-vit-l14-text',
    className: 'CLIPTextModel',
    config: {
      hidden_size: 768,
      intermediate_size: 3072,
      num_hidden_layers: 12,
      num_attention_heads: 12,
      eos_token_id: 2,
    },
  },
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

function ofDemo(name: string, className: string, component: string): BundledArchitecture {
  const file = join(packageRoot, 'models', 'demo', component, 'config.json');
  return { name, className, config: JSON.parse(readFileSync(file, 'utf8')) };
}
