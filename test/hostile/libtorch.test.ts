// No libtorch, one that is broken, and one of a version without a core: each in a process of its own,
// which must say what to do and go on without a crash.
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { pathToFileURL } from 'node:url';

import { packageRoot } from '../../lib/package-root.js';
import { temporaryFolder } from '../helpers.js';

/** Touches libtorch, and prints how that failed; then again, as a program may try twice. */
const script = `
  const { memoryStats, Generator } = await import(process.argv[1]);
  for (const touch of [memoryStats, () => new Generator().getState()]) {
    try {
      touch();
      console.log('no error');
    } catch (error) {
      console.log(JSON.stringify({ name: error.name, code: error.code, message: error.message }));
    }
  }
`;

function failures(libtorch: string): { name: string; code: string; message: string }[] {
  const index = pathToFileURL(join(packageRoot, 'lib', 'index.ts')).href;
  const args = ['--import', 'tsx', '--input-type=module', '--eval', script, index];
  const { status, signal, stdout, stderr } = spawnSync(process.execPath, args, {
    encoding: 'utf8',
    cwd: packageRoot,
    env: { ...process.env, TORCHBRUSH_LIBTORCH: libtorch },
  });
  assert.deepEqual({ status, signal }, { status: 0, signal: null }, stderr);
  return stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
}

function fakeLibtorch(context: Parameters<typeof temporaryFolder>[0]): string {
  const folder = temporaryFolder(context);
  mkdirSync(join(folder, 'lib'));
  return folder;
}

test('a folder without libtorch is named, with the commands that help', (context) => {
  const folder = temporaryFolder(context);
  for (const error of failures(folder)) {
    assert.deepEqual([error.name, error.code], ['LibtorchNotFoundError', 'ERR_LIBTORCH_NOT_FOUND']);
    assert.match(
      error.message,
      new RegExp(`TORCHBRUSH_LIBTORCH: no lib/libtorch_cpu\\.so in ${folder}`),
    );
    assert.match(error.message, /pip install torch==/);
  }
});

test('files that are no libraries are named', (context) => {
  const folder = fakeLibtorch(context);
  for (const name of ['libc10.so', 'libtorch_cpu.so'])
    writeFileSync(join(folder, 'lib', name), 'no library');
  for (const error of failures(folder)) {
    assert.deepEqual([error.name, error.code], ['LibtorchNotFoundError', 'ERR_LIBTORCH_NOT_FOUND']);
    assert.match(error.message, new RegExp(`${folder}/lib/libc10\\.so`));
  }
});

test('a libtorch of a version without a core is named with its version', (context) => {
  const folder = fakeLibtorch(context);
  const source = join(folder, 'version.c');
  // 2.3.0, as aoti_torch_abi_version packs it.
  writeFileSync(
    source,
    'unsigned long long aoti_torch_abi_version(void) { return 0x0203000000000000ull; }\n',
  );
  for (const name of ['libc10.so', 'libtorch_cpu.so']) {
    execFileSync('cc', ['-shared', '-fPIC', '-o', join(folder, 'lib', name), source]);
  }
  for (const error of failures(folder)) {
    assert.deepEqual([error.name, error.code], ['LibtorchNotFoundError', 'ERR_LIBTORCH_VERSION']);
    assert.match(
      error.message,
      new RegExp(`libtorch in ${folder} .*is version 2\\.3\\.0, and there is no core for 2\\.3`),
    );
    assert.match(error.message, /there is one for 2\.\d+/);
  }
});
