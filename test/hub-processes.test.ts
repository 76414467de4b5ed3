// Several processes and one cache.
import assert from 'node:assert/strict';
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { withLock } from '../lib/checkpoints/hub-lock.js';
import { temporaryFolder } from './helpers.js';
import { fakeFiles, read, startHub } from './hub-fixture.js';
import { hashOf, noise } from './hub-server.js';

const weights = 'unet/diffusion_pytorch_model.safetensors';
const script = fileURLToPath(new URL('hub-download.ts', import.meta.url));

/** A process that has opened the repository and waits for a word. */
async function startProcess(): Promise<ChildProcess> {
  const child = fork(script, ['org/model', weights], { execArgv: ['--import', 'tsx'] });
  await once(child, 'message');
  return child;
}

test('of two processes that want a file, one downloads it and both have it', async (context) => {
  const files = { ...fakeFiles(), [weights]: noise(2_000_000, 12) };
  const { server, cache } = await startHub(context, { 'org/model': { files } });
  const children = await Promise.all([startProcess(), startProcess()]);
  for (const child of children) child.send('go');
  const codes = await Promise.all(children.map(async (child) => (await once(child, 'exit'))[0]));
  assert.deepEqual(codes, [0, 0]);
  const blob = join(cache, 'models--org--model', 'blobs', hashOf(files[weights] as Buffer));
  assert.deepEqual(read(blob), files[weights]);
  assert.equal(server.requests.filter(({ isElsewhere }) => isElsewhere).length, 1);
  const names = readdirSync(cache, { recursive: true, encoding: 'utf8' });
  assert.ok(!names.some((name) => /incomplete|\.lock$/.test(name)));
});

test('a lock is held by one at a time, and taken over from one that shows no life', async (context) => {
  const path = join(temporaryFolder(context), 'folder', 'x.lock');
  let running = 0;
  let most = 0;
  const body = async () => {
    running += 1;
    most = Math.max(most, running);
    await new Promise((resolve) => setTimeout(resolve, 5));
    running -= 1;
  };
  await Promise.all(Array.from({ length: 5 }, () => withLock(path, body, { patience: 20_000 })));
  assert.equal(most, 1);
  assert.ok(!existsSync(path));
  writeFileSync(path, 'someone who is gone');
  await Promise.all(Array.from({ length: 5 }, () => withLock(path, body, { patience: 100 })));
  assert.equal(most, 1);
  assert.ok(!existsSync(path));
  writeFileSync(path, 'someone else');
  const signal = AbortSignal.timeout(50);
  await assert.rejects(withLock(path, body, { signal }), { name: 'TimeoutError' });
});
