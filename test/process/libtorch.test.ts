// Libtorchs that are not as they should be, each in a process of its own: one process opens one.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

import { openLibtorch } from '../../lib/bootstrap.js';
import { LibtorchNotFoundError } from '../../lib/errors.js';
import { findLibtorch } from '../../lib/libtorch.js';
import { outsideArchive, packageRoot } from '../../lib/package-root.js';
import { temporaryFolder } from '../helpers.js';

const library = JSON.stringify(join(packageRoot, 'lib', 'index.ts'));

/** What a script prints, with a libtorch named from outside. */
function run(script: string, libtorch: string): { status: number | null; output: string } {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    ['--import', 'tsx', '--input-type=module', '-e', script],
    {
      cwd: packageRoot,
      encoding: 'utf8',
      env: { ...process.env, TORCHBRUSH_LIBTORCH: libtorch },
    },
  );
  return { status, output: stdout + stderr };
}

test('a CUDA part that cannot be opened leaves the CPU, and says why to whoever asks for CUDA', (context) => {
  const folder = temporaryFolder(context);
  const real = findLibtorch(undefined).found?.folder;
  assert.ok(real);
  mkdirSync(join(folder, 'lib'));
  for (const name of readdirSync(join(real, 'lib'))) {
    if (name !== 'libtorch_cuda.so')
      symlinkSync(join(real, 'lib', name), join(folder, 'lib', name));
  }
  writeFileSync(join(folder, 'lib', 'libtorch_cuda.so'), 'no library');
  const { status, output } = run(
    `import { demoModel, devices, StableDiffusionImg2ImgPipeline as Pipeline } from ${library};
    const pipe = await Pipeline.fromPretrained(demoModel);
    console.log(pipe.device, devices().length);
    await Pipeline.fromPretrained(demoModel, { device: 'cuda' }).catch(({ message }) => console.log(message));`,
    folder,
  );
  assert.equal(status, 0, output);
  assert.match(
    output,
    /^cpu 1\nExpected 'cpu' .* libtorch's CUDA part could not be opened: .*lib\/libtorch_cuda\.so/,
  );
});

test('a libtorch that cannot be opened is an error with a way out', (context) => {
  const folder = temporaryFolder(context);
  mkdirSync(join(folder, 'lib'));
  for (const name of ['libc10.so', 'libtorch_cpu.so']) writeFileSync(join(folder, 'lib', name), '');
  const { output } = run(
    `import { devices } from ${library};
    try { devices(); } catch ({ code, message }) { console.log(code, message); }`,
    folder,
  );
  assert.match(output, /^ERR_LIBTORCH_NOT_FOUND .*TORCHBRUSH_LIBTORCH\) could not be opened/);
  assert.match(output, /Install it anew/);
});

test('a build for CUDA without the libraries of NVIDIA says so', () => {
  const bootstrap = {
    folder: '',
    openLibtorch(): string {
      throw new Error('libcupti.so.13: cannot open shared object file: No such file or directory');
    },
    loadCore(): never {
      throw new Error('not reached');
    },
  };
  assert.throws(
    () => openLibtorch(bootstrap, '/torch/lib', { folder: '/torch', source: 'the Python on PATH' }),
    (error) =>
      error instanceof LibtorchNotFoundError &&
      /build for CUDA.*NVIDIA.*pip install torch/.test(error.message),
  );
});

test('native files of an Electron app are looked for beside its archive', (context) => {
  const folder = temporaryFolder(context);
  const inside = join(folder, 'app.asar', 'node_modules', 'torchbrush');
  const outside = join(folder, 'app.asar.unpacked', 'node_modules', 'torchbrush');
  assert.equal(outsideArchive(inside), inside);
  mkdirSync(outside, { recursive: true });
  writeFileSync(join(outside, 'package.json'), '{}');
  assert.equal(outsideArchive(inside), outside);
});
