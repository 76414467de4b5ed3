// One cache for huggingface_hub, diffusers and torchbrush: what one has brought the others use.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { AutoPipelineForText2Image, configure, StableDiffusionPipeline } from '../../lib/index.js';
import { ensurePython } from '../../scripts/python.js';
import { demoModel } from '../helpers.js';
import { startHub } from '../hub-fixture.js';
import { filesOfFolder } from '../hub-server.js';
import { pythonEnvironment } from './workspace.js';

configure({ threads: 1 });
const python = await ensurePython({ log: (line) => console.error(`parity: ${line}`) });
const script = fileURLToPath(new URL('hub.py', import.meta.url));
const demo = { files: filesOfFolder(demoModel) };

async function runPython(cache: string, ...tasks: string[]): Promise<Record<string, unknown>> {
  const { HF_ENDPOINT = '', HF_HOME = '' } = process.env;
  const env = { ...pythonEnvironment, HF_HUB_OFFLINE: '0', HF_ENDPOINT, HF_HOME };
  const { stdout } = await promisify(execFile)(python, [script, 'org/demo', cache, ...tasks], {
    env,
  });
  return JSON.parse(stdout) as Record<string, unknown>;
}

test('huggingface_hub and diffusers take what torchbrush has downloaded', async (context) => {
  const { server, cache } = await startHub(context, { 'org/demo': demo });
  using pipe = await AutoPipelineForText2Image.fromPretrained('org/demo');
  assert.ok(pipe instanceof StableDiffusionPipeline);
  const files = server.sent.length;
  server.requests.length = 0;
  const parts = ['scheduler', 'text_encoder', 'tokenizer', 'unet', 'vae'];
  assert.deepEqual(await runPython(cache, 'offline', 'scan', 'load-offline', 'load'), {
    offline: join(cache, 'models--org--demo', 'snapshots', server.commitOf('org/demo')),
    scan: { refs: ['main'], files, warnings: [] },
    'load-offline': parts,
    load: parts,
  });
  // Not even with the network is anything missing to diffusers.
  assert.deepEqual(server.sent, []);
});

test('torchbrush takes what huggingface_hub has downloaded, to the byte', async (context) => {
  const { server, cache } = await startHub(context, { 'org/demo': demo });
  const { download } = await runPython(cache, 'download');
  const blobs = () => readdirSync(join(cache, 'models--org--demo', 'blobs')).sort();
  const theirs = blobs();
  server.requests.length = 0;
  const options = { localFilesOnly: true };
  assert.equal(basename(String(download)), server.commitOf('org/demo'));
  using offline = await StableDiffusionPipeline.fromPretrained('org/demo', options);
  assert.deepEqual(server.requests, []);
  using online = await StableDiffusionPipeline.fromPretrained('org/demo');
  assert.deepEqual(server.sent, []);
  assert.equal(offline.dtype, online.dtype);
  const own = join(cache, '..', 'own');
  using alone = await StableDiffusionPipeline.fromPretrained('org/demo', { cacheDir: own });
  assert.equal(alone.dtype, online.dtype);
  // The same names for the same contents, as far as both have brought them.
  const ours = readdirSync(join(own, 'models--org--demo', 'blobs'));
  assert.ok(ours.length > 0 && ours.every((name) => theirs.includes(name)));
  assert.deepEqual(blobs(), theirs);
});
