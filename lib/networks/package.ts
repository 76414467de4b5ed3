// AOTInductor packages: what the exporter wrote down about them, and the weights that they need.
import { readWeights } from '../checkpoints/weights.js';
import type { NativeForeign, NativeTensor, Placement } from '../core.js';
import { CheckpointError, TorchbrushError } from '../errors.js';
import { callAsync } from '../native.js';
import type { DType } from '../tensor.js';

export interface PackageInput {
  name: string;
  shape: number[];
  dtype: string;
}

/** What the exporter wrote down about an entry. */
interface PackageRecord {
  inputs: PackageInput[];
  outputs: string[];
  /** What the code computes in. */
  dtype: DType;
  device: string;
  /** For each constant of the code the weight that it is, and its shape. */
  constants: Record<string, { parameter: string; shape: number[] }>;
}

export interface PackageOptions {
  path: string;
  className: string;
  entries: readonly string[];
  folder: string;
  variant?: string | undefined;
  dtype: DType;
  device: string;
}

export interface FilledEntry {
  name: string;
  inputs: PackageInput[];
  outputs: string[];
}

/**
 * Gives a package the weights of its folder. The code itself checks nothing: a weight of another shape
 * would be read beyond its end.
 *
 * @throws CheckpointError where weights are missing or do not fit, or the code is for another dtype
 */
export async function fillPackage(
  native: NativeForeign,
  options: PackageOptions,
): Promise<FilledEntry[]> {
  const { path, folder, className, variant, dtype } = options;
  const { tensors } = await readWeights(folder, className, variant);
  const filled: FilledEntry[] = [];
  for (const name of options.entries) {
    const record = readRecord(native.signature(name).metadata, path);
    if (record.dtype !== dtype || record.device !== options.device.split(':')[0]) {
      throw new CheckpointError(
        `${path} is compiled for ${record.dtype} on ${record.device}; it cannot compute in ${dtype} on ${options.device}. Pass that dtype and device, or compile it again.`,
      );
    }
    const placements: Placement[] = [];
    for (const [constant, { parameter, shape }] of Object.entries(record.constants)) {
      const tensor = tensors.get(parameter);
      if (tensor === undefined) {
        throw new CheckpointError(`${path} needs the weight ${parameter}, which ${folder} lacks.`);
      }
      if (tensor.shape.join() !== shape.join()) {
        throw new CheckpointError(
          `${path} needs ${parameter} as [${shape.join(', ')}], and it is [${tensor.shape.join(', ')}].`,
        );
      }
      placements.push({ ...tensor, parameter: constant });
    }
    await callAsync(() => native.fill(name, placements, dtype));
    filled.push({ name, inputs: record.inputs, outputs: record.outputs });
  }
  return filled;
}

/**
 * The code reads as many numbers as it was compiled for, whatever it is given.
 *
 * @throws TorchbrushError `ERR_PROGRAM` for inputs of other shapes or dtypes
 */
export function checkInputs(
  wanted: readonly PackageInput[],
  given: readonly (NativeTensor | null)[],
): void {
  for (const [i, { name, shape, dtype }] of wanted.entries()) {
    const tensor = given[i];
    const found = tensor ? `${tensor.dtype} [${tensor.shape.join(', ')}]` : 'nothing';
    const compiled = `${dtype} [${shape.join(', ')}]`;
    if (found === compiled) continue;
    throw new TorchbrushError(
      `The package is compiled for ${name} as ${compiled} and received ${found}. Compile one for these sizes.`,
      { code: 'ERR_PROGRAM' },
    );
  }
}

function readRecord(metadata: string, path: string): PackageRecord {
  try {
    const record = JSON.parse(metadata) as Partial<PackageRecord>;
    const { inputs, outputs, constants } = record;
    const isWhole =
      Array.isArray(inputs) && Array.isArray(outputs) && typeof constants === 'object';
    if (isWhole) return record as PackageRecord;
  } catch {
    // Said below.
  }
  throw new CheckpointError(
    `${path} does not say what it takes. Make it with scripts/export/aoti.py.`,
  );
}
