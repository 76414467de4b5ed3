import type { ArchitectureRule, Config, ConfigValue } from './architecture-rule.js';

/** `CLIPVisionModelWithProjection`. */
export const clipVisionModelWithProjection: ArchitectureRule = {
  fields: {
    hidden_size: { kind: 'integer', default: 768, always: true },
    intermediate_size: { kind: 'integer', default: 3072, always: true },
    projection_dim: { kind: 'integer', default: 512, always: true },
    num_hidden_layers: { kind: 'integer', default: 12, always: true },
    num_attention_heads: { kind: 'integer', default: 12, always: true },
    num_channels: { kind: 'integer', default: 3, always: true },
    image_size: { kind: 'integer', default: 224, always: true },
    patch_size: { kind: 'integer', default: 32, always: true },
    hidden_act: { kind: 'string', default: 'quick_gelu', always: true },
    layer_norm_eps: { kind: 'number', default: 1e-5 },
  },
  prepare: (config) => (isConfig(config.vision_config) ? config.vision_config : config),
};

/**
 * `StableDiffusionSafetyChecker`: its config is that of a whole CLIP, of which it has the half that
 * sees. The projection's width stands beside both halves. The concepts are always 17 and 3.
 */
export const stableDiffusionSafetyChecker: ArchitectureRule = {
  fields: clipVisionModelWithProjection.fields,
  prepare: (config) => {
    // Where an old config says it twice, the library reads the short form and its own defaults.
    const vision = config.vision_config_dict ?? config.vision_config;
    // Without halves it is the canonical form already.
    if (!isConfig(vision)) return config;
    return { ...vision, projection_dim: config.projection_dim ?? null };
  },
};

function isConfig(value: ConfigValue | undefined): value is Config {
  return value != null && typeof value === 'object' && !Array.isArray(value);
}
