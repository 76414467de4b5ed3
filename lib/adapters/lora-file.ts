// LoRA files: which layers of which network they change, and by what. Spec of the formats: diffusers'
// loaders/lora_pipeline.py and lora_conversion_utils.py, Kohya's sd-scripts and LyCORIS.
import type { StoredTensor } from '../checkpoints/stored-tensor.js';
import { CheckpointError } from '../errors.js';
import type { Network } from '../networks/network.js';
import { adapterMetadata, scalingOf } from './lora-metadata.js';
import { type Layer, type LayerNames, layerNames } from './lora-names.js';
import { readNumbers, type TensorFile } from './tensor-file.js';

/** The networks that adapters change. */
export interface AdaptedNetworks {
  unet: Network;
  textEncoder?: Network | undefined;
  textEncoder2?: Network | undefined;
}

export type AdaptedName = keyof AdaptedNetworks;

/** The update of one layer: scaling · up · down (Hu et al., https://arxiv.org/abs/2106.09685). */
export interface LoraLayer {
  parameter: string;
  up: StoredTensor;
  down: StoredTensor;
  /** Kernel between two 1×1 convolutions, [R,R,h,w] (LoCon with Tucker decomposition). */
  middle?: StoredTensor | undefined;
  /** alpha / rank. */
  scaling: number;
}

type Part = 'up' | 'down' | 'middle' | 'alpha';

/** A key of the file, taken apart. */
interface Place {
  network: AdaptedName;
  /** The layer's name as the file has it. */
  name: string;
  layer: Layer | undefined;
  part: Part;
}

type Found = Partial<Record<Part, StoredTensor>> & { layer: Layer; name: string };

/**
 * The updates that a file holds, for each network that it changes.
 *
 * @throws CheckpointError that names the keys that fit no layer, factors that do not fit, or the
 * kind of adapter where it is another than LoRA
 */
export async function readLora(
  file: TensorFile,
  networks: AdaptedNetworks,
): Promise<Map<AdaptedName, LoraLayer[]>> {
  refuseOtherKinds(file);
  const names = new Map<AdaptedName, LayerNames>();
  for (const [name, network] of Object.entries(networks)) {
    if (network !== undefined) names.set(name as AdaptedName, layerNames(network as Network));
  }
  const found = collect(file, names);
  const metadata = adapterMetadata(file);
  const alphas = await readNumbers(
    new Map([...found].flatMap(([key, { alpha }]) => (alpha === undefined ? [] : [[key, alpha]]))),
  );
  const layers = new Map<AdaptedName, LoraLayer[]>();
  for (const [key, parts] of found) {
    const network = key.slice(0, key.indexOf(' ')) as AdaptedName;
    const { up, down, middle, rank } = checkFactors(file, parts);
    const scaling = scalingOf(metadata, network, parts.name, rank, alphas.get(key));
    if (!Number.isFinite(scaling)) {
      throw new CheckpointError(`The alpha of ${parts.name} in ${file.path} is no usable number.`);
    }
    const list = layers.get(network) ?? [];
    list.push({ parameter: parts.layer.parameter, up, down, middle, scaling });
    layers.set(network, list);
  }
  return layers;
}

const otherKinds: readonly [RegExp, string][] = [
  [/\.hada_/, 'a LoHa adapter'],
  [/\.lokr_/, 'a LoKr adapter'],
  [/\.(diff|diff_b|w_norm|b_norm)$/, 'an adapter with whole weight differences'],
  [/\.(on_input|a1\.weight)$/, 'an (IA)³ adapter'],
  [/\.lora_magnitude_vector/, 'a DoRA adapter'],
  [/\.oft_/, 'an OFT adapter'],
];

function refuseOtherKinds({ path, tensors }: TensorFile): void {
  for (const key of tensors.keys()) {
    const kind = otherKindOf(key);
    if (kind === undefined) continue;
    throw new CheckpointError(
      `${path} holds ${kind} (${key}), which torchbrush does not support: it takes LoRA and LoCon.`,
    );
  }
}

/** The kind of adapter that a tensor belongs to, in words, where it is another than LoRA. */
export function otherKindOf(key: string): string | undefined {
  return otherKinds.find(([pattern]) => pattern.test(key))?.[1];
}

/** The parts of every layer, by `network layer`. */
function collect(file: TensorFile, names: Map<AdaptedName, LayerNames>): Map<string, Found> {
  const found = new Map<string, Found>();
  const unknown: string[] = [];
  for (const [key, tensor] of withoutDora(file)) {
    const place = placeOf(key, names);
    if (place?.layer === undefined) {
      unknown.push(key);
      continue;
    }
    const { network, name, layer, part } = place;
    const id = `${network} ${layer.parameter}`;
    const parts: Found = found.get(id) ?? { layer, name };
    if (parts[part] !== undefined) {
      throw new CheckpointError(`${file.path} has the ${part} factor of ${layer.parameter} twice.`);
    }
    parts[part] = tensor;
    found.set(id, parts);
  }
  if (unknown.length === 0 && found.size > 0) return found;
  const shown = unknown.slice(0, 5).join(', ');
  const more = unknown.length > 5 ? `, and ${unknown.length - 5} more` : '';
  throw new CheckpointError(
    `${file.path} does not fit this pipeline: no layer belongs to ${shown}${more}. Was it made for another base model?`,
  );
}

