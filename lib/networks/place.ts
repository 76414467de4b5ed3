// Which of a checkpoint's tensors fills which parameter of which program.
import { isHarmless } from '../checkpoints/layouts.js';
import { type StoredTensor, withoutTrailingOnes } from '../checkpoints/stored-tensor.js';
import type { Placement } from '../core.js';
import { CheckpointError } from '../errors.js';
import type { LoadedProgram } from './programs.js';

/**
 * Gives every parameter of every program its tensor; each tensor is used at most once.
 *
 * @throws CheckpointError that names missing, surplus and misshapen tensors
 */
export function place(
  programs: Map<string, LoadedProgram>,
  tensors: Map<string, StoredTensor>,
  className: string,
  origin: string,
): Map<string, Placement[]> {
  const unused = new Set(tensors.keys());
  const missing: string[] = [];
  const misshapen: string[] = [];
  const whole: string[] = [];
  const placements = new Map<string, Placement[]>();
  for (const [entry, { native }] of programs) {
    const filled: Placement[] = [];
    for (const { name, shape } of native.parameters) {
      const tensor = tensors.get(name);
      unused.delete(name);
      if (tensor === undefined) missing.push(name);
      else if (!fits(tensor.shape, shape)) {
        misshapen.push(`${name} is [${tensor.shape.join(', ')}], expected [${shape.join(', ')}]`);
      } else if (!/float/.test(tensor.dtype)) whole.push(`${name} is ${tensor.dtype}`);
      else filled.push({ parameter: name, ...withoutTrailingOnes(tensor, shape.length) });
    }
    placements.set(entry, filled);
  }
  const surplus = [...unused].filter((name) => !isHarmless(className, name));
  const faults = [
    list('missing', missing),
    list('with another shape', misshapen),
    list('that are no floating-point numbers', whole),
    list('that the architecture has no place for', surplus),
  ].filter((line) => line !== '');
  if (faults.length > 0) {
    throw new CheckpointError(
      `The weights in ${origin} do not fit its configuration (${className}):\n${faults.join('\n')}`,
    );
  }
  return placements;
}

// Some conversions store linear layers as 1×1 convolutions.
function fits(stored: readonly number[], wanted: readonly number[]): boolean {
  return stored.length >= wanted.length && stored.every((size, i) => size === (wanted[i] ?? 1));
}

function list(kind: string, names: string[]): string {
  if (names.length === 0) return '';
  const shown = names.slice(0, 5).join(', ');
  const more = names.length > 5 ? `, and ${names.length - 5} more` : '';
  return `  ${names.length} ${names.length === 1 ? 'tensor' : 'tensors'} ${kind}: ${shown}${more}`;
}
