// Several files at once, and what is told of them.
import { mkdir, stat, statfs } from 'node:fs/promises';
import { dirname } from 'node:path';

import { HubError } from '../errors.js';
import type { CachedRepository, HubFile } from './hub-cache.js';
import type { HubClient } from './hub-client.js';
import type { HubAccess } from './hub-settings.js';
import { partialOf, transfer } from './hub-transfer.js';

/** As many as huggingface_hub has under way. */
const mostAtOnce = 8;

/** Milliseconds between two reports. */
const reportInterval = 100;

/**
 * Downloads files and puts them into a snapshot. The first failure stops the others.
 *
 * @throws HubError, the signal's reason
 */
export async function transferAll(
  client: HubClient,
  cache: CachedRepository,
  commit: string,
  files: readonly HubFile[],
  { onProgress, signal }: HubAccess,
): Promise<void> {
  // Files of the same content are one blob.
  const blobs = [...new Map(files.map((file) => [file.hash, file])).values()];
  await requireSpace(cache, blobs);
  const report = reporter(client.repository, blobs, onProgress);
  const failure = new AbortController();
  const signals = [failure.signal, ...(signal === undefined ? [] : [signal])];
  const options = { commit, signal: AbortSignal.any(signals) };
  // The largest first: the last one to end should be small.
  const waiting = blobs.toSorted((a, b) => a.size - b.size);
  const work = async () => {
    for (let blob = waiting.pop(); blob !== undefined; blob = waiting.pop()) {
      const { name, hash } = blob;
      await transfer(client, cache, blob, { ...options, onBytes: (bytes) => report(name, bytes) });
      for (const file of files) if (file.hash === hash) await cache.link(commit, file);
    }
  };
  const workers = Array.from({ length: Math.min(mostAtOnce, blobs.length) }, () =>
    work().catch((error: unknown) => {
      waiting.length = 0;
      failure.abort(error);
    }),
  );
  await Promise.all(workers);
  signal?.throwIfAborted();
  if (failure.signal.aborted) throw failure.signal.reason;
}

/** Sums up what the files say of themselves. */
function reporter(
  repository: string,
  files: readonly HubFile[],
  onProgress: HubAccess['onProgress'],
): (file: string, bytes: number) => void {
  const sizes = new Map(files.map(({ name, size }) => [name, size]));
  const size = files.reduce((sum, file) => sum + file.size, 0);
  const here = new Map<string, number>();
  let bytes = 0;
  let last = 0;
  return (file, fileBytes) => {
    if (fileBytes === here.get(file)) return;
    bytes += fileBytes - (here.get(file) ?? 0);
    here.set(file, fileBytes);
    const fileSize = sizes.get(file) ?? 0;
    const now = performance.now();
    if (fileBytes < fileSize && now - last < reportInterval) return;
    last = now;
    onProgress?.({ status: 'downloading', repository, file, fileBytes, fileSize, bytes, size });
  };
}

/** @throws HubError where the disk has no room for the files */
async function requireSpace(cache: CachedRepository, files: readonly HubFile[]): Promise<void> {
  let needed = 0;
  for (const { hash, size } of files) {
    const begun = await stat(partialOf(cache.blob(hash))).catch(() => undefined);
    needed += Math.max(0, size - (begun?.size ?? 0));
  }
  await mkdir(dirname(cache.blob('x')), { recursive: true });
  const disk = await statfs(cache.folder).catch(() => undefined);
  if (disk === undefined || needed <= disk.bavail * disk.bsize) return;
  const gigabytes = (bytes: number) => `${(bytes / 1e9).toFixed(2)} GB`;
  throw new HubError(
    `The download needs ${gigabytes(needed)}, but there are ${gigabytes(disk.bavail * disk.bsize)} free in ${cache.folder}. Make room, or name another folder with HF_HUB_CACHE or cacheDir.`,
    { code: 'ERR_HUB_CACHE' },
  );
}
