// Brings one file into the cache: begun transfers go on where they stopped, and nothing gets a name
// before its size and hash are right.
import { createHash, type Hash } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, open, rename, rm } from 'node:fs/promises';

import { HubError } from '../errors.js';
import { type CachedRepository, type HubFile, isFile } from './hub-cache.js';
import type { HubClient } from './hub-client.js';
import { withLock } from './hub-lock.js';

export interface TransferOptions {
  commit: string;
  signal: AbortSignal;
  /** Told how many bytes of the file are here. */
  onBytes(bytes: number): void;
}

/** Tries in a row that bring nothing. */
const mostTries = 4;

/**
 * Downloads a file's content to its place among the blobs, unless it is there already.
 *
 * @throws HubError; what has come by then stays for the next time
 */
export async function transfer(
  client: HubClient,
  cache: CachedRepository,
  file: HubFile,
  options: TransferOptions,
): Promise<void> {
  const blob = cache.blob(file.hash);
  await withLock(
    cache.lock(file.hash),
    async () => {
      // Another process may have brought it while this one waited.
      if (!isFile(blob, file.size)) await receive(client, blob, file, options);
      options.onBytes(file.size);
    },
    { signal: options.signal },
  );
}

/** Where a blob's content is while it is not whole. A name of our own: nobody else writes to it. */
export function partialOf(blob: string): string {
  return `${blob}.torchbrush.incomplete`;
}

async function receive(
  client: HubClient,
  blob: string,
  file: HubFile,
  options: TransferOptions,
): Promise<void> {
  const partial = partialOf(blob);
  const handle = await open(partial, constants.O_RDWR | constants.O_CREAT);
  let isFine = false;
  try {
    const content = new Content(handle, file);
    const wasBegun = await content.resume();
    await fill(client, content, file, options);
    isFine = content.isRight();
    if (!isFine && wasBegun) {
      // What an earlier transfer has left may be wrong; only a whole one is proof.
      content.restart();
      await fill(client, content, file, options);
      isFine = content.isRight();
    }
    if (isFine) {
      await handle.truncate(file.size);
      await handle.datasync();
    }
  } finally {
    await handle.close();
  }
  if (isFine) {
    await rename(partial, blob).catch((error: unknown) => {
      // Another process has brought the same, because the lock did not hold.
      if (!isFile(blob, file.size)) throw error;
    });
    return;
  }
  await rm(partial, { force: true });
  throw new HubError(
    `${file.name} of ${client.repository} did not come as the hub has listed it: its hash is not ${file.hash}. Try again; if that does not help, something on the way changes it.`,
    { code: 'ERR_HUB_INTEGRITY' },
  );
}

/**
 * A file that is being written, and the hash of what it holds. Each byte is written to its own place
 * and nothing is cut off meanwhile, so that two processes at the same file do no harm.
 */
class Content {
  bytes = 0;
  readonly #handle: FileHandle;
  readonly #file: HubFile;
  #hash: Hash;

  constructor(handle: FileHandle, file: HubFile) {
    this.#handle = handle;
    this.#file = file;
    this.#hash = newHash(file);
  }

  /** Takes what an earlier transfer has left. False where there is nothing. */
  async resume(): Promise<boolean> {
    const buffer = Buffer.alloc(2 ** 20);
    while (this.bytes < this.#file.size) {
      const wanted = Math.min(buffer.length, this.#file.size - this.bytes);
      const { bytesRead } = await this.#handle.read(buffer, 0, wanted, this.bytes);
      if (bytesRead === 0) break;
      this.#hash.update(buffer.subarray(0, bytesRead));
      this.bytes += bytesRead;
    }
    return this.bytes > 0;
  }

  restart(): void {
    this.#hash = newHash(this.#file);
    this.bytes = 0;
  }

  async append(chunk: Uint8Array): Promise<void> {
    let written = 0;
    while (written < chunk.length) {
      const [length, place] = [chunk.length - written, this.bytes + written];
      const { bytesWritten } = await this.#handle.write(chunk, written, length, place);
      written += bytesWritten;
    }
    this.#hash.update(chunk);
    this.bytes += chunk.length;
  }

  isRight(): boolean {
    return this.bytes === this.#file.size && this.#hash.digest('hex') === this.#file.hash;
  }
}

/** SHA-256, or what git calls a file of this content. */
function newHash({ hash, size }: HubFile): Hash {
  if (hash.length === 64) return createHash('sha256');
  return createHash('sha1').update(`blob ${size}\0`);
}

/** Until all bytes are here. */
async function fill(
  client: HubClient,
  content: Content,
  file: HubFile,
  options: TransferOptions,
): Promise<void> {
  let failures = 0;
  while (content.bytes < file.size) {
    const before = content.bytes;
    const fault = await receiveSome(client, content, file, options);
    options.signal.throwIfAborted();
    // Whatever brings the file forward is no failure.
    failures = content.bytes > before ? 0 : failures + 1;
    if (failures >= mostTries) throw client.unreachable(fault);
    if (failures > 0) await client.pause(failures, options.signal);
  }
}

/** One request. What breaks it off is given back: the next one goes on from there. */
async function receiveSome(
  client: HubClient,
  content: Content,
  file: HubFile,
  { commit, signal, onBytes }: TransferOptions,
): Promise<unknown> {
  const stall = new AbortController();
  const response = await client.open(
    commit,
    file.name,
    content.bytes,
    AbortSignal.any([signal, stall.signal]),
  );
  const begin = response.status === 206 ? rangeStart(response.headers) : 0;
  if (response.status === 416 || begin !== content.bytes) {
    // The server gives the whole file only, or another part of it.
    content.restart();
    if (response.status !== 200) {
      await response.body?.cancel();
      return new Error(`an unexpected part of the file (${response.status})`);
    }
  }
  if (response.body === null) return new Error('an answer without content');
  const timeout = client.settings.stallTimeout;
  const abort = () => stall.abort(new Error(`nothing came for ${timeout / 1000} s`));
  const timer = setTimeout(abort, timeout);
  const reader = response.body.getReader();
  try {
    for (;;) {
      const next = await reader.read().catch((fault: unknown) => ({ fault }));
      if ('fault' in next) return next.fault;
      if (next.done) return new Error('the transfer ended early');
      timer.refresh();
      if (content.bytes + next.value.length > file.size) {
        throw new HubError(
          `${file.name} of ${client.repository} has more bytes than the ${file.size} that the hub has listed. Try again later.`,
          { code: 'ERR_HUB_INTEGRITY' },
        );
      }
      await content.append(next.value);
      onBytes(content.bytes);
    }
  } finally {
    clearTimeout(timer);
    // Ends a transfer that nobody reads any more.
    stall.abort();
  }
}

function rangeStart(headers: Headers): number {
  const [, start] = /^bytes (\d+)-/.exec(headers.get('content-range') ?? '') ?? [];
  return start === undefined ? -1 : Number(start);
}
