// The tensor operations that diffusion needs around the networks. All run at once on the calling
// thread, take tensors without disposing them and return fresh ones.

import type { Core, NativeTensor, OperatorArgument } from './core.js';
import type { Generator } from './generator.js';
import { call, native } from './native.js';
import { type DType, Tensor } from './tensor.js';

type Operator = (...values: OperatorArgument[]) => unknown;
const operators = new Map<string, Operator>();
let operatorsOf: Core | undefined;

function run(name: string, ...values: OperatorArgument[]): Tensor {
  const core = native();
  if (operatorsOf !== core) operators.clear();
  operatorsOf = core;
  let operator = operators.get(name);
  if (operator === undefined) {
    const [base = '', overload = ''] = name.split('.');
    operator = call(() => core.operator(`aten::${base}`, overload));
    operators.set(name, operator);
  }
  const ready = operator;
  return call(() => new Tensor(ready(...values) as NativeTensor));
}

/**
 * Σ coefficients[i]·tensors[i], summed in float32 (float64 if a tensor is), in the dtype of the first
 * tensor unless `dtype` says otherwise. The tensors have one shape.
 */
export function linearCombination(
  coefficients: readonly number[],
  tensors: readonly Tensor[],
  options: { dtype?: DType } = {},
): Tensor {
  return call((core) => {
    const handles = tensors.map((tensor) => tensor.native);
    return new Tensor(core.linearCombination(coefficients, handles, options.dtype));
  });
}

/** Standard normal numbers, drawn on the CPU in `dtype` and then moved, as diffusers does. */
export function randn(
  shape: readonly number[],
  options: { generator: Generator; dtype?: DType; device?: string },
): Tensor {
  const { generator, dtype = 'float32', device = 'cpu' } = options;
  const drawn = call((core) => new Tensor(core.randn(shape, generator.native, dtype)));
  if (device === 'cpu') return drawn;
  using onCpu = drawn;
  return onCpu.to({ device });
}

export function full(
  shape: readonly number[],
  value: number,
  options: { dtype?: DType; device?: string } = {},
): Tensor {
  const { dtype = 'float32', device = 'cpu' } = options;
  return run('full', shape, value, dtype, undefined, device);
}

export function concat(tensors: readonly Tensor[], dim = 0): Tensor {
  return run(
    'cat',
    tensors.map((tensor) => tensor.native),
    dim,
  );
}

/** A view of `length` entries from `start` along `dim`. */
export function narrow(tensor: Tensor, dim: number, start: number, length: number): Tensor {
  return run('narrow', tensor.native, dim, start, length);
}

/** Puts numbers into a tensor's own memory: only for one that nobody else has seen yet. */
export function overwrite(target: Tensor, source: Tensor): void {
  run('copy_', target.native, source.native).dispose();
}

/** Tiles: a, b → a, b, a, b. */
export function repeat(tensor: Tensor, repeats: readonly number[]): Tensor {
  return run('repeat', tensor.native, repeats);
}

/** Repeats each entry: a, b → a, a, b, b. */
export function repeatInterleave(tensor: Tensor, times: number, dim = 0): Tensor {
  return run('repeat_interleave.self_int', tensor.native, times, dim);
}

export function reshape(tensor: Tensor, shape: readonly number[]): Tensor {
  return run('reshape', tensor.native, shape);
}

export function contiguous(tensor: Tensor): Tensor {
  return run('contiguous', tensor.native);
}

export function clamp(tensor: Tensor, min: number | undefined, max: number | undefined): Tensor {
  return run('clamp', tensor.native, min, max);
}

export function add(a: Tensor, b: Tensor): Tensor {
  return run('add.Tensor', a.native, b.native);
}

export function subtract(a: Tensor, b: Tensor): Tensor {
  return run('sub.Tensor', a.native, b.native);
}

export function multiply(a: Tensor, b: Tensor): Tensor {
  return run('mul.Tensor', a.native, b.native);
}

export function divide(a: Tensor, b: Tensor): Tensor {
  return run('div.Tensor', a.native, b.native);
}

export function abs(tensor: Tensor): Tensor {
  return run('abs', tensor.native);
}

export function exp(tensor: Tensor): Tensor {
  return run('exp', tensor.native);
}

export function log(tensor: Tensor): Tensor {
  return run('log', tensor.native);
}

export function sin(tensor: Tensor): Tensor {
  return run('sin', tensor.native);
}

export function cos(tensor: Tensor): Tensor {
  return run('cos', tensor.native);
}

export function sqrt(tensor: Tensor): Tensor {
  return run('sqrt', tensor.native);
}

/** Linear interpolation between order statistics, as torch.quantile. */
export function quantile(tensor: Tensor, q: number, dim: number, keepdim = false): Tensor {
  return run('quantile.scalar', tensor.native, q, dim, keepdim);
}

/** Unbiased standard deviation over `dims`. */
export function std(tensor: Tensor, dims: readonly number[], keepdim = false): Tensor {
  return run('std.correction', tensor.native, dims, 1, keepdim);
}

export function mean(tensor: Tensor, dims: readonly number[], keepdim = false): Tensor {
  return run('mean.dim', tensor.native, dims, keepdim);
}

export function addScalar(tensor: Tensor, value: number): Tensor {
  return run('add.Scalar', tensor.native, value);
}

/** Nearest-neighbour resize of [B,C,H,W]. */
export function resizeNearest(tensor: Tensor, height: number, width: number): Tensor {
  return run('upsample_nearest2d', tensor.native, [height, width]);
}

/** Whether any element is below `limit`. */
export function anyBelow(tensor: Tensor, limit: number): boolean {
  using smallest = run('min', tensor.native);
  using single = smallest.to({ dtype: 'float32', device: 'cpu' });
  return (single.data[0] as number) < limit;
}
