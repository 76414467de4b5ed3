/** Quantiles of the Beta distribution that beta sigmas are spaced by. */

const SHAPE = 0.6; // both parameters, as in https://arxiv.org/abs/2407.12173
// B(0.6, 0.6) = Γ(0.6)² / Γ(1.2)
const BETA = 2.4153442080024723;

/**
 * The regularised incomplete beta function I_x(0.6, 0.6) for x ≤ ½, by its power series
 * x^a / (a B) · ₂F₁(a, 1 − b; a + 1; x), whose terms shrink at least by half.
 */
function cumulative(x: number): number {
  let power = 1;
  let sum = 1 / SHAPE;
  for (let n = 1; n < 100; n++) {
    power *= ((n - SHAPE) / n) * x;
    const term = power / (SHAPE + n);
    sum += term;
    if (term < sum * 1e-18) break;
  }
  return (x ** SHAPE / BETA) * sum;
}

const density = (x: number): number => (x * (1 - x)) ** (SHAPE - 1) / BETA;

/** The x for which a Beta(0.6, 0.6) variable is at most x with the given probability (0 to 1). */
export function betaQuantile(probability: number): number {
  if (probability <= 0) return 0;
  if (probability >= 1) return 1;
  if (probability === 0.5) return 0.5;
  // The distribution is symmetric, and the series is for the lower half.
  if (probability > 0.5) return 1 - betaQuantile(1 - probability);
  // Newton from the leading term x^a / (a B); the remaining error is quadratic in x.
  let x = Math.min((probability * SHAPE * BETA) ** (1 / SHAPE), 0.5);
  for (let i = 0; i < 20; i++) {
    const next = x - (cumulative(x) - probability) / density(x);
    const bounded = Math.min(Math.max(next, x / 2), 0.5);
    if (Math.abs(bounded - x) <= 1e-16 * x) return bounded;
    x = bounded;
  }
  return x;
}
