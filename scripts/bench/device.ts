// Waiting for a device: runs on a GPU are only queued when their promises resolve.
import { full, narrow } from '../../lib/ops.js';
import type { Tensor } from '../../lib/tensor.js';

/** Reads one number of a tensor, which the device must have computed by then. */
export async function finished(tensor: Tensor): Promise<void> {
  if (tensor.device === 'cpu') return;
  let first = tensor.alias();
  for (const dim of tensor.shape.keys()) {
    using wider = first;
    first = narrow(wider, dim, 0, 1);
  }
  using one = first;
  await one.toFloat32Array();
}

/** Resolves when a device has done all that was queued so far. */
export async function settled(device: string): Promise<void> {
  if (device === 'cpu') return;
  using last = full([1], 0, { device });
  await finished(last);
}

/**
 * Seconds from an idle device to a computed result, which is disposed.
 *
 * @param run What it gives is the last that it computes.
 */
export async function timedOn(device: string, run: () => Promise<Tensor>): Promise<number> {
  await settled(device);
  const began = performance.now();
  using result = await run();
  await finished(result);
  return (performance.now() - began) / 1000;
}
