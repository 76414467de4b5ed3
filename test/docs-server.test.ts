// The server of docs/services.md, run as it stands there.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout } from 'node:timers/promises';

import { loadImage } from '../lib/index.js';
import { demoModel, packageRoot } from '../lib/package-root.js';
import { programsOf } from '../scripts/docs/markdown.js';
import { temporaryFolder } from './helpers.js';

const page = readFileSync(join(packageRoot, 'docs', 'services.md'), 'utf8');
const picture = readFileSync(join(demoModel, 'inputs', 'house-noto-64.png'));

async function freePort(): Promise<number> {
  const server = createServer().listen(0);
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return port;
}

/** Asks until the server is there. @throws where its process ends first */
async function health(child: ChildProcess, address: string): Promise<Record<string, number>> {
  for (;;) {
    assert.equal(child.exitCode, null, 'the server has ended');
    const response = await fetch(`${address}/health`).catch(() => undefined);
    if (response !== undefined) return (await response.json()) as Record<string, number>;
    await setTimeout(50);
  }
}

test('the server draws, refuses what cannot be drawn, and ends when it is told', async (context) => {
  const program = programsOf(page).find((code) => code.includes('createServer'));
  assert.ok(program !== undefined);
  const file = join(temporaryFolder(context), 'server.mts');
  writeFileSync(file, program);
  const port = await freePort();
  const child = spawn(process.execPath, ['--import', 'tsx', file], {
    cwd: packageRoot,
    env: {
      ...process.env,
      MODEL: demoModel,
      PORT: String(port),
      TSX_TSCONFIG_PATH: join(packageRoot, 'tsconfig.json'),
    },
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  context.after(() => child.kill('SIGKILL'));
  const address = `http://localhost:${port}`;
  const { networks } = await health(child, address);
  assert.ok(Number(networks) > 0);

  const ask = (query: string, body: Uint8Array) =>
    fetch(`${address}/?${query}`, { method: 'POST', body });
  const drawn = await ask('prompt=a+castle&steps=4', picture);
  assert.equal(drawn.status, 200);
  const image = await loadImage(await drawn.arrayBuffer());
  assert.deepEqual([image.width, image.height], [64, 64]);

  const noPicture = await ask('prompt=a+castle', new TextEncoder().encode('no picture'));
  assert.equal(noPicture.status, 400);
  const noSteps = await ask('prompt=a+castle&steps=0', picture);
  assert.equal(noSteps.status, 400);
  assert.match(await noSteps.text(), /numInferenceSteps/);
  const tooLarge = await ask('prompt=a+castle', new Uint8Array(11e6)).catch(() => undefined);
  assert.ok(tooLarge === undefined || tooLarge.status === 400);

  const client = new AbortController();
  const { signal } = client;
  const left = fetch(`${address}/?prompt=a+castle&steps=50`, {
    method: 'POST',
    body: picture,
    signal,
  });
  while ((await health(child, address)).running !== 1) await setTimeout(5);
  client.abort();
  await assert.rejects(left, { name: 'AbortError' });
  while ((await health(child, address)).running !== 0) await setTimeout(5);
  const { tensors, running } = await health(child, address);
  assert.deepEqual({ tensors, running }, { tensors: 0, running: 0 });

  child.kill('SIGTERM');
  assert.deepEqual(await once(child, 'exit'), [0, null]);
});