/** Without the magnitudes of DoRA, which diffusers leaves out too where Kohya's scripts wrote them. */
function withoutDora({ path, tensors }: TensorFile): [string, StoredTensor][] {
  const kept = [...tensors].filter(([key]) => !key.endsWith('.dora_scale'));
  if (kept.length < tensors.size) {
    process.emitWarning(
      `${path} is a DoRA adapter. Its magnitudes are ignored, as diffusers does, so the pictures are not quite those it was trained for.`,
      { code: 'TORCHBRUSH_DORA_IGNORED' },
    );
  }
  return kept;
}

const kohyaNetworks: Readonly<Record<string, AdaptedName>> = {
  unet: 'unet',
  te: 'textEncoder',
  te1: 'textEncoder',
  te2: 'textEncoder2',
};

const diffusersNetworks: Readonly<Record<string, AdaptedName>> = {
  'unet.': 'unet',
  'text_encoder.': 'textEncoder',
  'text_encoder_2.': 'textEncoder2',
};

const kohyaParts: Readonly<Record<string, Part>> = {
  'lora_down.weight': 'down',
  'lora_up.weight': 'up',
  'lora_mid.weight': 'middle',
  alpha: 'alpha',
};

/** Behind the layer's name; the early `to_q_lora.down` keeps its `_lora` as part of the name. */
const diffusersParts: readonly [RegExp, Part][] = [
  [/\.lora_A\.weight$/, 'down'],
  [/\.lora_B\.weight$/, 'up'],
  [/(?:\.lora|\.lora_linear_layer|(?<=_lora))\.down\.weight$/, 'down'],
  [/(?:\.lora|\.lora_linear_layer|(?<=_lora))\.up\.weight$/, 'up'],
  [/(?:\.lora)?\.alpha$/, 'alpha'],
];

function placeOf(key: string, names: Map<AdaptedName, LayerNames>): Place | undefined {
  const kohya = /^lora_(unet|te|te1|te2)_([^.]+)\.(.+)$/.exec(key);
  if (kohya !== null) {
    const [, prefix = '', name = '', rest = ''] = kohya;
    const network = kohyaNetworks[prefix] as AdaptedName;
    const part = Object.hasOwn(kohyaParts, rest) ? kohyaParts[rest] : undefined;
    return part && { network, name, layer: names.get(network)?.underscored(name), part };
  }
  const entry = Object.entries(diffusersNetworks).find(([prefix]) => key.startsWith(prefix));
  // The earliest files hold a UNet's layers only, under their bare names.
  const [prefix, network] = entry ?? (['', 'unet'] as const);
  const ending = diffusersParts.find(([pattern]) => pattern.test(key));
  if (ending === undefined) return undefined;
  const name = key.slice(prefix.length).replace(ending[0], '');
  return { network, name, layer: names.get(network)?.dotted(name), part: ending[1] };
}

/** The factors multiply to the layer's own shape. */
function checkFactors(file: TensorFile, parts: Found) {
  const { up, down, middle, layer, name } = parts;
  if (up === undefined || down === undefined) {
    const missing = up === undefined ? 'up' : 'down';
    throw new CheckpointError(`${file.path} lacks the ${missing} factor of ${name}.`);
  }
  for (const factor of [up, down, middle]) {
    if (factor === undefined || /float/.test(factor.dtype)) continue;
    throw new CheckpointError(`${file.path} has ${factor.dtype} numbers for ${name}, not floats.`);
  }
  const [rows = 0, inputs = 0, ...kernel] = layer.shape;
  const [outer = 0, rank = 0] = up.shape;
  const fits =
    outer === rows &&
    rank > 0 &&
    sizeOf(up) === rows * rank &&
    (middle === undefined
      ? down.shape[0] === rank && sizeOf(down) === (rank * sizeOf(layer)) / rows
      : middle.shape.join() === [rank, down.shape[0], ...kernel].join() &&
        sizeOf(down) === (down.shape[0] as number) * inputs);
  if (fits) return { up, down, middle, rank: middle === undefined ? rank : (down.shape[0] ?? 0) };
  const shapes = [up, middle, down].flatMap((factor) =>
    factor === undefined ? [] : `[${factor.shape.join(', ')}]`,
  );
  throw new CheckpointError(
    `The factors ${shapes.join(' · ')} of ${name} in ${file.path} do not make the layer's weight [${layer.shape.join(', ')}]. Was it made for another base model?`,
  );
}

function sizeOf({ shape }: { shape: readonly number[] }): number {
  return shape.reduce((product, size) => product * size, 1);
}
