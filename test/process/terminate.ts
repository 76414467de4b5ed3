// Run in a child process by exit.test.ts: workers are terminated at any moment, most of them inside a
// call into native code, where every way back into JavaScript fails from then on.
import { isMainThread, parentPort, workerData } from 'node:worker_threads';

import { Generator, Tensor } from '../../lib/index.js';
import { linearCombination, randn } from '../../lib/ops.js';
import { startWorker } from './worker.js';

const rounds = 2;
const kinds = ['made', 'viewed', 'disposed', 'refused', 'answered'] as const;
type Kind = (typeof kinds)[number];

/** Calls into native code without an end. */
async function work(kind: Kind): Promise<void> {
  const generator = new Generator().manualSeed(1);
  const shape = [4, 16];
  const other = Tensor.fromArray(new Float32Array(8), [8]);
  const turns: Record<Kind, () => unknown> = {
    made: () => randn(shape, { generator }),
    viewed: () => randn(shape, { generator }).data,
    disposed: () => randn(shape, { generator }).dispose(),
    refused: () => {
      try {
        linearCombination([1, 1], [randn(shape, { generator }), other]);
      } catch {}
    },
    answered: () => Promise.all([1, 2, 3].map(() => randn(shape, { generator }).toFloat32Array())),
  };
  const turn = turns[kind];
  for (let i = 0; ; i += 1) {
    await turn();
    if (i === 0) parentPort?.postMessage('running');
  }
}

async function terminateOne(kind: Kind, delay: number): Promise<void> {
  const worker = startWorker(import.meta.url, kind);
  await new Promise((resolve, reject) => {
    worker.once('message', resolve);
    worker.once('error', reject);
  });
  await new Promise((resolve) => setTimeout(resolve, delay));
  await worker.terminate();
}

if (isMainThread) {
  for (let round = 0; round < rounds; round += 1) {
    await Promise.all(kinds.map((kind, i) => terminateOne(kind, (round * 7 + i * 3) % 20)));
  }
  console.log('all terminated');
} else {
  await work(workerData as Kind);
}
