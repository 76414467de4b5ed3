// The same operators where the processor is told to do without its newer instructions: bfloat16 is computed
// in float32 there.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const kernels = fileURLToPath(new URL('cpu-kernels.test.ts', import.meta.url));

for (const capability of ['avx2', 'default']) {
  test(`with ATEN_CPU_CAPABILITY=${capability} the operators are as near to libtorch's`, () => {
    const { NODE_TEST_CONTEXT: _, ...env } = process.env;
    const { status, stdout, stderr } = spawnSync(
      process.execPath,
      ['--import', 'tsx', '--test', kernels],
      { env: { ...env, ATEN_CPU_CAPABILITY: capability }, encoding: 'utf8' },
    );
    assert.equal(status, 0, stdout + stderr);
    assert.match(stdout, /pass [1-9]/);
  });
}
