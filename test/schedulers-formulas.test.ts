import assert from 'node:assert/strict';
import { test } from 'node:test';

import { ddimPrediction, ddimSigma } from '../lib/schedulers/ddim.js';
import { deisWeights } from '../lib/schedulers/deis-multistep.js';
import { singlestepOrders, singlestepUpdate } from '../lib/schedulers/dpm-solver-singlestep.js';
import { addsNoise, DPM_ALGORITHMS, solverUpdate } from '../lib/schedulers/dpm-solver-updates.js';
import { ancestralStep } from '../lib/schedulers/euler-ancestral-discrete.js';
import { denoised, eulerUpdate } from '../lib/schedulers/euler-discrete.js';
import { boundaryScalings } from '../lib/schedulers/lcm.js';
import { type LinearForm, minus, plus, times } from '../lib/schedulers/linear-form.js';
import { adamsBashforth, pndmTransfer } from '../lib/schedulers/pndm.js';
import {
  imageFromNoise,
  noiseFromImage,
  noiseLevel,
  predictedImage,
} from '../lib/schedulers/solver-model.js';
import { aimedTimestep } from '../lib/schedulers/tcd.js';
import { unipcCorrector, unipcPredictor } from '../lib/schedulers/unipc-updates.js';

/** The coefficients of a form by operand. */
function coefficients(form: LinearForm<string>): Record<string, number> {
  return Object.fromEntries(plus(form).map(([coefficient, name]) => [name, coefficient]));
}

function close(actual: number | undefined, expected: number, limit = 1e-12): void {
  const error = Math.abs((actual ?? Number.NaN) - expected);
  assert.ok(error <= limit * Math.max(1, Math.abs(expected)), `${actual} is not ${expected}`);
}

/** A sample of known image and noise; a perfect network predicts them. */
const signal = { image: 0.7, noise: -1.3 };
function value(form: LinearForm<string>, operands: Record<string, number>): number {
  return form.reduce((sum, [coefficient, name]) => sum + coefficient * (operands[name] ?? NaN), 0);
}

test('forms add, scale and merge their operands', () => {
  const form = minus(times(2, [[3, 'x']]), [
    [1, 'x'],
    [4, 'y'],
  ]);
  assert.deepEqual(form, [
    [5, 'x'],
    [-4, 'y'],
  ]);
});

for (const predictionType of ['epsilon', 'sample', 'v_prediction'] as const) {
  test(`DDIM finds image and noise of a sample from a perfect ${predictionType}`, () => {
    const alphaBar = 0.3;
    const [a, s] = [Math.sqrt(alphaBar), Math.sqrt(1 - alphaBar)];
    const outputs = {
      epsilon: signal.noise,
      sample: signal.image,
      v_prediction: a * signal.noise - s * signal.image,
    };
    const operands = { x: a * signal.image + s * signal.noise, m: outputs[predictionType] };
    const { x0, epsilon } = ddimPrediction(predictionType, alphaBar, 'x', 'm');
    close(value(x0, operands), signal.image);
    close(value(epsilon, operands), signal.noise);
  });
}

test('DDIM adds no noise with η 0, and the ancestral variance with η 1', () => {
  assert.equal(ddimSigma(0.3, 0.6, 0), 0);
  close(ddimSigma(0.3, 0.6, 1) ** 2, (0.4 / 0.7) * (1 - 0.3 / 0.6));
});

test('the PNDM transfer moves a sample along its image and noise', () => {
  const [from, to] = [0.2, 0.5];
  const form = pndmTransfer('epsilon', from, to, 'x', [[1, 'e']]);
  const operands = {
    x: Math.sqrt(from) * signal.image + Math.sqrt(1 - from) * signal.noise,
    e: signal.noise,
  };
  close(
    value(form, operands),
    Math.sqrt(to) * signal.image + Math.sqrt(1 - to) * signal.noise,
    1e-9,
  );
});

test('Adams-Bashforth weights sum to one and are exact for polynomials of their order', () => {
  for (const order of [1, 2, 3, 4]) {
    const outputs = Array.from({ length: order }, (_, i) => i);
    const form = adamsBashforth(outputs);
    close(
      form.reduce((sum, [weight]) => sum + weight, 0),
      1,
    );
    // The integral of tᵏ over 0..1 from its values at 0, −1, −2, …
    for (let k = 0; k < order; k++) {
      close(
        form.reduce((sum, [weight, i]) => sum + weight * (-i) ** k, 0),
        1 / (k + 1),
      );
    }
  }
});

test('an Euler step to zero lands on the predicted image', () => {
  const x: LinearForm<string> = [[1, 'x']];
  const D = denoised('epsilon', { sigma: 3, sigmaHat: 3 }, x, 'm');
  const got = coefficients(eulerUpdate(x, D, 3, 0));
  close(got.x, 1);
  close(got.m, -3);
});

