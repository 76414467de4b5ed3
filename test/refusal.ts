// What tests of impossible options need: odd tensors, and what a refusal must be.
import assert from 'node:assert/strict';
import { mock } from 'node:test';

import { memoryStats, Tensor, TorchbrushError } from '../lib/index.js';
import { Network } from '../lib/networks/network.js';

const tensors: Tensor[] = [];

/** A tensor of zeros, disposed by `disposeTensors`. */
export function zeros(shape: number[]): Tensor {
  const count = shape.reduce((product, size) => product * size, 1);
  const tensor = Tensor.fromArray(new Float32Array(count), shape);
  tensors.push(tensor);
  return tensor;
}

/** A tensor that has been disposed already. */
export function disposed(shape: number[]): Tensor {
  const tensor = zeros(shape);
  tensor.dispose();
  return tensor;
}

export function disposeTensors(): void {
  for (const tensor of tensors) tensor.dispose();
}

export interface Refusal {
  /** What the message must say: the option, the value, the way out. */
  says: RegExp;
  /** ERR_INVALID_ARGUMENT unless given. */
  code?: string;
}

/** Our own error, before any network has run and with nothing left behind. */
export async function assertRefused(
  run: () => Promise<unknown>,
  { says, code }: Refusal,
): Promise<void> {
  const networkRuns = mock.method(Network.prototype, 'run');
  const stats = memoryStats();
  try {
    await assert.rejects(run, (error) => {
      assert.ok(error instanceof TorchbrushError, (error as Error).stack);
      assert.equal(error.code, code ?? 'ERR_INVALID_ARGUMENT', error.message);
      assert.match(error.message, says);
      return true;
    });
    assert.equal(networkRuns.mock.callCount(), 0, 'a network ran');
    assert.deepEqual(memoryStats(), stats);
  } finally {
    networkRuns.mock.restore();
  }
}
