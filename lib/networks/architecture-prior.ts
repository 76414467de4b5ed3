import type { ArchitectureRule } from './architecture-rule.js';

/** `PriorTransformer`, the first half of Kandinsky 2.2. */
export const priorTransformer: ArchitectureRule = {
  fields: {
    num_attention_heads: { kind: 'integer', default: 32, always: true },
    attention_head_dim: { kind: 'integer', default: 64, always: true },
    num_layers: { kind: 'integer', default: 20, always: true },
    embedding_dim: { kind: 'integer', default: 768, always: true },
    num_embeddings: { kind: 'integer', default: 77, always: true },
    additional_embeddings: { kind: 'integer', default: 4 },
    time_embed_act_fn: { kind: 'string', default: 'silu' },
    norm_in_type: { kind: 'string', default: null },
    embedding_proj_norm_type: { kind: 'string', default: null },
    encoder_hid_proj_type: { kind: 'string', default: 'linear', nullable: true },
    added_emb_type: { kind: 'string', default: 'prd', nullable: true },
    time_embed_dim: { kind: 'integer', default: null },
    embedding_proj_dim: { kind: 'integer', default: null },
    clip_embed_dim: { kind: 'integer', default: null },
  },

  normalize(config) {
    const width = Number(config.num_attention_heads) * Number(config.attention_head_dim);
    const unlessUsual = (name: string, usual: unknown) =>
      config[name] === usual ? null : (config[name] ?? null);
    return {
      ...config,
      time_embed_dim: unlessUsual('time_embed_dim', width),
      embedding_proj_dim: unlessUsual('embedding_proj_dim', config.embedding_dim),
      clip_embed_dim: unlessUsual('clip_embed_dim', config.embedding_dim),
    };
  },
};
