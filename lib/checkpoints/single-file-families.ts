// The architectures that are known by their tensors, and what their files leave out: figures of the
// networks and the scheduler. Fields that have the class default are not repeated.
import type { JsonObject } from './json.js';
import type { StoredTensor } from './stored-tensor.js';

export interface Family {
  /** For messages. */
  name: string;
  /** The class of pipeline it is made for, or of the one model that a file may hold. */
  className: string;
  components: Readonly<Record<string, { className: string; config: JsonObject }>>;
  /** Undefined for a single model. */
  scheduler?: JsonObject;
  /** What model_index.json would say beside the parts, camelCase. */
  values?: Readonly<JsonObject>;
}

const fourLevels = [320, 640, 1280, 1280];

const unets = {
  sd1: { sample_size: 64, cross_attention_dim: 768 },
  sd2: {
    sample_size: 96,
    cross_attention_dim: 1024,
    attention_head_dim: [5, 10, 20, 20],
    use_linear_projection: true,
    upcast_attention: true,
  },
  xl: {
    sample_size: 128,
    block_out_channels: [320, 640, 1280],
    down_block_types: ['DownBlock2D', 'CrossAttnDownBlock2D', 'CrossAttnDownBlock2D'],
    up_block_types: ['CrossAttnUpBlock2D', 'CrossAttnUpBlock2D', 'UpBlock2D'],
    transformer_layers_per_block: [1, 2, 10],
    cross_attention_dim: 2048,
    attention_head_dim: [5, 10, 20],
    use_linear_projection: true,
    addition_embed_type: 'text_time',
    addition_time_embed_dim: 256,
    projection_class_embeddings_input_dim: 2816,
  },
  refiner: {
    sample_size: 128,
    block_out_channels: [384, 768, 1536, 1536],
    down_block_types: [
      'DownBlock2D',
      'CrossAttnDownBlock2D',
      'CrossAttnDownBlock2D',
      'DownBlock2D',
    ],
    up_block_types: ['UpBlock2D', 'CrossAttnUpBlock2D', 'CrossAttnUpBlock2D', 'UpBlock2D'],
    transformer_layers_per_block: 4,
    cross_attention_dim: 1280,
    attention_head_dim: [6, 12, 24, 24],
    use_linear_projection: true,
    addition_embed_type: 'text_time',
    addition_time_embed_dim: 256,
    projection_class_embeddings_input_dim: 2560,
  },
} satisfies Record<string, JsonObject>;

function autoencoder(sampleSize: number, scalingFactor: number) {
  const config: JsonObject = {
    sample_size: sampleSize,
    scaling_factor: scalingFactor,
    block_out_channels: [128, 256, 512, 512],
    layers_per_block: 2,
    down_block_types: Array(4).fill('DownEncoderBlock2D'),
    up_block_types: Array(4).fill('UpDecoderBlock2D'),
  };
  return { className: 'AutoencoderKL', config };
}

function textModel(className: string, width: number, layers: number, more: JsonObject) {
  const config: JsonObject = {
    vocab_size: 49408,
    max_position_embeddings: 77,
    hidden_size: width,
    intermediate_size: 4 * width,
    num_hidden_layers: layers,
    num_attention_heads: width / 64,
    bos_token_id: 0,
    eos_token_id: 2,
    pad_token_id: 1,
    ...more,
  };
  return { className, config };
}

const clipL = textModel('CLIPTextModel', 768, 12, {
  hidden_act: 'quick_gelu',
  projection_dim: 768,
});
const openClipH = textModel('CLIPTextModel', 1024, 23, { hidden_act: 'gelu', projection_dim: 512 });
const openClipG = textModel('CLIPTextModelWithProjection', 1280, 32, {
  hidden_act: 'gelu',
  projection_dim: 1280,
});

const noise = {
  beta_start: 0.00085,
  beta_end: 0.012,
  beta_schedule: 'scaled_linear',
  num_train_timesteps: 1000,
  set_alpha_to_one: false,
  skip_prk_steps: true,
  steps_offset: 1,
  trained_betas: null,
  clip_sample: false,
};
const eulerScheduler: JsonObject = {
  _class_name: 'EulerDiscreteScheduler',
  ...noise,
  interpolation_type: 'linear',
  prediction_type: 'epsilon',
  sample_max_value: 1,
  timestep_spacing: 'leading',
  use_karras_sigmas: false,
};

