// Archives with code in a checkpoint: nothing of them is touched unless they are trusted, and what is
// broken is a typed error even then.
import assert from 'node:assert/strict';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { brotliDecompressSync } from 'node:zlib';

import {
  AutoPipelineForText2Image,
  configure,
  memoryStats,
  StableDiffusionPipeline,
  UntrustedFileError,
} from '../../lib/index.js';
import { native } from '../../lib/native.js';
import { bundledProgramFolder } from '../../lib/networks/programs.js';
import { demoCopy } from '../helpers.js';
import { weightFiles } from './spoiling.js';

configure({ threads: 1 });

const nothing = { tensors: 0, tensorBytes: 0, networks: 0 };
/** A program is an archive, too, whose weights are a single number each. */
const archive = brotliDecompressSync(readFileSync(join(bundledProgramFolder, 'demo-unet.pt.br')));
const trusted = { trustTorchScript: true };

for (const [name, what] of [
  ['model.pt', 'archive'],
  ['model.pt2', 'package'],
] as const) {
  test(`an ${what} that nobody trusts is refused without being opened`, async (context) => {
    const folder = demoCopy(context);
    const path = join(folder, 'unet', name);
    writeFileSync(path, archive);
    rmSync(join(folder, weightFiles.unet));
    let opened = 0;
    const core = native();
    const real = { loadScript: core.loadScript, loadPackage: core.loadPackage };
    const count = async (): Promise<never> => {
      opened += 1;
      throw new Error('opened');
    };
    Object.assign(core, { loadScript: count, loadPackage: count });
    context.after(() => Object.assign(core, real));
    const load = (options: object) => AutoPipelineForText2Image.fromPretrained(folder, options);
    for (const options of [{}, { trustTorchScript: false }, { trustTorchScript: undefined }]) {
      await assert.rejects(load(options), (error: Error) => {
        assert.ok(error instanceof UntrustedFileError);
        assert.ok(error.message.includes(path) && /trustTorchScript: true/.test(error.message));
        return true;
      });
    }
    for (const value of [1, 'yes', null]) {
      await assert.rejects(load({ trustTorchScript: value }), /true or false for trustTorchScript/);
    }
    assert.equal(opened, 0);
    await assert.rejects(load(trusted), /opened/);
    assert.equal(opened, 1);
    assert.deepEqual(memoryStats(), nothing);
  });
}

test('beside weights an archive that nobody trusts is passed over', async (context) => {
  const folder = demoCopy(context);
  writeFileSync(join(folder, 'unet', 'model.pt'), 'anything');
  (await AutoPipelineForText2Image.fromPretrained(folder)).dispose();
  await assert.rejects(AutoPipelineForText2Image.fromPretrained(folder, trusted), {
    code: 'ERR_CHECKPOINT',
  });
  assert.deepEqual(memoryStats(), nothing);
});

test('a trusted file that is no archive, or part of one, is a checkpoint error', async (context) => {
  const folder = demoCopy(context);
  for (const [name, code] of [
    ['model.pt', /model\.pt cannot be loaded as a TorchScript archive/],
    ['model.pt2', /model\.pt2 cannot be loaded as an AOTInductor package/],
  ] as const) {
    const path = join(folder, 'unet', name);
    const contents = [
      Buffer.alloc(0),
      Buffer.from('no archive at all'),
      Buffer.alloc(4096, 0xff),
      archive.subarray(0, 100),
      archive.subarray(0, archive.length >> 1),
      archive.subarray(0, archive.length - 1),
      archive.subarray(archive.length >> 1),
    ];
    for (const bytes of contents) {
      writeFileSync(path, bytes);
      await assert.rejects(AutoPipelineForText2Image.fromPretrained(folder, trusted), {
        code: 'ERR_CHECKPOINT',
        message: code,
      });
    }
    rmSync(path);
  }
  assert.deepEqual(memoryStats(), nothing);
});

test('an archive with flipped bytes loads or is a typed error', async (context) => {
  const folder = demoCopy(context);
  const path = join(folder, 'unet', 'model.pt');
  for (let i = 0; i < 24; i += 1) {
    const bytes = Buffer.from(archive);
    const at = Math.floor((bytes.length * (i + 0.5)) / 24);
    bytes[at] = (bytes[at] as number) ^ 0x55;
    writeFileSync(path, bytes);
    try {
      (await StableDiffusionPipeline.fromPretrained(folder, trusted)).dispose();
    } catch (error) {
      assert.match((error as { code?: string }).code ?? '', /^ERR_(CHECKPOINT|TORCH)$/);
    }
  }
  assert.deepEqual(memoryStats(), nothing);
});

test('an archive made for another part lacks its methods', async (context) => {
  const folder = demoCopy(context);
  writeFileSync(join(folder, 'vae', 'model.pt'), archive);
  await assert.rejects(AutoPipelineForText2Image.fromPretrained(folder, trusted), {
    code: 'ERR_CHECKPOINT',
    message: /has no method encode/,
  });
  assert.deepEqual(memoryStats(), nothing);
});
