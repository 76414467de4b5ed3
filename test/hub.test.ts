// Checkpoints from the hub: what is fetched, how, and what is done when it goes wrong.
import assert from 'node:assert/strict';
import {
  existsSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';

import { type CheckpointFolder, openCheckpointFolder } from '../lib/checkpoints/folder.js';
import { HubSnapshot } from '../lib/checkpoints/hub.js';
import { HubClient } from '../lib/checkpoints/hub-client.js';
import { parseFile, parseRepository } from '../lib/checkpoints/hub-reference.js';
import { type HubAccess, hubSettings } from '../lib/checkpoints/hub-settings.js';
import { type DownloadProgress, HubError } from '../lib/index.js';
import { environment, fakeFiles, neededFiles, read, startHub } from './hub-fixture.js';
import { gitHash, hashOf, noise, token } from './hub-server.js';

const main = 'org/model';
const weights = 'unet/diffusion_pytorch_model.safetensors';

/** Opens a repository and fetches all of its parts. */
async function fetchAll(
  path = main,
  { variant, ...access }: HubAccess & { variant?: string } = {},
): Promise<CheckpointFolder> {
  const checkpoint = await openCheckpointFolder(path, access);
  const parts = [...checkpoint.components].map(([folder, { className }]) => ({
    folder,
    className,
  }));
  await checkpoint.snapshot?.fetchParts(parts, { variant, weights: true });
  return checkpoint;
}

async function fetchOne(name: string, access: HubAccess = {}): Promise<void> {
  const { snapshot } = await openCheckpointFolder(main, access);
  await snapshot?.fetch([name]);
}

async function abortInTheMiddle(name: string): Promise<void> {
  const controller = new AbortController();
  const reason = new Error('enough');
  const onProgress = ({ file }: DownloadProgress) => {
    if (file === name) controller.abort(reason);
  };
  await assert.rejects(fetchOne(name, { signal: controller.signal, onProgress }), reason);
}

/** Nothing half-done lies about. */
function assertTidy(cache: string): void {
  const names = readdirSync(cache, { recursive: true, encoding: 'utf8' });
  assert.deepEqual(
    names.filter((name) => /incomplete|\.tmp$|\.lock$/.test(name)),
    [],
  );
}

test('names of repositories and files are told from paths', () => {
  const { repository, revision } = parseRepository('org/name@refs/pr/4') ?? {};
  assert.deepEqual([repository, revision], ['org/name', 'refs/pr/4']);
  assert.equal(parseRepository('stable-diffusion-v1-5/sd_1.5')?.revision, undefined);
  const paths = ['name', './org/name', '../org/name', '/org/name', 'a/b/c', 'org/', 'org/na me'];
  const wrong = [
    'org/..',
    'org/na--me',
    'org/name.',
    'org\\name',
    'org/x.ckpt',
    'org/name@',
    'org/name@../x',
  ];
  for (const text of [...paths, ...wrong]) assert.equal(parseRepository(text), undefined, text);
  const file = { repository: 'org/name', revision: 'a/b', file: 'x/y z.safetensors' };
  const endpoint = 'http://hub.example';
  for (const address of [endpoint, 'https://huggingface.co', 'https://hf.co', 'huggingface.co']) {
    const page = `${address}/org/name/resolve/a%2Fb/x/y%20z.safetensors?download=true`;
    assert.deepEqual(parseFile(page, endpoint), file);
  }
  assert.equal(parseFile('org/name@v1/x.safetensors', endpoint)?.revision, 'v1');
  for (const text of ['https://elsewhere.example/org/name/x', 'org/name/../x', 'org/name', 'x.bin'])
    assert.equal(parseFile(text, endpoint), undefined, text);
});

test('only what is read comes, into the layout of huggingface_hub, and is not asked for again', async (context) => {
  const { server, cache } = await startHub(context, { [main]: { files: fakeFiles() } });
  const told: DownloadProgress[] = [];
  const { folder } = await fetchAll(main, { onProgress: (progress) => told.push(progress) });
  assert.deepEqual(server.sent, neededFiles);
  const commit = server.commitOf(main);
  const repository = join(cache, 'models--org--model');
  assert.equal(folder, join(repository, 'snapshots', commit));
  assert.equal(readFileSync(join(repository, 'refs', 'main'), 'utf8'), commit);
  for (const name of neededFiles) {
    const content = fakeFiles()[name] as Buffer;
    const hash = content.length < 65_536 ? gitHash(content) : hashOf(content);
    assert.deepEqual(read(folder, name), content);
    const depth = '../'.repeat(name.split('/').length + 1);
    assert.equal(readlinkSync(join(folder, name)), `${depth}blobs/${hash}`);
  }
  assertTidy(cache);
  const last = told.at(-1) as DownloadProgress;
  assert.deepEqual([last.bytes, last.fileBytes], [last.size, last.fileSize]);
  assert.ok(told.every(({ repository: name, bytes, size }) => name === main && bytes <= size));
  server.requests.length = 0;
  await fetchAll();
  assert.deepEqual(
    server.requests.map(({ url }) => url.split('?')[0]),
    ['/api/models/org/model/revision/main'],
  );
  server.requests.length = 0;
  await fetchAll(`${main}@${commit}`);
  await fetchAll(main, { localFilesOnly: true });
  environment(context, { HF_HUB_OFFLINE: '1' });
  await fetchAll();
  assert.deepEqual(server.requests, []);
});

test('a variant comes where there is one, .bin where there is nothing else, and shards by their index', async (context) => {
  const files = fakeFiles();
  const index = { weight_map: { a: 'model-00001-of-00002.bin', b: 'model-00002-of-00002.bin' } };
  delete files['vae/diffusion_pytorch_model.safetensors'];
  delete files['vae/diffusion_pytorch_model.bin'];
  files['vae/diffusion_pytorch_model.bin.index.json'] = Buffer.from(JSON.stringify(index));
  for (const name of new Set(Object.values(index.weight_map)))
    files[`vae/${name}`] = Buffer.from(name);
  files['vae/model-00003-of-00003.bin'] = noise(8);
  const { server } = await startHub(context, { [main]: { files } });
  await fetchAll(main, { variant: 'fp16' });
  const large = server.sent.filter((name) => /vae|diffusion_pytorch/.test(name));
  assert.deepEqual(large, [
    'unet/diffusion_pytorch_model.fp16.safetensors',
    'vae/config.json',
    'vae/diffusion_pytorch_model.bin.index.json',
    'vae/model-00001-of-00002.bin',
    'vae/model-00002-of-00002.bin',
  ]);
});

test('the access token goes to the hub and nowhere else', async (context) => {
  const { server, cache } = await startHub(context, {
    [main]: { files: fakeFiles(), private: true },
  });
  await assert.rejects(fetchAll(), { code: 'ERR_HUB_NOT_FOUND', message: /set HF_TOKEN/ });
  environment(context, { HF_TOKEN: `${token}\n` });
  await fetchAll();
  const elsewhere = server.requests.filter((request) => request.isElsewhere);
  assert.equal(elsewhere.length, 2);
  assert.ok(elsewhere.every(({ authorization }) => authorization === undefined));
  rmSync(cache, { recursive: true });
  process.env.HF_TOKEN = 'hf_wrong';
  await assert.rejects(fetchAll(), { code: 'ERR_HUB_ACCESS', message: /not accept.*HF_TOKEN/ });
  await fetchAll(main, { token });
});

test('an interrupted download goes on where it stopped, in the same call or a later one', async (context) => {
  const files = { ...fakeFiles(), [weights]: noise(3_000_000, 11) };
  const { server, cache } = await startHub(context, { [main]: { files } });
  const at = `path=${weights}`;
  server.faults.push({ at, times: 2, cutAfter: 500_000 });
  const { folder } = await fetchAll();
  assert.deepEqual(read(folder, weights), files[weights]);
  const ranges = server.requests.filter(({ url }) => url.includes(at)).map(({ range }) => range);
  assert.equal(ranges.length, 3);
  for (const range of ranges.slice(1)) assert.match(range ?? '', /^bytes=[1-9]\d*-$/);

  rmSync(cache, { recursive: true });
  server.faults.push({ at, times: 1, stallAfter: 600_000 });
  await abortInTheMiddle(weights);
  server.requests.length = 0;
  await fetchAll();
  const [again] = server.requests.filter(({ url }) => url.includes(at));
  assert.match(again?.range ?? '', /^bytes=[1-9]\d*-$/);
  assert.deepEqual(read(folder, weights), files[weights]);
  assertTidy(cache);
});

test('a transfer that stands still, or that starts again from the beginning, comes to its end', async (context) => {
  const files = fakeFiles();
  const { server, cache } = await startHub(context, { [main]: { files } });
  environment(context, { HF_HUB_DOWNLOAD_TIMEOUT: '0.3' });
  const at = `path=${weights}`;
  server.faults.push({ at, times: 1, stallAfter: 100_000 }, { at, times: 1, ignoreRange: true });
  const { folder } = await fetchAll();
  assert.deepEqual(read(folder, weights), files[weights]);
  assertTidy(cache);
});

test('what is not as it was listed is thrown away, and a wrong beginning is fetched anew', async (context) => {
  const files = fakeFiles();
  const { server, cache } = await startHub(context, { [main]: { files } });
  const spoilt = (content: Buffer) => Buffer.concat([Buffer.from('x'), content.subarray(1)]);
  const at = `path=${weights}`;
  const wrong = { code: 'ERR_HUB_INTEGRITY', message: new RegExp(weights) };
  const blob = join(cache, 'models--org--model', 'blobs', hashOf(files[weights] as Buffer));
  server.faults.push({ at, times: 1, change: spoilt });
  await assert.rejects(fetchOne(weights), wrong);
  assert.ok(!existsSync(`${blob}.torchbrush.incomplete`));
  server.faults.push({ at, times: 1, change: (content) => Buffer.concat([content, content]) });
  await assert.rejects(fetchOne(weights), wrong);
  server.faults.push({ at: '/unet/config.json', times: 1, change: () => Buffer.from('[]') });
  await assert.rejects(fetchOne('unet/config.json'), { ...wrong, message: /unet\/config\.json/ });
  assertTidy(join(cache, 'models--org--model', 'snapshots'));
  rmSync(`${blob}.torchbrush.incomplete`, { force: true });
  server.faults.push({ at, times: 1, change: spoilt, stallAfter: 150_000 });
  await abortInTheMiddle(weights);
  assert.ok(existsSync(`${blob}.torchbrush.incomplete`));
  const { folder } = await fetchAll();
  assert.deepEqual(read(folder, weights), files[weights]);
  assertTidy(cache);
});

test('two transfers of one file, where locks do not hold, give that file', async (context) => {
  const files = { ...fakeFiles(), [weights]: noise(1_000_000, 13) };
  const { server, cache } = await startHub(context, { [main]: { files } });
  await openCheckpointFolder(main);
  // A file in the place of the folder: no lock can be made.
  rmSync(join(cache, '.locks'), { recursive: true });
  writeFileSync(join(cache, '.locks'), '');
  await Promise.all([fetchOne(weights), fetchOne(weights)]);
  assert.ok(server.requests.filter(({ isElsewhere }) => isElsewhere).length === 2);
  const blob = join(cache, 'models--org--model', 'blobs', hashOf(files[weights] as Buffer));
  assert.deepEqual(read(blob), files[weights]);
});

test('refusals say what they mean and what to do', async (context) => {
  const { server } = await startHub(context, {
    [main]: { files: fakeFiles() },
    'org/gated': { files: {}, gated: true },
    'org/other': { files: { 'x.txt': Buffer.from('x') } },
  });
  const cases: [string, HubAccess, string, RegExp][] = [
    ['org/gone', {}, 'ERR_HUB_NOT_FOUND', /neither a folder .*org\/gone nor a repository/],
    ['org/gone', { token }, 'ERR_HUB_NOT_FOUND', /with this token/],
    ['org/gated', {}, 'ERR_HUB_ACCESS', /gated. Accept its conditions .*HF_TOKEN/],
    ['org/gated', { token }, 'ERR_HUB_ACCESS', /with the account that the token/],
    [main, { revision: 'v9' }, 'ERR_HUB_REVISION', /no such revision/],
    [`${main}@v9`, {}, 'ERR_HUB_REVISION', /no such revision/],
    ['org/other', {}, 'ERR_HUB_NOT_FOUND', /no file model_index\.json/],
    [`${main}@v1`, { revision: 'v1' }, 'ERR_INVALID_ARGUMENT', /one revision/],
    [main, { revision: '../main' }, 'ERR_INVALID_ARGUMENT', /for revision/],
    [main, { token: 'ä' }, 'ERR_INVALID_ARGUMENT', /^(?!.*ä).*for token/],
  ];
  for (const [path, access, code, message] of cases) {
    await assert.rejects(fetchAll(path, access), { code, message }, path);
  }
  server.faults.push({ at: '/api/', times: 1, status: 429, headers: { 'retry-after': '3600' } });
  await assert.rejects(fetchAll(), { code: 'ERR_HUB_RATE_LIMIT', message: /in 3600 s/ });
  server.faults.push({ at: '/api/', times: 1, status: 200, body: '<html>' });
  await assert.rejects(fetchAll(), { code: 'ERR_HUB_NETWORK', message: /login page/ });
  server.faults.push({ at: '/api/', status: 500, headers: { 'retry-after': '0' } });
  await assert.rejects(fetchAll(), { code: 'ERR_HUB_NETWORK', message: /answers 500/ });
  assert.ok(server.requests.length < 60);
});

test('a busy server is asked again after the time that it names', async (context) => {
  const { server } = await startHub(context, { [main]: { files: fakeFiles() } });
  const headers = { 'retry-after': '0' };
  for (const at of ['/revision/', '/tree/', weights, `path=${weights}`]) {
    server.faults.push({ at, times: 2, status: 429, headers });
  }
  server.faults.push({ at: '/resolve/', times: 1, status: 503, headers });
  const { folder } = await fetchAll();
  assert.deepEqual(read(folder, weights), fakeFiles()[weights]);
});

test('without a network the cache serves, with a warning, and what it lacks is named', async (context) => {
  const { server, cache } = await startHub(context, { [main]: { files: fakeFiles() } });
  environment(context, { HF_HUB_OFFLINE: '1' });
  const missing = { code: 'ERR_HUB_NOT_CACHED', message: /org\/model .*HF_HUB_OFFLINE is set/ };
  await assert.rejects(fetchAll(), missing);
  process.env.HF_HUB_OFFLINE = '0';
  const { folder } = await fetchAll();
  rmSync(join(folder, 'vae', 'config.json'));
  const lacking = { code: 'ERR_HUB_NOT_CACHED', message: /vae\/config\.json of org\/model is not/ };
  await assert.rejects(fetchAll(main, { localFilesOnly: true }), lacking);
  // A cache that an older huggingface_hub has made has no list of files.
  rmSync(join(cache, 'models--org--model', 'trees'), { recursive: true });
  await assert.rejects(fetchAll(main, { localFilesOnly: true }), { ...lacking });
  await fetchAll();
  const warnings: (string | undefined)[] = [];
  const listen = (warning: Error & { code?: string }) => warnings.push(warning.code);
  process.on('warning', listen);
  context.after(() => process.off('warning', listen));
  await server.close();
  await fetchAll();
  assert.deepEqual(warnings, ['TORCHBRUSH_HUB_CACHED']);
  const signal = AbortSignal.timeout(200);
  await assert.rejects(fetchAll('org/other', { signal }), { name: 'TimeoutError' });
  const settings = { ...(await hubSettings({})), retryDelay: 1 };
  await assert.rejects(new HubClient('org/other', settings, undefined).commitOf('main', false), {
    code: 'ERR_HUB_NETWORK',
    message: /cannot be reached: connect ECONNREFUSED/,
  });
});

test('a branch that has moved is noticed, and files that stayed the same are not sent again', async (context) => {
  const files = fakeFiles();
  const { server } = await startHub(context, { [main]: { files, revisions: ['v1'] } });
  const { folder: before } = await fetchAll(main, { revision: 'v1' });
  server.requests.length = 0;
  files['vae/config.json'] = Buffer.from('{"a":1}');
  const { folder } = await fetchAll(`${main}@v1`);
  assert.notEqual(folder, before);
  assert.deepEqual(server.sent, ['vae/config.json']);
});

test('a listing that leads out of the cache, or a disk without room, stops everything', async (context) => {
  const { server, cache } = await startHub(context, { [main]: { files: fakeFiles() } });
  const listed = (file: object) => {
    const entry = { type: 'file', path: 'model_index.json', size: 1, oid: '0'.repeat(40), ...file };
    server.faults.push({ at: '/tree/', times: 1, status: 200, body: JSON.stringify([entry]) });
  };
  for (const path of ['../../x', '/etc/passwd', 'a/../../x', 'a//b', 'a\\b', '']) {
    listed({ path });
    await assert.rejects(fetchAll(), { code: 'ERR_HUB_NETWORK' }, path);
  }
  listed({ oid: '../../../x' });
  await assert.rejects(fetchAll(), { code: 'ERR_HUB_NETWORK' });
  listed({ size: 1e15 });
  await assert.rejects(fetchAll(), { code: 'ERR_HUB_CACHE', message: /needs 1000000\.00 GB/ });
  assert.deepEqual(server.sent, []);
  assertTidy(cache);
  const cacheDir = join(cache, '..', 'file');
  writeFileSync(cacheDir, '');
  await assert.rejects(fetchAll(main, { cacheDir }), {
    code: 'ERR_HUB_CACHE',
    message: /Cannot write the cache .*file.*cacheDir/,
  });
});

test('a file of a repository is found by what the repository holds', async (context) => {
  const files = { 'a.safetensors': noise(10), 'b.safetensors': noise(11) };
  await startHub(context, { 'org/lora': { files } });
  const reference = parseRepository('org/lora');
  assert.ok(reference !== undefined);
  const snapshot = await HubSnapshot.open(reference, {});
  assert.deepEqual(snapshot.names, ['a.safetensors', 'b.safetensors']);
  await assert.rejects(snapshot.fetch(['c.safetensors']), HubError);
});

after(() => assert.equal(process.env.HF_ENDPOINT, undefined));
