import { CheckpointError } from '../errors.js';
import {
  type ArchitectureRule,
  type Config,
  type ConfigValue,
  collapsePerBlock,
} from './architecture-rule.js';

/** Lists that have one value per down block. */
const perBlockFields = [
  'up_block_types',
  'block_out_channels',
  'layers_per_block',
  'cross_attention_dim',
  'transformer_layers_per_block',
  'reverse_transformer_layers_per_block',
  'attention_head_dim',
  'only_cross_attention',
];

/**
 * `UNet2DConditionModel`.
 *
 * `attention_head_dim` keeps its published name although it holds the number of heads in the usual
 * blocks. `upcast_attention` is not listed: scaled dot-product attention never looked at it, so
 * Stable Diffusion 2.1 and 2.1-base are one architecture.
 */
export const unet2DConditionModel: ArchitectureRule = {
  fields: {
    in_channels: { kind: 'integer', default: 4, always: true },
    out_channels: { kind: 'integer', default: 4, always: true },
    down_block_types: {
      kind: 'strings',
      default: [
        'CrossAttnDownBlock2D',
        'CrossAttnDownBlock2D',
        'CrossAttnDownBlock2D',
        'DownBlock2D',
      ],
      always: true,
    },
    mid_block_type: {
      kind: 'string',
      default: 'UNetMidBlock2DCrossAttn',
      always: true,
      nullable: true,
    },
    up_block_types: {
      kind: 'strings',
      default: ['UpBlock2D', 'CrossAttnUpBlock2D', 'CrossAttnUpBlock2D', 'CrossAttnUpBlock2D'],
      always: true,
    },
    block_out_channels: { kind: 'integers', default: [320, 640, 1280, 1280], always: true },
    layers_per_block: { kind: 'integerPerBlock', default: 2, always: true },
    cross_attention_dim: { kind: 'integerPerBlock', default: 1280, always: true },
    attention_head_dim: { kind: 'integerPerBlock', default: 8, always: true },
    transformer_layers_per_block: { kind: 'integersPerBlock', default: 1, always: true },
    use_linear_projection: { kind: 'boolean', default: false, always: true },
    norm_num_groups: { kind: 'integer', default: 32, always: true, nullable: true },
    center_input_sample: { kind: 'boolean', default: false },
    flip_sin_to_cos: { kind: 'boolean', default: true },
    freq_shift: { kind: 'number', default: 0 },
    only_cross_attention: { kind: 'booleanPerBlock', default: false },
    mid_block_only_cross_attention: { kind: 'boolean', default: null },
    downsample_padding: { kind: 'integer', default: 1 },
    mid_block_scale_factor: { kind: 'number', default: 1 },
    act_fn: { kind: 'string', default: 'silu' },
    norm_eps: { kind: 'number', default: 1e-5 },
    reverse_transformer_layers_per_block: { kind: 'integersPerBlock', default: null },
    num_attention_heads: { kind: 'integerPerBlock', default: null },
    encoder_hid_dim: { kind: 'integer', default: null },
    encoder_hid_dim_type: { kind: 'string', default: null },
    dual_cross_attention: { kind: 'boolean', default: false },
    class_embed_type: { kind: 'string', default: null },
    num_class_embeds: { kind: 'integer', default: null },
    addition_embed_type: { kind: 'string', default: null },
    addition_time_embed_dim: { kind: 'integer', default: null },
    addition_embed_type_num_heads: { kind: 'integer', default: 64 },
    projection_class_embeddings_input_dim: { kind: 'integer', default: null },
    class_embeddings_concat: { kind: 'boolean', default: false },
    resnet_time_scale_shift: { kind: 'string', default: 'default' },
    resnet_skip_time_act: { kind: 'boolean', default: false },
    resnet_out_scale_factor: { kind: 'number', default: 1 },
    time_embedding_type: { kind: 'string', default: 'positional' },
    time_embedding_dim: { kind: 'integer', default: null },
    time_embedding_act_fn: { kind: 'string', default: null },
    timestep_post_act: { kind: 'string', default: null },
    time_cond_proj_dim: { kind: 'integer', default: null },
    conv_in_kernel: { kind: 'integer', default: 3 },
    conv_out_kernel: { kind: 'integer', default: 3 },
    attention_type: { kind: 'string', default: 'default' },
    cross_attention_norm: { kind: 'string', default: null },
  },

  prepare(config) {
    // An early revision of the x2 latent upscaler calls the field by its other name.
    const legacy = config.timestep_act_2;
    if (legacy === undefined || config.timestep_post_act != null) return config;
    return { ...config, timestep_post_act: legacy };
  },

  normalize(config) {
    checkBlockCounts('UNet2DConditionModel', perBlockFields, config);
    const result: Record<string, ConfigValue> = { ...config };
    // The first releases wrote 'UNetResDownBlock2D' and the like.
    for (const name of ['down_block_types', 'up_block_types']) {
      result[name] = (config[name] as readonly string[]).map((type) =>
        type.replace(/^UNetRes/, ''),
      );
    }
    for (const name of [
      'layers_per_block',
      'cross_attention_dim',
      'attention_head_dim',
      'num_attention_heads',
      'transformer_layers_per_block',
    ]) {
      result[name] = collapsePerBlock(config[name] ?? null);
    }
    // A list of true is no scalar true: only the scalar reaches the middle block.
    if (collapsePerBlock(config.only_cross_attention ?? false) === false) {
      result.only_cross_attention = false;
    }
    // Without a value of its own the middle block follows a scalar and ignores a list.
    const inherited = Array.isArray(result.only_cross_attention)
      ? false
      : result.only_cross_attention;
    if (result.mid_block_only_cross_attention === inherited) {
      result.mid_block_only_cross_attention = null;
    }
    if (config.encoder_hid_dim !== null && config.encoder_hid_dim_type === null) {
      result.encoder_hid_dim_type = 'text_proj';
    }
    dropUnusedEmbeddings(result);
    if (result.class_embed_type === null && result.num_class_embeds === null) {
      result.class_embeddings_concat = false;
    }
    return result;
  },
};

/** Fields that only some embeddings read are noise beside the others. */
export function dropUnusedEmbeddings(config: Record<string, ConfigValue>): void {
  const { addition_embed_type: addition, class_embed_type: classes } = config;
  if (addition !== 'text') config.addition_embed_type_num_heads = 64;
  if (addition !== 'text_time') config.addition_time_embed_dim = null;
  if (addition !== 'text_time' && classes !== 'projection' && classes !== 'simple_projection') {
    config.projection_class_embeddings_input_dim = null;
  }
  if (classes !== null) config.num_class_embeds = null;
}

/** @throws CheckpointError where a list has not one value for each down block */
export function checkBlockCounts(
  className: string,
  fields: readonly string[],
  config: Config,
): void {
  const blocks = (config.down_block_types as readonly string[]).length;
  for (const name of fields) {
    const value = config[name];
    if (Array.isArray(value) && value.length !== blocks) {
      throw new CheckpointError(
        `Expected ${blocks} values for ${name} in the ${className} config, one per entry ` +
          `of down_block_types, but received ${value.length}.`,
      );
    }
  }
}
