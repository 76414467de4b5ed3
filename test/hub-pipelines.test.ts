// Everything that takes the path of a checkpoint takes a name on the hub.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';

import { openConnectedCheckpoint } from '../lib/checkpoints/connected.js';
import { openCheckpointFolder } from '../lib/checkpoints/folder.js';
import { openSingleFile } from '../lib/checkpoints/single-file.js';
import {
  AutoPipelineForText2Image,
  ControlNetModel,
  configure,
  type LoadProgress,
  memoryStats,
  StableDiffusionPipeline,
} from '../lib/index.js';
import { array, someLayers, write } from './adapter-files.js';
import { demoModel, temporaryFolder } from './helpers.js';
import { environment, startHub } from './hub-fixture.js';
import { filesOfFolder } from './hub-server.js';

configure({ threads: 1 });
after(() => assert.deepEqual(memoryStats(), { tensors: 0, tensorBytes: 0, networks: 0 }));

const draw = { prompt: 'a fox', height: 32, width: 32, numInferenceSteps: 2, seed: 1 };
const demo = { files: filesOfFolder(demoModel) };

/** A file with these tensors. */
function contentOf(folder: string, arrays: Parameters<typeof write>[2]): Buffer {
  return readFileSync(write(folder, 'x', arrays));
}

test('a pipeline from the hub draws what its folder draws, and adapters come the same way', async (context) => {
  const folder = temporaryFolder(context);
  const lora = contentOf(folder, someLayers(1));
  const word = contentOf(folder, { '<one>': array([128], 1, 1) });
  const other = contentOf(folder, { '<two>': array([128], 2, 1) });
  const { server } = await startHub(context, {
    'org/demo': demo,
    'org/lora': { files: { 'pytorch_lora_weights.safetensors': lora, 'b.safetensors': word } },
    'org/words': { files: { 'one.safetensors': word, 'two/x.safetensors': other } },
  });
  using local = await StableDiffusionPipeline.fromPretrained(demoModel);
  const { images: wanted } = await local.generate(draw);
  const told = new Set<LoadProgress['status']>();
  const onProgress = ({ status }: LoadProgress) => told.add(status);
  const { vae } = local.components;
  using pipe = await AutoPipelineForText2Image.fromPretrained('org/demo', { vae, onProgress });
  assert.deepEqual([...told], ['downloading', 'loading', 'loaded']);
  assert.ok(server.sent.includes('unet/diffusion_pytorch_model.safetensors'));
  assert.ok(!server.sent.some((name) => /^vae|README|inputs/.test(name)), String(server.sent));
  const { images } = await pipe.generate(draw);
  assert.deepEqual(images[0]?.data, wanted[0]?.data);

  assert.ok(pipe instanceof StableDiffusionPipeline);
  server.requests.length = 0;
  await pipe.loadLoraWeights('org/lora');
  await pipe.loadTextualInversion('org/words', { weightName: 'one.safetensors' });
  await pipe.unloadTextualInversion();
  await pipe.loadTextualInversion(`${server.endpoint}/org/words/blob/main/two/x.safetensors`);
  const names = ['one.safetensors', 'pytorch_lora_weights.safetensors', 'two/x.safetensors'];
  assert.deepEqual(server.sent, names);
  await assert.rejects(pipe.loadTextualInversion('org/words', { weightName: 'x.bin' }), {
    code: 'ERR_HUB_NOT_FOUND',
  });
  await assert.rejects(pipe.loadLoraWeights('org/words', { revision: 'v2' }), {
    code: 'ERR_HUB_REVISION',
  });
});

