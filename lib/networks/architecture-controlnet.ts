import { type ArchitectureRule, type ConfigValue, collapsePerBlock } from './architecture-rule.js';
import { checkBlockCounts, dropUnusedEmbeddings } from './architecture-unet.js';

/** Lists that have one value per down block. */
const perBlockFields = [
  'block_out_channels',
  'transformer_layers_per_block',
  'attention_head_dim',
  'num_attention_heads',
  'only_cross_attention',
];

/**
 * `ControlNetModel`: the down half of a UNet with the same names for the same figures.
 *
 * The order of the picture's channels and the pooling of what comes out are done around the network,
 * so neither `controlnet_conditioning_channel_order` nor `global_pool_conditions` is listed.
 */
export const controlNetModel: ArchitectureRule = {
  fields: {
    in_channels: { kind: 'integer', default: 4, always: true },
    conditioning_channels: { kind: 'integer', default: 3, always: true },
    conditioning_embedding_out_channels: {
      kind: 'integers',
      default: [16, 32, 96, 256],
      always: true,
    },
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
    mid_block_type: { kind: 'string', default: 'UNetMidBlock2DCrossAttn', always: true },
    block_out_channels: { kind: 'integers', default: [320, 640, 1280, 1280], always: true },
    layers_per_block: { kind: 'integer', default: 2, always: true },
    cross_attention_dim: { kind: 'integer', default: 1280, always: true },
    attention_head_dim: { kind: 'integerPerBlock', default: 8, always: true },
    transformer_layers_per_block: { kind: 'integerPerBlock', default: 1, always: true },
    use_linear_projection: { kind: 'boolean', default: false, always: true },
    norm_num_groups: { kind: 'integer', default: 32, always: true },
    flip_sin_to_cos: { kind: 'boolean', default: true },
    freq_shift: { kind: 'number', default: 0 },
    only_cross_attention: { kind: 'booleanPerBlock', default: false },
    downsample_padding: { kind: 'integer', default: 1 },
    mid_block_scale_factor: { kind: 'number', default: 1 },
    act_fn: { kind: 'string', default: 'silu' },
    norm_eps: { kind: 'number', default: 1e-5 },
    num_attention_heads: { kind: 'integerPerBlock', default: null },
    encoder_hid_dim: { kind: 'integer', default: null },
    encoder_hid_dim_type: { kind: 'string', default: null },
    class_embed_type: { kind: 'string', default: null },
    num_class_embeds: { kind: 'integer', default: null },
    addition_embed_type: { kind: 'string', default: null },
    addition_time_embed_dim: { kind: 'integer', default: null },
    addition_embed_type_num_heads: { kind: 'integer', default: 64 },
    projection_class_embeddings_input_dim: { kind: 'integer', default: null },
    resnet_time_scale_shift: { kind: 'string', default: 'default' },
  },

  normalize(config) {
    checkBlockCounts('ControlNetModel', perBlockFields, config);
    const result: Record<string, ConfigValue> = { ...config };
    // Both name the number of heads, and the first is the one that counts.
    result.attention_head_dim = config.num_attention_heads ?? config.attention_head_dim ?? null;
    result.num_attention_heads = null;
    for (const name of [
      'attention_head_dim',
      'transformer_layers_per_block',
      'only_cross_attention',
    ]) {
      result[name] = collapsePerBlock(result[name] ?? null);
    }
    if (config.encoder_hid_dim !== null && config.encoder_hid_dim_type === null) {
      result.encoder_hid_dim_type = 'text_proj';
    }
    dropUnusedEmbeddings(result);
    return result;
  },
};