test('an ancestral step splits the variance of the level it lands on', () => {
  const { sigmaUp, sigmaDown } = ancestralStep(5, 2);
  close(sigmaUp ** 2 + sigmaDown ** 2, 4);
  close(sigmaDown, 4 / 5);
  assert.deepEqual(ancestralStep(5, 0), { sigmaUp: 0, sigmaDown: 0 });
});

test('noise and image of a DPM sample are found from each other', () => {
  const level = noiseLevel(1.7, false);
  close(level.alpha ** 2 + level.sigma ** 2, 1);
  const image = imageFromNoise(level, 'x', [[1, 'n']]);
  const noise = noiseFromImage(level, 'x', image);
  const got = coefficients(noise);
  close(got.n, 1);
  close(got.x, 0);
  const flow = noiseLevel(0.25, true);
  assert.deepEqual([flow.alpha, flow.sigma], [0.75, 0.25]);
  const predicted = coefficients(predictedImage('flow_prediction', flow, 0.25, 'x', 'm'));
  assert.deepEqual(predicted, { x: 1, m: -0.25 });
});

for (const algorithm of DPM_ALGORITHMS) {
  for (const order of [1, 2, 3]) {
    if (algorithm === 'sde-dpmsolver' && order === 3) continue;
    test(`${algorithm} of order ${order} with a constant prediction is the exact solution`, () => {
      const levels = [0.5, 1.1, 2.3, 4.1].map((ratio) => noiseLevel(ratio, false));
      const image = algorithm.endsWith('++');
      const update = solverUpdate({
        algorithm,
        solverType: 'midpoint',
        levels: levels.slice(0, order + 1),
        sample: 'x',
        models: Array.from({ length: order }, () => [[1, 'm']] as const),
        noise: addsNoise(algorithm) ? 'n' : undefined,
      });
      const got = coefficients(update);
      const [t, s] = [levels[0], levels[1]];
      assert.ok(t && s);
      if (!addsNoise(algorithm)) {
        // α x̂ + σ n̂ with either part kept fixed.
        close(got.x, image ? t.sigma / s.sigma : t.alpha / s.alpha);
        close(
          got.m,
          image ? t.alpha - (s.alpha * t.sigma) / s.sigma : t.sigma - (s.sigma * t.alpha) / s.alpha,
        );
      } else if (image) {
        // The noise left of the old and the fresh noise make up the new level.
        close(((got.x ?? 0) * s.sigma) ** 2 + (got.n ?? 0) ** 2, t.sigma ** 2);
        close((got.x ?? 0) * s.alpha + (got.m ?? 0), t.alpha);
      }
    });
  }
}

for (const algorithm of ['dpmsolver', 'dpmsolver++'] as const) {
  for (const order of [1, 2, 3]) {
    test(`singlestep ${algorithm} of order ${order} is exact for a constant prediction`, () => {
      const levels = [0.5, 1.1, 2.3, 4.1].map((ratio) => noiseLevel(ratio, false));
      const got = coefficients(
        singlestepUpdate({
          algorithm,
          solverType: 'heun',
          levels: levels.slice(0, order + 1),
          sample: 'x',
          models: Array.from({ length: order }, () => [[1, 'm']] as const),
        }),
      );
      const [t, s] = [levels[0], levels[order]];
      assert.ok(t && s);
      const image = algorithm === 'dpmsolver++';
      close(got.x, image ? t.sigma / s.sigma : t.alpha / s.alpha);
      close(
        got.m,
        image ? t.alpha - (t.sigma / s.sigma) * s.alpha : t.sigma - (t.alpha / s.alpha) * s.sigma,
      );
    });
  }
}

test('singlestep orders come in stretches that are cut short before the end', () => {
  const zero = { lowerOrderFinal: false, finalSigmasType: 'zero' } as const;
  const end = { lowerOrderFinal: false, finalSigmasType: 'sigma_min' } as const;
  assert.deepEqual(singlestepOrders(6, { solverOrder: 3, ...zero }), [1, 2, 3, 1, 2, 1]);
  assert.deepEqual(singlestepOrders(6, { solverOrder: 3, ...end }), [1, 2, 3, 1, 2, 3]);
  assert.deepEqual(singlestepOrders(7, { solverOrder: 3, ...end }), [1, 2, 3, 1, 2, 3, 1]);
  assert.deepEqual(singlestepOrders(5, { solverOrder: 3, ...end }), [1, 2, 3, 1, 2]);
  assert.deepEqual(singlestepOrders(5, { solverOrder: 3, ...zero }), [1, 2, 3, 1, 1]);
  assert.deepEqual(singlestepOrders(4, { solverOrder: 2, ...zero }), [1, 2, 1, 1]);
  assert.deepEqual(singlestepOrders(1, { solverOrder: 3, ...end }), [1]);
});