test('a ControlNet and a file of the original layout come from the hub, with configurations only', async (context) => {
  const root = temporaryFolder(context);
  const tensor = array([80], 1, 1);
  const original = contentOf(root, { 'model.diffusion_model.output_blocks.1.1.conv.bias': tensor });
  const config = Buffer.from(JSON.stringify({ _class_name: 'ControlNetModel' }));
  const net = { 'config.json': config, 'diffusion_pytorch_model.bin': original };
  const { server } = await startHub(context, {
    'org/demo': demo,
    'org/control': { files: { ...net, 'control.ckpt': original, 'model.onnx': original } },
    'org/files': { files: { 'all in one.safetensors': original }, revisions: ['v1'] },
  });
  const loading = ControlNetModel.fromPretrained('org/control');
  await assert.rejects(loading, { code: 'ERR_PROGRAM_NOT_FOUND' });
  assert.deepEqual(server.sent, Object.keys(net));
  server.requests.length = 0;
  await assert.rejects(ControlNetModel.fromPretrained('org/control', { variant: '../x' }), {
    code: 'ERR_INVALID_ARGUMENT',
    message: /for variant/,
  });
  const offline = { localFilesOnly: true };
  await assert.rejects(ControlNetModel.fromSingleFile('org/control/control.ckpt', offline), {
    code: 'ERR_HUB_NOT_CACHED',
  });
  assert.deepEqual(server.requests, []);
  const access = { revision: 'v1' };
  const path = 'org/files/all in one.safetensors';
  const { components, file } = await openSingleFile(path, { config: 'org/demo', access });
  assert.deepEqual([...components.keys()], ['unet']);
  assert.match(file, /models--org--files.snapshots.[0-9a-f]{40}.all in one\.safetensors$/);
  assert.ok(server.sent.includes('tokenizer/merges.txt'));
  assert.deepEqual(
    server.sent.filter((name) => name.includes('safetensors')),
    ['all%20in%20one.safetensors'],
  );
  await assert.rejects(openSingleFile('https://elsewhere.example/org/files/x.safetensors'), {
    code: 'ERR_INVALID_ARGUMENT',
    message: /address of one on http/,
  });
});

test('the prior that a decoder on the hub names comes from there, at its own revision', async (context) => {
  const index = (_class_name: string) => Buffer.from(JSON.stringify({ _class_name }));
  const readme = Buffer.from('---\nprior:\n- org/prior\n---\n');
  const { server } = await startHub(context, {
    'org/decoder': {
      files: { 'model_index.json': index('Decoder'), 'README.md': readme },
      revisions: ['v1'],
    },
    'org/prior': { files: { 'model_index.json': index('Prior') } },
  });
  const access = { revision: 'v1' };
  const decoder = await openCheckpointFolder('org/decoder', access);
  const prior = await openConnectedCheckpoint(decoder, 'prior', undefined, access);
  assert.equal(prior.className, 'Prior');
  assert.deepEqual(server.sent, ['README.md', 'model_index.json']);
  delete server.repositories['org/prior'];
  environment(context, { HF_HOME: temporaryFolder(context) });
  await assert.rejects(openConnectedCheckpoint(decoder, 'prior', undefined, {}), {
    code: 'ERR_HUB_NOT_FOUND',
    message: /names the prior org\/prior, which is not in .*Name another: .*prior:/s,
  });
});

test('options of the hub are checked before anything is asked', async (context) => {
  const { server } = await startHub(context, {});
  const cases: [Record<string, unknown>, RegExp][] = [
    [{ revision: 7 }, /for revision but received 7/],
    [{ localFilesOnly: 'yes' }, /true or false for localFilesOnly/],
    [{ cacheDir: '' }, /a folder for cacheDir/],
    [{ token: true }, /an access token for token/],
    [{ cache_dir: 'x' }, /It is called cacheDir here/],
    [{ device: 'cuda:77' }, /for device/],
  ];
  for (const [options, message] of cases) {
    const loading = StableDiffusionPipeline.fromPretrained('org/demo', options);
    await assert.rejects(loading, { code: 'ERR_INVALID_ARGUMENT', message });
  }
  environment(context, { HF_ENDPOINT: 'ftp://hub' });
  await assert.rejects(StableDiffusionPipeline.fromPretrained('org/demo'), /HF_ENDPOINT/);
  await assert.rejects(
    StableDiffusionPipeline.fromPretrained(join('.', 'no', 'such', 'folder')),
    /no checkpoint folder .*folder.* or a name on the hub/,
  );
  assert.deepEqual(server.requests, []);
});
