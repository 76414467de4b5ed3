// How strongly a LoRA counts: alpha / rank, from whichever place a file gives alpha in.
import { CheckpointError } from '../errors.js';
import type { AdaptedName } from './lora-file.js';
import type { TensorFile } from './tensor-file.js';

/** peft's configuration of one network's adapter, as far as it changes numbers. */
interface PeftConfig {
  alpha: number;
  /** Alphas of single layers, by the end of their names. */
  alphaPattern: readonly [string, number][];
  /** alpha / √rank (Kalajdzievski, https://arxiv.org/abs/2312.03732). */
  rankStabilised: boolean;
}

export type PeftConfigs = ReadonlyMap<AdaptedName, PeftConfig>;

const prefixes: readonly [string, AdaptedName][] = [
  ['unet.', 'unet'],
  ['text_encoder.', 'textEncoder'],
  ['text_encoder_2.', 'textEncoder2'],
];

/** What diffusers writes into a file's header. @throws CheckpointError */
export function adapterMetadata({ path, metadata }: TensorFile): PeftConfigs {
  const configs = new Map<AdaptedName, PeftConfig>();
  const text = metadata.lora_adapter_metadata;
  if (text === undefined) return configs;
  const bad = (problem: string) =>
    new CheckpointError(`The lora_adapter_metadata of ${path} ${problem}.`);
  const all = parseObject(text);
  if (all === undefined) throw bad('is no JSON object');
  for (const [prefix, network] of prefixes) {
    const field = (name: string): unknown => all[`${prefix}${name}`];
    const alpha = field('lora_alpha');
    if (alpha === undefined) continue;
    if (typeof alpha !== 'number') throw bad('has a lora_alpha that is no number');
    if (field('use_dora') === true) throw bad('says DoRA, which torchbrush does not support');
    const pattern = Object.entries(field('alpha_pattern') ?? {}).map(
      ([name, value]): [string, number] => {
        if (typeof value !== 'number')
          throw bad('has an alpha_pattern of something else than numbers');
        if (!/^\^?[\w.]+$/.test(name))
          throw bad(`has a regular expression in alpha_pattern, ${name}`);
        return [name, value];
      },
    );
    configs.set(network, {
      alpha,
      alphaPattern: pattern,
      rankStabilised: field('use_rslora') === true,
    });
  }
  return configs;
}

function parseObject(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? { ...value } : undefined;
  } catch {
    return undefined;
  }
}

/** Without an alpha anywhere, alpha is the rank. */
export function scalingOf(
  configs: PeftConfigs,
  network: AdaptedName,
  name: string,
  rank: number,
  alpha: number | undefined,
): number {
  const config = configs.get(network);
  if (config === undefined) return (alpha ?? rank) / rank;
  const own = config.alphaPattern.find(([end]) =>
    end.startsWith('^') ? name === end.slice(1) : name === end || name.endsWith(`.${end}`),
  );
  return (own?.[1] ?? config.alpha) / (config.rankStabilised ? Math.sqrt(rank) : rank);
}
