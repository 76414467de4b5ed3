/**
 * Sums of scaled tensors that are not computed yet.
 *
 * The update of nearly every sampler is linear in the sample, the model outputs and fresh noise.
 * Samplers write their formulas with these, coefficient by coefficient in float64, and the whole
 * step becomes one pass over the tensors.
 */

import { linearCombination } from '../ops.js';
import type { DType, Tensor } from '../tensor.js';

/** Σ coefficient · operand. The operands are tensors, or anything that stands for them in a test. */
export type LinearForm<T> = readonly (readonly [coefficient: number, operand: T])[];

/** `form` times a number. */
export function times<T>(factor: number, form: LinearForm<T>): LinearForm<T> {
  return form.map(([coefficient, operand]) => [factor * coefficient, operand]);
}

/** The sum of forms, equal operands merged. */
export function plus<T>(...forms: readonly LinearForm<T>[]): LinearForm<T> {
  const sums = new Map<T, number>();
  for (const [coefficient, operand] of forms.flat()) {
    sums.set(operand, (sums.get(operand) ?? 0) + coefficient);
  }
  return [...sums].map(([operand, coefficient]) => [coefficient, operand]);
}

/** `form` minus `other`. */
export function minus<T>(form: LinearForm<T>, other: LinearForm<T>): LinearForm<T> {
  return plus(form, times(-1, other));
}

/** Computes a form. A fresh tensor. */
export function evaluate(form: LinearForm<Tensor>, dtype: DType): Tensor {
  const merged = plus(form);
  const needed = merged.filter(([coefficient]) => coefficient !== 0);
  const terms = needed.length > 0 ? needed : merged;
  return linearCombination(
    terms.map(([coefficient]) => coefficient),
    terms.map(([, tensor]) => tensor),
    { dtype },
  );
}

/** The dtype of an elementwise result of both. */
export function promote(a: DType, b: DType): DType {
  if (a === b) return a;
  return a === 'float64' || b === 'float64' ? 'float64' : 'float32';
}
