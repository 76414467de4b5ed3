// What LoRA files call a network's layers. Names are looked up among the layers that the network
// has; nothing is guessed from a name's form.
import type { Network } from '../networks/network.js';

/** A layer that can take an update: a weight with at least two dimensions. */
export interface Layer {
  /** `'mid_block.attentions.0.proj_in.weight'` */
  parameter: string;
  shape: readonly number[];
}

/** The layers of a network under every name that a file may use. */
export interface LayerNames {
  /** diffusers' and peft's names: `'mid_block.attentions.0.proj_in'`. */
  dotted(name: string): Layer | undefined;
  /** Kohya's: `'mid_block_attentions_0_proj_in'`, or after the original, `'middle_block_1_proj_in'`. */
  underscored(name: string): Layer | undefined;
}

export function layerNames(network: Network): LayerNames {
  const layers = new Map<string, Layer>();
  for (const [parameter, shape] of network.parameters) {
    const isTable = /embedding\.weight$/.test(parameter);
    if (!parameter.endsWith('.weight') || shape.length < 2 || isTable) continue;
    layers.set(parameter.slice(0, -'.weight'.length), { parameter, shape });
  }
  const isUNet = network.className === 'UNet2DConditionModel';
  const names = [...layers.keys()];
  const aliases = isUNet ? originalNames(names, network.config.layers_per_block) : [];
  const underscored = new Map<string, Layer>();
  for (const [alias, name] of [...aliases, ...names.map((name) => [name, name] as const)]) {
    underscored.set(alias.replaceAll('.', '_'), layers.get(name) as Layer);
  }
  return {
    dotted: (name) => layers.get(modern(name.replace('.processor.', '.'), isUNet)),
    underscored: (name) =>
      underscored.get(name) ?? underscored.get(name.replace(/^text_model_/, '')),
  };
}

/** Text encoders lost a wrapping module in transformers 5; early files name the processor's layers. */
function modern(name: string, isUNet: boolean): string {
  const early = /^(.*)\.to_(q|k|v|out)_lora$/.exec(name);
  const plain = isUNet ? name : name.replace(/^text_model\./, '');
  if (early === null) return plain;
  const [, owner = '', part = ''] = early;
  if (isUNet) return `${owner}.to_${part === 'out' ? 'out.0' : part}`;
  return `${owner.replace(/^text_model\./, '')}.${part}_proj`;
}

/**
 * The names that the original latent-diffusion code gives a UNet's layers, which counts all blocks
 * through: `input_blocks.4.1` is the attention of the fourth. Pairs of [original name, name].
 */
function originalNames(names: readonly string[], layersPerBlock: unknown): [string, string][] {
  if (typeof layersPerBlock !== 'number') return [];
  const down = layersPerBlock + 1;
  const has = (prefix: string) => names.some((name) => name.startsWith(prefix));
  const block = (name: string): string | undefined => {
    const [, side, i = '0', kind, j = '0', rest = ''] =
      /^(down|mid|up)_blocks?\.(?:(\d+)\.)?(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.*)$/.exec(
        name,
      ) ?? [];
    const at = Number(i) * down + Number(j);
    if (kind === 'downsamplers') return `input_blocks.${Number(i) * down + down}.0.op`;
    if (kind === 'upsamplers') {
      const place = has(`up_blocks.${i}.attentions.`) ? 2 : 1;
      return `output_blocks.${Number(i) * down + layersPerBlock}.${place}.${rest}`;
    }
    const part = kind === 'resnets' ? 0 : 1;
    if (side === 'mid')
      return `middle_block.${part === 0 ? 2 * Number(j) : 1}.${originalPart(rest)}`;
    if (side === 'down') return `input_blocks.${at + 1}.${part}.${originalPart(rest)}`;
    return side === 'up' ? `output_blocks.${at}.${part}.${originalPart(rest)}` : undefined;
  };
  return names.flatMap((name): [string, string][] => {
    const original = outside[name] ?? block(name);
    return original === undefined ? [] : [[original, name]];
  });
}

/** Layers outside the blocks. */
const outside: Readonly<Record<string, string>> = {
  conv_in: 'input_blocks.0.0',
  conv_out: 'out.2',
  'time_embedding.linear_1': 'time_embed.0',
  'time_embedding.linear_2': 'time_embed.2',
  'add_embedding.linear_1': 'label_emb.0.0',
  'add_embedding.linear_2': 'label_emb.0.2',
};

/** Layers of a residual block; those of attention are called the same. */
const residual: Readonly<Record<string, string>> = {
  conv1: 'in_layers.2',
  time_emb_proj: 'emb_layers.1',
  conv2: 'out_layers.3',
  conv_shortcut: 'skip_connection',
};

function originalPart(rest: string): string {
  return residual[rest] ?? rest;
}
