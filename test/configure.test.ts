// Settings of the process: what is refused, and what stays.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { type ConfigureOptions, configure, TorchbrushError } from '../lib/index.js';
import { isBatching } from '../lib/native.js';

const refusals: readonly [unknown, RegExp][] = [
  [
    { threads: 0 },
    /^Expected a whole number of at least 1 for threads but received 0 \(number\)\.$/,
  ],
  [{ threads: '4' }, /for threads but received "4" \(string\)/],
  [{ libtorch: 7 }, /^Expected a folder for libtorch but received 7 \(number\)\.$/],
  [{ batching: 'no' }, /^Expected true or false for batching but received "no" \(string\)\.$/],
  [{ thread: 2 }, /configure has no option thread\. Known are: libtorch, threads, batching\./],
  [null, /an object for options/],
];

for (const [options, message] of refusals) {
  test(`configure(${JSON.stringify(options)}) is refused`, () => {
    assert.throws(
      () => configure(options as ConfigureOptions),
      (error: unknown) =>
        error instanceof TorchbrushError &&
        error.code === 'ERR_INVALID_ARGUMENT' &&
        message.test(error.message),
    );
  });
}

test('what a later call does not name stays', () => {
  configure({ batching: false });
  configure({ threads: 1, batching: undefined });
  assert.equal(isBatching(), false);
  configure({ batching: true });
  assert.equal(isBatching(), true);
});
