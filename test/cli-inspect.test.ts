// What inspect and doctor tell, in words and as JSON.
import assert from 'node:assert/strict';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

import { array, someLayers, write } from './adapter-files.js';
import { run } from './cli-process.js';
import { demoCopy, demoModel, temporaryFolder } from './helpers.js';

test('inspect tells what a checkpoint consists of', async () => {
  const words = await run(['inspect', demoModel]);
  assert.deepEqual([words.code, words.stderr], [0, '']);
  assert.match(words.stdout, /StableDiffusionPipeline/);
  assert.match(
    words.stdout,
    /unet: UNet2DConditionModel\n.*M parameters, float16; diffusion_pytorch_model/,
  );
  assert.match(words.stdout, /ready to run\n$/);
});

test('inspect names what is missing and ends with 1', async (context) => {
  const folder = demoCopy(context);
  rmSync(join(folder, 'unet/diffusion_pytorch_model.safetensors'));
  rmSync(join(folder, 'tokenizer'), { recursive: true });
  writeFileSync(join(folder, 'vae/config.json'), '{"act_fn": "mish"}');
  const { code, stdout, stderr } = await run(['inspect', folder]);
  assert.deepEqual([code, stderr], [1, '']);
  assert.match(stdout, /problem: .*unet has no weights/);
  assert.match(stdout, /problem: the folder tokenizer\/ is missing/);
  assert.match(stdout, /program missing/);
  assert.match(
    stdout,
    /Make the missing programs with: npx torchbrush export ".*"\nnot ready to run\n$/,
  );
});

test('inspect does not ask for parts that nothing here runs', async (context) => {
  const folder = demoCopy(context);
  const index = join(folder, 'model_index.json');
  const parts = JSON.parse(readFileSync(index, 'utf8')) as object;
  const feature_extractor = ['transformers', 'CLIPFeatureExtractor'];
  writeFileSync(index, JSON.stringify({ ...parts, feature_extractor }));
  const { code, stdout } = await run(['inspect', folder, '--json']);
  assert.equal(code, 0, stdout);
  const report = JSON.parse(stdout) as { ready: boolean; components: Record<string, unknown>[] };
  assert.equal(report.ready, true);
  const unet = report.components.find(({ name }) => name === 'unet');
  assert.deepEqual(unet?.dtypes, ['float16']);
  assert.match(String(unet?.architecture), /^[0-9a-f]{16}$/);
});

test('inspect knows LoRA and textual inversion files', async (context) => {
  const folder = temporaryFolder(context);
  const lora = write(folder, 'lora', someLayers(1, 4));
  const other = write(folder, 'loha', { 'lora_unet_conv_in.hada_w1_a': array([2, 2], 1, 1) });
  const word = write(folder, 'word', { '<x>': array([2, 768], 3, 0.05) });
  const report = async (path: string): Promise<[number | null, Record<string, unknown>]> => {
    const { code, stdout } = await run(['inspect', path, '--json']);
    return [code, JSON.parse(stdout) as Record<string, unknown>];
  };
  const [code, found] = await report(lora);
  assert.deepEqual(
    [code, found.kind, found.format, found.ranks, found.networks],
    [0, 'lora', 'diffusers', [4], { unet: 6, text_encoder: 1 }],
  );
  const [refused, loha] = await report(other);
  assert.equal(refused, 1);
  assert.match(String(loha.problem), /LoHa/);
  const [, inversion] = await report(word);
  assert.deepEqual(
    [inversion.kind, inversion.token, inversion.vectors, inversion.base],
    ['textual-inversion', '<x>', 2, 'Stable Diffusion 1.x'],
  );
});

test('doctor shows what was found and draws a test picture', async () => {
  const { code, stdout, stderr } = await run(['doctor']);
  assert.deepEqual([code, stderr], [0, '']);
  for (const line of [
    /^node +v\d+/m,
    /^libtorch +2\.\d+\.\d+ in /m,
    /^devices +cpu/m,
    /^self-test +ok/m,
  ]) {
    assert.match(stdout, line);
  }
});

test('doctor goes on after a failure, and names the cure', async (context) => {
  const missing = join(temporaryFolder(context), 'missing');
  const { code, stdout, stderr } = await run(['doctor', '--json'], {
    env: { TORCHBRUSH_LIBTORCH: missing },
  });
  assert.equal(code, 1);
  const { ready, checks } = JSON.parse(stdout) as {
    ready: boolean;
    checks: { name: string; status: string; found: string }[];
  };
  assert.equal(ready, false);
  const failed = checks.filter(({ status }) => status === 'failed');
  assert.deepEqual(
    failed.map(({ name }) => name),
    ['libtorch'],
  );
  assert.match(failed[0]?.found ?? '', /TORCHBRUSH_LIBTORCH: no .*pip install torch/s);
  assert.ok(checks.some(({ name, status }) => name === 'programs' && status === 'ok'));
  assert.match(stderr, /^error: libtorch: .*ERR_LIBTORCH_NOT_FOUND\)\n$/s);
});

test('doctor tells of a libtorch that takes the process down', async (context) => {
  const folder = temporaryFolder(context);
  // What a libtorch for another CPU would do when it is opened.
  const preload = join(folder, 'crash.mjs');
  writeFileSync(
    preload,
    `if (process.argv.includes('--native')) process.kill(process.pid, 'SIGILL');`,
  );
  const { code, stdout, stderr } = await run(['doctor'], {
    env: { NODE_OPTIONS: `--import ${preload}` },
  });
  assert.equal(code, 1);
  assert.match(stdout, /^crash +FAILED .*SIGILL.*\n +→ .*instructions that this CPU lacks/m);
  assert.match(stderr, /ERR_DOCTOR_CRASH/);
});
