// The script for machines with a GPU, as far as it goes without: what it cannot do it says, and goes on.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

import { packageRoot } from '../lib/package-root.js';

const scripts = join(packageRoot, 'scripts', 'gpu');

function inFolder(work: (folder: string) => void): void {
  const folder = mkdtempSync(join(tmpdir(), 'torchbrush-gpu-'));
  try {
    work(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Runs a copy of the script, with a Python that always fails. */
function run(folder: string, parts: string): ReturnType<typeof spawnSync> {
  copyFileSync(join(scripts, 'run.sh'), join(folder, 'run.sh'));
  const args = [join(folder, 'run.sh'), '--out', join(folder, 'results'), '--parts', parts];
  const env = { ...process.env, TORCHBRUSH_PYTHON: 'false' };
  return spawnSync('bash', args, { env, encoding: 'utf8' });
}

const part = (folder: string, name: string): Record<string, unknown> =>
  JSON.parse(readFileSync(join(folder, 'results', `${name}.part.json`), 'utf8'));

test('parts whose needs are not there are skipped, with the reason', () => {
  inFolder((folder) => {
    assert.equal(run(folder, 'build,unet').status, 1);
    assert.deepEqual(part(folder, 'build'), {
      ...{ part: 'build', result: 'skipped', exit: 0, seconds: 0 },
      reason: 'nothing is unpacked: run the part unpack first',
    });
    assert.equal(part(folder, 'unet').reason, 'nothing is built: run the part build first');
  });
});

test('parts that need a GPU say so where there is none', () => {
  inFolder((folder) => {
    const release = join(folder, 'work', 'torchbrush', 'build', 'Release');
    mkdirSync(release, { recursive: true });
    writeFileSync(join(release, 'torchbrush.node'), '');
    mkdirSync(join(folder, 'work', 'sd15'));
    assert.equal(run(folder, 'check,tests,loop').status, 1);
    assert.equal(part(folder, 'check').reason, 'there is no CUDA companion: see build.log');
    for (const name of ['tests', 'loop']) {
      assert.equal(part(folder, name).reason, 'needs a GPU, and torch finds none');
    }
  });
});

test('a part that fails is recorded', () => {
  inFolder((folder) => {
    assert.equal(run(folder, 'unpack').status, 1);
    const { result, reason } = part(folder, 'unpack');
    assert.deepEqual([result, reason], ['failed', 'see unpack.log']);
  });
});

test('a part that nobody knows is wrong usage', () => {
  inFolder((folder) => {
    const { status, stderr } = run(folder, 'nope');
    assert.equal(status, 2);
    assert.match(String(stderr), /^There is no part nope\. Known are: unpack,build,/);
  });
});

test('results are put together, half-written ones left out', () => {
  inFolder((folder) => {
    const write = (name: string, text: string) => writeFileSync(join(folder, name), text);
    write('unet.part.json', '{"part": "unet", "result": "timed out"}');
    write('unet.json', '{"scenarios": {}}');
    write('unet.md', '# unet');
    write('loop.json', '{"scen');
    write('loop.md', '# loop');
    write('machine.json', '');
    write('commit.txt', 'abc\n');
    const script = join(scripts, 'gather.mjs');
    const args = [script, folder, join(folder, 'commit.txt')];
    const { stdout } = spawnSync(process.execPath, args, { encoding: 'utf8' });
    const { commit, parts, bench, machine } = JSON.parse(stdout);
    assert.equal(commit, 'abc');
    assert.deepEqual(parts, [{ part: 'unet', result: 'timed out' }]);
    assert.deepEqual(bench, { unet: { scenarios: {} } });
    assert.equal(machine, undefined);
  });
});
