import assert from 'node:assert/strict';
import { test } from 'node:test';

import { DisposedError, InvalidArgumentError, memoryStats, Tensor } from '../lib/index.js';
import {
  clamp,
  concat,
  linearCombination,
  narrow,
  quantile,
  repeat,
  repeatInterleave,
  std,
} from '../lib/ops.js';

test('a tensor shares the memory of the typed array it is made from', () => {
  const array = new Float32Array([1, 2, 3, 4]);
  using tensor = Tensor.fromArray(array, [2, 2]);
  array[0] = 9;
  assert.deepEqual([...(tensor.data as Float32Array)], [9, 2, 3, 4]);
  assert.deepEqual(tensor.shape, [2, 2]);
  assert.equal(tensor.dtype, 'float32');
  assert.equal(tensor.device, 'cpu');
});

test('a tensor over a part of a buffer sees that part only', () => {
  const array = new Float32Array([1, 2, 3, 4]).subarray(1, 3);
  using tensor = Tensor.fromArray(array, [2]);
  assert.deepEqual([...(tensor.data as Float32Array)], [2, 3]);
});

test('data is a view: writing to it changes the tensor', async () => {
  using tensor = Tensor.fromArray([1, 2], [2]);
  using doubled = linearCombination([2], [tensor]);
  (doubled.data as Float32Array)[1] = 7;
  assert.deepEqual([...(await doubled.toFloat32Array())], [2, 7]);
});

test('a view outlives the tensor it was taken from', () => {
  const tensor = linearCombinationOf([1, 2, 3]);
  const view = tensor.data;
  tensor.dispose();
  assert.deepEqual([...(view as Float32Array)], [1, 2, 3]);
});

function linearCombinationOf(values: number[]): Tensor {
  using source = Tensor.fromArray(values, [values.length]);
  return linearCombination([1], [source]);
}

test('every use of a disposed tensor throws ERR_DISPOSED, and disposing twice is fine', async () => {
  const tensor = Tensor.fromArray([1, 2], [2]);
  tensor.dispose();
  tensor.dispose();
  const disposed = { name: 'DisposedError', code: 'ERR_DISPOSED' };
  assert.throws(() => tensor.shape, disposed);
  assert.throws(() => tensor.data, disposed);
  assert.throws(() => tensor.to({ dtype: 'float64' }), disposed);
  assert.throws(() => tensor.alias(), disposed);
  assert.throws(() => linearCombination([1], [tensor]), DisposedError);
  await assert.rejects(tensor.toFloat32Array(), disposed);
});

test('a shape that does not fit the data is refused with both numbers', () => {
  assert.throws(() => Tensor.fromArray(new Float32Array(4), [3]), {
    name: 'InvalidArgumentError',
    message: /\[3\] = 3 elements for data but received 4/,
  });
  assert.throws(() => Tensor.fromArray(new Float32Array(4), [-4]), InvalidArgumentError);
  assert.throws(() => Tensor.fromArray(new Float32Array(4), [0.5, 8]), InvalidArgumentError);
  assert.throws(
    () => Tensor.fromArray(new Float32Array(4), [2 ** 40, 2 ** 40]),
    InvalidArgumentError,
  );
});

test('conversion between dtypes rounds as libtorch does', async () => {
  using tensor = Tensor.fromArray([0.1, 1.5, -3], [3]);
  using half = tensor.to({ dtype: 'float16' });
  assert.equal(half.dtype, 'float16');
  assert.deepEqual([...(await half.toFloat32Array())], [0.0999755859375, 1.5, -3]);
  using whole = tensor.to({ dtype: 'int64' });
  assert.deepEqual([...(whole.data as BigInt64Array)], [0n, 1n, -3n]);
});

test('live tensors are counted and the count returns to where it was', () => {
  const before = memoryStats();
  const tensors = Array.from({ length: 10 }, () => linearCombinationOf([1, 2, 3, 4]));
  assert.equal(memoryStats().tensors, before.tensors + 10);
  assert.equal(memoryStats().tensorBytes, before.tensorBytes + 160);
  for (const tensor of tensors) tensor.dispose();
  assert.deepEqual(memoryStats(), before);
});

test('linearCombination sums in float32 and keeps the first dtype', async () => {
  using a = Tensor.fromArray([1, 2, 3], [3]);
  using b = Tensor.fromArray([10, 20, 30], [3]);
  using half = a.to({ dtype: 'bfloat16' });
  using sum = linearCombination([2, -0.5], [a, b]);
  assert.deepEqual([...(sum.data as Float32Array)], [-3, -6, -9]);
  using mixed = linearCombination([2, -0.5], [half, b]);
  assert.equal(mixed.dtype, 'bfloat16');
  using forced = linearCombination([2, -0.5], [half, b], { dtype: 'float64' });
  assert.equal(forced.dtype, 'float64');
  using short = Tensor.fromArray([1], [1]);
  assert.throws(() => linearCombination([1, 1], [a, short]), { code: 'ERR_INVALID_ARGUMENT' });
});

test('the small operations do what their torch namesakes do', () => {
  using a = Tensor.fromArray([1, 2, 3, 4], [2, 2]);
  const values = (tensor: Tensor): number[] => {
    const list = [...(tensor.data as Float32Array)];
    tensor.dispose();
    return list;
  };
  assert.deepEqual(values(concat([a, a], 1)), [1, 2, 1, 2, 3, 4, 3, 4]);
  assert.deepEqual(values(repeat(a, [2, 1])), [1, 2, 3, 4, 1, 2, 3, 4]);
  assert.deepEqual(values(repeatInterleave(a, 2, 0)), [1, 2, 1, 2, 3, 4, 3, 4]);
  assert.deepEqual(values(clamp(a, 2, 3)), [2, 2, 3, 3]);
  assert.deepEqual(values(quantile(a, 0.25, 1)), [1.25, 3.25]);
  assert.deepEqual(values(std(a, [1])), [Math.fround(Math.SQRT1_2), Math.fround(Math.SQRT1_2)]);
  using row = narrow(a, 0, 1, 1);
  assert.deepEqual(row.shape, [1, 2]);
  assert.deepEqual(values(row.to({ dtype: 'float32' })), [3, 4]);
});

test('half-precision arrays need their dtype named', () => {
  assert.throws(() => Tensor.fromArray(new Uint16Array(2), [2]), InvalidArgumentError);
  using tensor = Tensor.fromArray(new Uint16Array([0x3c00, 0x4000]), [2], { dtype: 'float16' });
  using wide = tensor.to({ dtype: 'float32' });
  assert.deepEqual([...(wide.data as Float32Array)], [1, 2]);
});

test('a device that does not answer, or is none, is an argument error that names it', async () => {
  using tensor = Tensor.fromArray([1, 2], [2]);
  for (const device of ['cuda:63', 'tpu', 'cuda:-1', '']) {
    assert.throws(() => tensor.to({ device }), {
      name: 'InvalidArgumentError',
      message: new RegExp(`for device but received "${device}"`),
    });
  }
});