const unet = (config: JsonObject) => ({ className: 'UNet2DConditionModel', config });

const stableDiffusion1: Family = {
  name: 'Stable Diffusion 1',
  className: 'StableDiffusionPipeline',
  components: { unet: unet(unets.sd1), vae: autoencoder(512, 0.18215), text_encoder: clipL },
  scheduler: { _class_name: 'PNDMScheduler', ...noise },
};
// By its tensors 2.1 for 768 pixels and 2.1-base are one; diffusers takes all files for the former.
const stableDiffusion2: Family = {
  name: 'Stable Diffusion 2',
  className: 'StableDiffusionPipeline',
  components: { unet: unet(unets.sd2), vae: autoencoder(768, 0.18215), text_encoder: openClipH },
  scheduler: { _class_name: 'DDIMScheduler', ...noise, prediction_type: 'v_prediction' },
};
const stableDiffusionXl: Family = {
  name: 'Stable Diffusion XL',
  className: 'StableDiffusionXLPipeline',
  components: {
    unet: unet(unets.xl),
    vae: autoencoder(1024, 0.13025),
    text_encoder: clipL,
    text_encoder_2: openClipG,
  },
  scheduler: eulerScheduler,
  values: { forceZerosForEmptyPrompt: true },
};
const stableDiffusionXlRefiner: Family = {
  name: 'Stable Diffusion XL refiner',
  className: 'StableDiffusionXLImg2ImgPipeline',
  components: {
    unet: unet(unets.refiner),
    vae: autoencoder(1024, 0.13025),
    text_encoder_2: openClipG,
  },
  scheduler: eulerScheduler,
  values: { forceZerosForEmptyPrompt: false, requiresAestheticsScore: true },
};

function controlNet(
  name: string,
  { sample_size: _, up_block_types: __, ...config }: JsonObject,
): Family {
  const className = 'ControlNetModel';
  return {
    name: `ControlNet for ${name}`,
    className,
    components: {
      controlnet: { className, config: { block_out_channels: fourLevels, ...config } },
    },
  };
}

/** Families by the width of the text embeddings that their UNet attends to. */
const byTextWidth: ReadonlyMap<number, Family> = new Map([
  [768, stableDiffusion1],
  [1024, stableDiffusion2],
  [2048, stableDiffusionXl],
  [1280, stableDiffusionXlRefiner],
]);
const controlNetsByTextWidth: ReadonlyMap<number, Family> = new Map([
  [768, controlNet('Stable Diffusion 1', unets.sd1)],
  [1024, controlNet('Stable Diffusion 2', unets.sd2)],
  [2048, controlNet('Stable Diffusion XL', unets.xl)],
]);
const autoencoderAlone: Family = {
  name: 'autoencoder',
  className: 'AutoencoderKL',
  components: { vae: autoencoder(512, 0.18215) },
};

/** For messages. */
export const familyNames: readonly string[] = [
  ...byTextWidth.values(),
  ...controlNetsByTextWidth.values(),
  autoencoderAlone,
].map(({ name }) => name);

const textKey = 'input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight';
const controlNetKeys = ['input_hint_block.0.weight', 'controlnet_cond_embedding.conv_in.weight'];
const modernTextKey = 'down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight';

/** What a file's tensors say that it is; undefined where they say nothing that is known. */
export function findFamily(tensors: ReadonlyMap<string, StoredTensor>): Family | undefined {
  const size = (name: string, dimension: number) => tensors.get(name)?.shape[dimension] ?? 0;
  for (const prefix of ['control_model.', '']) {
    if (!controlNetKeys.some((key) => tensors.has(prefix + key))) continue;
    const width = size(prefix + textKey, 1) || size(prefix + modernTextKey, 1);
    return controlNetsByTextWidth.get(width);
  }
  if (tensors.has('decoder.conv_in.weight')) return autoencoderAlone;
  // Networks that take more than latents, and one that needs a scheduler of its own.
  const isPlain = size('model.diffusion_model.input_blocks.0.0.weight', 1) === 4;
  if (!isPlain || tensors.has('edm_mean')) return undefined;
  return byTextWidth.get(size(`model.diffusion_model.${textKey}`, 1));
}
