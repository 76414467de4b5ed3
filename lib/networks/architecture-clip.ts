import type { ArchitectureRule, Config, FieldRule } from './architecture-rule.js';

const textFields: Readonly<Record<string, FieldRule>> = {
  vocab_size: { kind: 'integer', default: 49408, always: true },
  hidden_size: { kind: 'integer', default: 512, always: true },
  intermediate_size: { kind: 'integer', default: 2048, always: true },
  num_hidden_layers: { kind: 'integer', default: 12, always: true },
  num_attention_heads: { kind: 'integer', default: 8, always: true },
  max_position_embeddings: { kind: 'integer', default: 77, always: true },
  hidden_act: { kind: 'string', default: 'quick_gelu', always: true },
  layer_norm_eps: { kind: 'number', default: 1e-5 },
  // Decides where the pooled output is read: at the first such token.
  eos_token_id: { kind: 'integer', default: 49407, always: true },
};

/**
 * What every config said before transformers 4.31, although no tokenizer agreed. The library still
 * takes it for "at the highest token id".
 */
const atHighestId = 2;

/** In CLIP's own vocabulary the end-of-text token is the highest id, so both rules are one. */
function mergeEndOfText(config: Config): Config {
  const isHighest = config.eos_token_id === Number(config.vocab_size) - 1;
  return isHighest ? { ...config, eos_token_id: atHighestId } : config;
}

/** The text half of a whole-CLIP config; a text encoder's own config is flat. */
function textConfig(config: Config): Config {
  const nested = config.text_config;
  if (nested === null || typeof nested !== 'object' || Array.isArray(nested)) return config;
  return nested as Config;
}

/** `CLIPTextModel`: the projection belongs to the class below, so its width does not count. */
export const clipTextModel: ArchitectureRule = {
  fields: textFields,
  prepare: textConfig,
  normalize: mergeEndOfText,
};

/** `CLIPTextModelWithProjection`. */
export const clipTextModelWithProjection: ArchitectureRule = {
  fields: { ...textFields, projection_dim: { kind: 'integer', default: 512, always: true } },
  prepare: textConfig,
  normalize: mergeEndOfText,
};
