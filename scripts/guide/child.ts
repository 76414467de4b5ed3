// Runs examples in a process of their own: child.ts FOLDER FILE… Tells the parent about each.
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

import { memoryStats } from '../../lib/index.js';

const [folder = '.', ...files] = process.argv.slice(2);
process.chdir(folder);
for (const file of files) {
  const start = performance.now();
  const error = await errorOf(join(folder, file));
  process.send?.({ seconds: (performance.now() - start) / 1000, error });
}
process.disconnect?.();

async function errorOf(path: string): Promise<string | undefined> {
  const before = memoryStats();
  try {
    await import(pathToFileURL(path).href);
  } catch (error) {
    return error instanceof Error ? (error.stack ?? error.message) : String(error);
  }
  const { tensors, networks } = memoryStats();
  const left = { tensors: tensors - before.tensors, networks: networks - before.networks };
  if (left.tensors === 0 && left.networks === 0) return undefined;
  return `It leaves ${left.tensors} tensors and ${left.networks} networks behind.`;
}