test('DEIS integrates polynomials in ln ρ exactly', () => {
  const [next, ...rhos] = [0.7, 1.5, 3, 8] as const;
  // Antiderivatives of 1, ln ρ and ln² ρ.
  const integrals = [
    (x: number) => x,
    (x: number) => x * (Math.log(x) - 1),
    (x: number) => x * (Math.log(x) ** 2 - 2 * Math.log(x) + 2),
  ];
  for (const order of [1, 2, 3]) {
    const weights = deisWeights(next, rhos.slice(0, order));
    for (const [power, integral] of integrals.slice(0, order).entries()) {
      const sum = weights.reduce((s, w, j) => s + w * Math.log(rhos[j] ?? 0) ** power, 0);
      close(sum, integral(next) - integral(rhos[0]));
    }
  }
});

for (const forImage of [true, false]) {
  for (const solverType of ['bh1', 'bh2'] as const) {
    test(`UniPC with ${solverType} keeps a constant ${forImage ? 'image' : 'noise'}`, () => {
      const levels = [0.5, 1.1, 2.3, 4.1].map((ratio) => noiseLevel(ratio, false));
      const [t, s] = levels;
      assert.ok(t && s);
      const x = forImage ? t.sigma / s.sigma : t.alpha / s.alpha;
      const m = forImage ? t.alpha - x * s.alpha : t.sigma - x * s.sigma;
      for (const order of [1, 2, 3]) {
        const step = { forImage, solverType, levels: levels.slice(0, order + 1), sample: 'x' };
        const models = Array.from({ length: order + 1 }, () => [[1, 'm']] as const);
        for (const form of [
          unipcPredictor({ ...step, models: models.slice(1) }),
          unipcCorrector({ ...step, models }),
        ]) {
          const got = coefficients(form);
          close(got.x, x);
          close(got.m, m);
        }
      }
    });
  }
}

test('UniPC stays where it is in a step of no length', () => {
  const levels = [1.1, 1.1, 2.3, 4.1].map((ratio) => noiseLevel(ratio, false));
  const models = ['a', 'b', 'c', 'd'].map((name) => [[1, name]] as const);
  const step = { forImage: true, solverType: 'bh2', levels, sample: 'x' } as const;
  for (const form of [unipcPredictor({ ...step, models }), unipcCorrector({ ...step, models })]) {
    const { x, ...rest } = coefficients(form);
    close(x, 1);
    for (const value of Object.values(rest)) close(value, 0);
  }
});

test('the boundary condition of consistency models leaves timestep 0 alone', () => {
  assert.deepEqual(boundaryScalings(0, 10), { skip: 1, out: 0 });
  const { skip, out } = boundaryScalings(999, 10);
  close(skip, 0, 1e-8);
  close(out, 1, 1e-8);
});

test('TCD aims at a timestep that float32 rounds to', () => {
  assert.equal(aimedTimestep(999, 0), 999);
  assert.equal(aimedTimestep(999, 1), 0);
  // 0.7 · 10 is 6.99999988 in float64 of the float32 factor, and 7 in float32.
  assert.equal(aimedTimestep(10, 0.3), 7);
});

test('a last step that goes up by a rounding error adds no noise', () => {
  for (const algorithm of DPM_ALGORITHMS.filter(addsNoise)) {
    const levels = [1.1 + 1e-7, 1.1].map((ratio) => noiseLevel(ratio, false));
    const got = coefficients(
      solverUpdate({
        algorithm,
        solverType: 'midpoint',
        levels,
        sample: 'x',
        models: [[[1, 'm']]],
        noise: 'n',
      }),
    );
    close(got.n, 0);
    close(got.x, 1, 1e-6);
  }
  const { sigmaDown } = ancestralStep(1e9, 1e-3);
  assert.ok(sigmaDown >= 0);
});

test('a step of no length changes nothing, in any order', () => {
  for (const algorithm of DPM_ALGORITHMS.filter((name) => name !== 'sde-dpmsolver')) {
    for (const solverType of ['midpoint', 'heun'] as const) {
      const levels = [1.1, 1.1, 2.3, 4.1].map((ratio) => noiseLevel(ratio, false));
      const models = ['m0', 'm1', 'm2'].map((name) => [[1, name]] as const);
      const got = coefficients(
        solverUpdate({ algorithm, solverType, levels, sample: 'x', models }),
      );
      close(got.x, 1);
      for (const name of ['m0', 'm1', 'm2']) close(got[name], 0);
    }
  }
});
