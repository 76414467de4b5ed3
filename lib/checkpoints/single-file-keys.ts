// Tensor names of the original implementations (latent-diffusion, ControlNet, OpenCLIP), and what
// today's classes call them. Renames apply one after the other, each to what the last one left.
import type { JsonObject } from './json.js';
import { partOf, type StoredTensor, transposed, withoutTrailingOnes } from './stored-tensor.js';

type Rename = readonly [RegExp, string | ((match: string, ...groups: string[]) => string)];
type View = readonly [RegExp, (name: string, tensor: StoredTensor) => [string, StoredTensor][]];

export interface KeyLayout {
  /** Found in published files and of no use. */
  dropped: readonly RegExp[];
  renames: readonly Rename[];
  /** Tensors that are cut or turned, by their new names. */
  views: readonly View[];
}

/**
 * `input_blocks.7.` and the like number the layers of all blocks in one row; each block has as many
 * as the configuration says and one more, which resizes.
 */
function numbered(prefix: string, first: number, layers: number, name: string): Rename {
  return [
    new RegExp(`^${prefix.replaceAll('.', '\\.').replace('#', '(\\d+)')}`),
    (_, digits) => {
      const index = Number(digits) - first;
      const block = Math.floor(index / (layers + 1));
      return name.replace('{block}', `${block}`).replace('{layer}', `${index % (layers + 1)}`);
    },
  ];
}

/** What UNets and ControlNets have in common. */
function encoderRenames(layers: number): Rename[] {
  return [
    [/^time_embed\.0\./, 'time_embedding.linear_1.'],
    [/^time_embed\.2\./, 'time_embedding.linear_2.'],
    [/^label_emb\.0\.0\./, 'add_embedding.linear_1.'],
    [/^label_emb\.0\.2\./, 'add_embedding.linear_2.'],
    [/^input_blocks\.0\.0\./, 'conv_in.'],
    numbered('input_blocks.#.0.op.', 1, layers, 'down_blocks.{block}.downsamplers.0.conv.'),
    numbered('input_blocks.#.0.', 1, layers, 'down_blocks.{block}.resnets.{layer}.'),
    numbered('input_blocks.#.1.', 1, layers, 'down_blocks.{block}.attentions.{layer}.'),
    [/^middle_block\.0\./, 'mid_block.resnets.0.'],
    [/^middle_block\.1\./, 'mid_block.attentions.0.'],
    [/^middle_block\.2\./, 'mid_block.resnets.1.'],
    [/\.in_layers\.0\./, '.norm1.'],
    [/\.in_layers\.2\./, '.conv1.'],
    [/\.out_layers\.0\./, '.norm2.'],
    [/\.out_layers\.3\./, '.conv2.'],
    [/\.emb_layers\.1\./, '.time_emb_proj.'],
    [/\.skip_connection\./, '.conv_shortcut.'],
  ];
}

function unetLayout(config: JsonObject): KeyLayout {
  const layers = layersPerBlock(config);
  return {
    dropped: [],
    renames: [
      numbered('output_blocks.#.1.conv.', 0, layers, 'up_blocks.{block}.upsamplers.0.conv.'),
      numbered('output_blocks.#.2.conv.', 0, layers, 'up_blocks.{block}.upsamplers.0.conv.'),
      numbered('output_blocks.#.0.', 0, layers, 'up_blocks.{block}.resnets.{layer}.'),
      numbered('output_blocks.#.1.', 0, layers, 'up_blocks.{block}.attentions.{layer}.'),
      [/^out\.0\./, 'conv_norm_out.'],
      [/^out\.2\./, 'conv_out.'],
      ...encoderRenames(layers),
    ],
    views: [],
  };
}

function controlNetLayout(config: JsonObject): KeyLayout {
  return {
    dropped: [],
    renames: [
      [/^zero_convs\.(\d+)\.0\./, 'controlnet_down_blocks.$1.'],
      [/^middle_block_out\.0\./, 'controlnet_mid_block.'],
      [/^input_hint_block\.0\./, 'controlnet_cond_embedding.conv_in.'],
      [/^input_hint_block\.14\./, 'controlnet_cond_embedding.conv_out.'],
      // Convolutions with an activation after each.
      [
        /^input_hint_block\.(\d+)\./,
        (_, digits) => `controlnet_cond_embedding.blocks.${Number(digits) / 2 - 1}.`,
      ],
      ...encoderRenames(layersPerBlock(config)),
    ],
    views: [],
  };
}

