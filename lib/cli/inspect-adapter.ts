// What inspect finds out about LoRA and textual inversion files, which fit a checkpoint or do not.
import { stat } from 'node:fs/promises';

import { otherKindOf } from '../adapters/lora-file.js';
import { readTensorFile, type TensorFile } from '../adapters/tensor-file.js';
import { openInversion } from '../adapters/textual-inversion-file.js';
import { CheckpointError, InvalidArgumentError } from '../errors.js';
import { sums } from './inspect-report.js';

export interface AdapterReport {
  kind: 'lora' | 'textual-inversion';
  path: string;
  bytes: number;
  dtypes: string[];
  parameters: number;
  /** What it was made for, as far as the file says or its sizes tell. */
  base: string | undefined;
  /** LoRA: who names layers like this, the networks with how many layers, and the ranks. */
  format?: 'kohya' | 'diffusers';
  networks?: Record<string, number>;
  ranks?: number[];
  /** Textual inversion: what to write in prompts, and how many tokens it takes. */
  token?: string | undefined;
  vectors?: number;
  /** What training programs note about the file. */
  notes: Record<string, string>;
  commands: string[];
  problem?: string;
  ready: boolean;
}

/** Width of the text embeddings that a checkpoint's networks attend to. */
const bases: Readonly<Record<number, string>> = {
  768: 'Stable Diffusion 1.x',
  1024: 'Stable Diffusion 2.x',
  2048: 'Stable Diffusion XL',
  1280: 'Stable Diffusion XL refiner',
};

const loraKey = /lora|\.alpha$|\.hada_|\.lokr_|\.oft_|dora_scale|\.diff(_b)?$|^lycoris_/;

/** Undefined where the file is no adapter. */
export async function inspectAdapter(path: string): Promise<AdapterReport | undefined> {
  const file = await readTensorFile(path);
  const { size: bytes } = await stat(path);
  const common = { path, bytes, ...sums(file.tensors), notes: notesOf(file) };
  if ([...file.tensors.keys()].some((key) => loraKey.test(key))) {
    return {
      ...common,
      kind: 'lora',
      ...loraOf(file),
      commands: ['img2img --lora', 'txt2img --lora'],
    };
  }
  const inversion = inversionOf(file);
  if (inversion === undefined) return undefined;
  const commands = ['img2img --textual-inversion', 'txt2img --textual-inversion'];
  return { ...common, kind: 'textual-inversion', ...inversion, commands, ready: true };
}

function loraOf({ tensors, metadata }: TensorFile) {
  const networks: Record<string, Set<string>> = {};
  const ranks = new Set<number>();
  let base: string | undefined;
  let format: AdapterReport['format'] = 'diffusers';
  for (const [key, { shape }] of tensors) {
    if (/^lora_(unet|te\d?)_/.test(key)) format = 'kohya';
    const layer = key.replace(
      /\.(lora_(down|up|mid|A|B)\.weight|lora(_linear_layer)?\.(down|up)\.weight|alpha|dora_scale)$/,
      '',
    );
    const network = networkOf(key);
    networks[network] ??= new Set();
    networks[network].add(layer.replace(/_lora\.(down|up)\.weight$/, ''));
    if (!/(lora_down|lora_A|down)\.weight$/.test(key)) continue;
    if (shape[0] !== undefined) ranks.add(shape[0]);
    if (/attn2[._](processor\.)?to_k/.test(key)) base ??= bases[shape[1] ?? 0];
  }
  const other = [...tensors.keys()].map(otherKindOf).find((kind) => kind !== undefined);
  const named = metadata['modelspec.architecture'] ?? metadata.ss_base_model_version;
  return {
    base: base ?? named,
    format,
    networks: Object.fromEntries(Object.entries(networks).map(([name, set]) => [name, set.size])),
    ranks: [...ranks].sort((a, b) => a - b),
    ready: other === undefined,
    ...(other !== undefined && {
      problem: `it is ${other}; torchbrush takes LoRA and LoCon`,
    }),
  };
}

function networkOf(key: string): string {
  if (/^(lora_te2_|text_encoder_2\.)/.test(key)) return 'text_encoder_2';
  return /^(lora_te1?_|text_encoder\.)/.test(key) ? 'text_encoder' : 'unet';
}

function inversionOf(file: TensorFile) {
  try {
    const { vectors } = openInversion(file, 'x');
    const [first] = vectors.values();
    const shape = first?.shape ?? [];
    let token: string | undefined;
    try {
      token = openInversion(file, undefined).token;
    } catch (error) {
      if (!(error instanceof InvalidArgumentError)) throw error;
    }
    return {
      token,
      vectors: shape.length > 1 ? (shape[0] ?? 1) : 1,
      base: vectors.has('clip_g') ? bases[2048] : bases[shape.at(-1) ?? 0],
    };
  } catch (error) {
    if (error instanceof CheckpointError) return undefined;
    throw error;
  }
}

const noted =
  /^(ss_sd_model_name|ss_base_model_version|ss_output_name|ss_network_module|ss_training_comment|modelspec\.(title|architecture|author|description|trigger_phrase)|name)$/;

function notesOf({ metadata }: TensorFile): Record<string, string> {
  return Object.fromEntries(
    Object.entries(metadata)
      .filter(([name, value]) => noted.test(name) && value !== '' && value !== 'None')
      .map(([name, value]) => [name, value.length > 200 ? `${value.slice(0, 200)}…` : value]),
  );
}
