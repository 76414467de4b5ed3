// Textual inversion files. Formats: diffusers' loaders/textual_inversion.py, A1111's embeddings.
import type { StoredTensor } from '../checkpoints/stored-tensor.js';
import { CheckpointError, expected } from '../errors.js';
import type { Tensor } from '../tensor.js';
import { readTensors, type TensorFile } from './tensor-file.js';

/** What files for Stable Diffusion XL call its two text encoders. */
export type EncoderName = 'clip_l' | 'clip_g';

export interface InversionFile {
  path: string;
  token: string;
  /** The vectors for each text encoder; a file for one encoder has those of the first. */
  vectors: ReadonlyMap<EncoderName, StoredTensor>;
}

/** More vectors than any text encoder takes tokens. */
const mostVectors = 1024;

/**
 * One tensor [N,D] or [D] under the token's name, or two for the encoders of Stable Diffusion XL.
 *
 * @throws CheckpointError for a file of another kind
 * @throws InvalidArgumentError where neither the file nor the caller names the token
 */
export function openInversion(
  { path, tensors, metadata }: TensorFile,
  token: string | undefined,
): InversionFile {
  const entries = [...tensors];
  const isPair = entries.every(([name]) => name === 'clip_l' || name === 'clip_g');
  if (entries.length !== 1 && !isPair) {
    throw new CheckpointError(
      `${path} is no textual inversion: it should hold one tensor but holds ${tensors.size}, ${entries[0]?.[0]} among them.`,
    );
  }
  const [[key, vectors]] = entries as [[string, StoredTensor]];
  const name = token ?? (isPair || key === '' ? undefined : key === '*' ? metadata.name : key);
  if (name === undefined || name.trim() === '') {
    throw expected('a text', 'token', token, `${path} does not say what to write in prompts.`);
  }
  const named = isPair
    ? (entries as [EncoderName, StoredTensor][])
    : [['clip_l', vectors] as const];
  for (const [, tensor] of named) checkVectors(path, tensor);
  return { path, token: name, vectors: new Map(named) };
}

function checkVectors(path: string, { shape, dtype }: StoredTensor): void {
  const count = shape.length === 1 ? 1 : (shape[0] ?? 0);
  const isMatrix = shape.length === 1 || shape.length === 2;
  if (isMatrix && count > 0 && count <= mostVectors && /float/.test(dtype)) return;
  throw new CheckpointError(
    `${path} is no textual inversion: it has ${dtype} [${shape.join(', ')}], not float vectors [N, D].`,
  );
}

/** Vectors as rows [N,width]. @throws CheckpointError where they have another width */
export async function readVectors(
  path: string,
  stored: StoredTensor,
  width: number,
): Promise<{ rows: Float32Array; count: number }> {
  const { shape } = stored;
  const size = shape.at(-1);
  if (size !== width) {
    throw new CheckpointError(
      `The vectors of ${path} have ${size} numbers, but this text encoder takes ${width}. It was made for another base model.`,
    );
  }
  using values = (await readTensors([stored]))[0] as Tensor;
  return { rows: await values.toFloat32Array(), count: shape.length === 1 ? 1 : (shape[0] ?? 0) };
}
