/**
 * The functions of numpy and torch whose rounding decides a noise schedule.
 *
 * A schedule is a few hundred numbers that diffusers computes partly in float32, partly in float64,
 * with numpy and torch mixed. Timesteps are then rounded or truncated to whole numbers, so a last
 * bit can decide which timestep the network sees. Hence these follow the originals to the bit,
 * where the original is defined to the bit.
 */

/** Rounds to the nearest whole number, halves to the even one, as numpy does. */
export function roundHalfEven(x: number): number {
  const rounded = Math.round(x);
  return x - Math.floor(x) === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded;
}

/** `numpy.linspace(start, stop, count)`: float64, the last value exactly `stop`. */
export function linspace(start: number, stop: number, count: number): number[] {
  const delta = stop - start;
  const step = count > 1 ? delta / (count - 1) : delta;
  const values = Array.from({ length: count }, (_, i) => i * step + start);
  if (count > 1) values[count - 1] = stop;
  return values;
}

/**
 * `numpy.arange(start, stop, step)`: float64. The increment is the rounded difference of the first
 * two values and the length a rounded quotient, so some steps give one value more than expected.
 */
export function arange(start: number, stop: number, step: number): number[] {
  const length = Math.max(Math.ceil((stop - start) / step), 0);
  const increment = start + step - start;
  return Array.from({ length }, (_, i) => start + i * increment);
}

/**
 * `torch.linspace(start, stop, count)` in float32: counted from both ends to the middle, each value
 * rounded once (the product of a float32 and a small integer is exact in float64).
 */
export function linspaceFloat32(start: number, stop: number, count: number): Float32Array {
  const first = Math.fround(start);
  const last = Math.fround(stop);
  const values = new Float32Array(count);
  if (count === 1) {
    values[0] = first;
    return values;
  }
  const step = Math.fround(Math.fround(last - first) / Math.fround(count - 1));
  const halfway = Math.floor(count / 2);
  for (let i = 0; i < count; i++) {
    values[i] = i < halfway ? first + step * i : last - step * (count - i - 1);
  }
  return values;
}

/** `numpy.interp(x, range(len(table)), table)`: linear in between, clamped at the ends. */
export function interpolate(x: number, table: ArrayLike<number>): number {
  const last = table.length - 1;
  if (x <= 0) return at(table, 0);
  if (x >= last) return at(table, last);
  const low = Math.floor(x);
  const value = at(table, low);
  if (x === low) return value;
  return (at(table, low + 1) - value) * (x - low) + value;
}

/** The element at a whole index, negative ones counted from the end as in Python. */
export function at<T>(list: ArrayLike<T>, index: number): T {
  const value = list[index < 0 ? index + list.length : index];
  if (value === undefined) throw new RangeError(`index ${index} of ${list.length}`);
  return value;
}

/** A product plus a sum, rounded once to float32. */
function multiplyAdd(a: number, b: number, c: number): number {
  return Math.fround(a * b + c);
}

const SQRT2 = Math.fround(Math.SQRT2);
const LN2 = Math.fround(Math.LN2);
// The rational approximation of ln(1 + z) that numpy's vectorised float32 logarithm uses
// (numpy/_core/src/umath/npy_simd_data.h), highest power first.
const LOG_NUMERATOR = Float32Array.of(
  0.025899791179079226,
  0.3808837741388408,
  1.4800006335765066,
  2.112677543073053,
  0.9999999999999999,
  0,
);
const LOG_DENOMINATOR = Float32Array.of(
  0.005875095403124574,
  0.15464763749839067,
  0.9864942958519419,
  2.453006071784736,
  2.6126775430731093,
  1,
);

function polynomial(coefficients: Float32Array, z: number): number {
  return coefficients.reduce((sum, coefficient) => multiplyAdd(sum, z, coefficient));
}

/**
 * `numpy.log` of a positive float32, to the bit. It is not correctly rounded, and the difference
 * decides whether the first of the exponential and beta sigmas becomes timestep 999 or 998.
 */
export function logFloat32(x: number): number {
  if (!(x > 0) || x === Number.POSITIVE_INFINITY) return Math.fround(Math.log(x));
  let exponent = Math.floor(Math.log2(x));
  let mantissa = x / 2 ** exponent;
  if (mantissa < 1) {
    mantissa *= 2;
    exponent -= 1;
  } else if (mantissa >= 2) {
    mantissa /= 2;
    exponent += 1;
  }
  if (mantissa > SQRT2) {
    mantissa /= 2;
    exponent += 1;
  }
  const z = Math.fround(mantissa - 1);
  const ratio = Math.fround(polynomial(LOG_NUMERATOR, z) / polynomial(LOG_DENOMINATOR, z));
  return multiplyAdd(exponent, LN2, ratio);
}

/** `exp(lerp(log(a), log(b), 0.5))` of float32 tensors in torch, rounded after each operation. */
export function geometricMeanFloat32(a: number, b: number): number {
  const start = Math.fround(Math.log(a));
  const end = Math.fround(Math.log(b));
  return Math.fround(Math.exp(Math.fround(end - Math.fround(end - start) / 2)));
}

/** The x for which `matrix` · x = `vector`, by elimination with the largest pivot of each column. */
export function solveLinear(
  matrix: readonly (readonly number[])[],
  vector: readonly number[],
): number[] {
  const rows = matrix.map((row, i) => [...row, at(vector, i)]);
  for (let column = 0; column < rows.length; column++) {
    const candidates = rows.slice(column);
    const pivot = candidates.reduce((best, row) =>
      Math.abs(at(row, column)) > Math.abs(at(best, column)) ? row : best,
    );
    rows.splice(rows.indexOf(pivot), 1);
    rows.splice(column, 0, pivot);
    for (const row of rows) {
      const factor = at(row, column) / at(pivot, column);
      if (row !== pivot)
        pivot.forEach((value, j) => {
          row[j] = at(row, j) - factor * value;
        });
    }
  }
  return rows.map((row, i) => at(row, -1) / at(row, i));
}