function autoencoderLayout(config: JsonObject): KeyLayout {
  const levels = Array.isArray(config.block_out_channels) ? config.block_out_channels.length : 1;
  return {
    dropped: [/^loss\./, /^model_ema\./],
    renames: [
      [/^(encoder|decoder)\.norm_out\./, '$1.conv_norm_out.'],
      [/^encoder\.down\.(\d+)\.block\./, 'encoder.down_blocks.$1.resnets.'],
      [/^encoder\.down\.(\d+)\.downsample\./, 'encoder.down_blocks.$1.downsamplers.0.'],
      // Counted from the picture there, from the latents here.
      [/^decoder\.up\.(\d+)\./, (_, digits) => `decoder.up_blocks.${levels - 1 - Number(digits)}.`],
      [/^(decoder\.up_blocks\.\d+)\.block\./, '$1.resnets.'],
      [/^(decoder\.up_blocks\.\d+)\.upsample\./, '$1.upsamplers.0.'],
      [/\.nin_shortcut\./, '.conv_shortcut.'],
      [/\.mid\.block_1\./, '.mid_block.resnets.0.'],
      [/\.mid\.block_2\./, '.mid_block.resnets.1.'],
      [/\.mid\.attn_1\./, '.mid_block.attentions.0.'],
      [/(\.attentions\.0)\.norm\./, '$1.group_norm.'],
      [/(\.attentions\.0)\.([qkv])\./, '$1.to_$2.'],
      [/(\.attentions\.0)\.proj_out\./, '$1.to_out.0.'],
    ],
    views: [
      [
        /\.attentions\.0\.to_(q|k|v|out\.0)\.weight$/,
        (name, tensor) => [[name, withoutTrailingOnes(tensor, 2)]],
      ],
    ],
  };
}

function clipLayout(): KeyLayout {
  return { dropped: [], renames: [], views: [] };
}

function openClipLayout(config: JsonObject, className: string): KeyLayout {
  const layers = Number(config.num_hidden_layers ?? 12);
  const isProjected = className === 'CLIPTextModelWithProjection';
  return {
    // Stable Diffusion 2 takes the output of the layer before the last, which is left out here.
    dropped: [
      new RegExp(`^transformer\\.resblocks\\.${layers}\\.`),
      /^(attn_mask|logit_scale)$/,
      ...(isProjected ? [] : [/^text_projection$/]),
    ],
    renames: [
      [/^positional_embedding$/, 'embeddings.position_embedding.weight'],
      [/^token_embedding\./, 'embeddings.token_embedding.'],
      [/^ln_final\./, 'final_layer_norm.'],
      [/^text_projection$/, 'text_projection.weight'],
      [/^transformer\.resblocks\./, 'encoder.layers.'],
      [/\.ln_(1|2)\./, '.layer_norm$1.'],
      [/\.mlp\.c_fc\./, '.mlp.fc1.'],
      [/\.mlp\.c_proj\./, '.mlp.fc2.'],
      [/\.attn\.in_proj_(weight|bias)$/, '.self_attn.qkv.$1'],
      [/\.attn\.out_proj\./, '.self_attn.out_proj.'],
    ],
    views: [
      [/^text_projection\.weight$/, (name, tensor) => [[name, transposed(tensor)]]],
      [
        /\.self_attn\.qkv\./,
        (name, tensor) =>
          ['q_proj', 'k_proj', 'v_proj'].map((part, i) => [
            name.replace('qkv', part),
            partOf(tensor, i, 3),
          ]),
      ],
    ],
  };
}

function layersPerBlock({ layers_per_block: layers }: JsonObject): number {
  return typeof layers === 'number' ? layers : 2;
}

/** Of each kind of part. */
export const keyLayouts = {
  unet: unetLayout,
  controlnet: controlNetLayout,
  vae: autoencoderLayout,
  clip: clipLayout,
  openClip: openClipLayout,
} satisfies Record<string, (config: JsonObject, className: string) => KeyLayout>;

export type KeyKind = keyof typeof keyLayouts;

/** Tensors under today's names. Those that no rename knows keep theirs, so that they are noticed. */
export function convertKeys(
  tensors: Iterable<readonly [string, StoredTensor]>,
  { dropped, renames, views }: KeyLayout,
): Map<string, StoredTensor> {
  const converted = new Map<string, StoredTensor>();
  for (const [original, tensor] of tensors) {
    if (dropped.some((pattern) => pattern.test(original))) continue;
    let name = original;
    for (const [pattern, replacement] of renames) {
      name = name.replace(pattern, replacement as string);
    }
    const view = views.find(([pattern]) => pattern.test(name))?.[1];
    for (const [key, value] of view?.(name, tensor) ?? [[name, tensor]]) converted.set(key, value);
  }
  return converted;
}
