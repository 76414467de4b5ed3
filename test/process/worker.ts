// Workers that run TypeScript.
import { Worker } from 'node:worker_threads';

/** Workers inherit no loader hooks before Node 22: each registers tsx itself. */
export function startWorker(url: string, workerData: string): Worker {
  const source = `import('tsx/esm/api').then(({ register }) => { register(); return import(${JSON.stringify(url)}); })`;
  return new Worker(source, { eval: true, workerData, execArgv: [] });
}
