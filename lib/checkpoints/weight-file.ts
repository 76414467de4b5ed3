// Reads pieces of a weight file that nobody trusts yet.
import { readSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { setImmediate } from 'node:timers/promises';

import { CheckpointError } from '../errors.js';
import { requireFile } from './json.js';

/** Bytes that can be read in pieces. */
export interface ByteSource {
  /** For messages. */
  readonly path: string;
  /** In bytes. */
  readonly size: number;
  /** Exactly the bytes asked for. @throws CheckpointError when there are fewer */
  read(offset: number, length: number): Promise<Buffer>;
  /** The same for many small pieces. */
  readAll(pieces: readonly Piece[]): Promise<Buffer[]>;
}

export interface Piece {
  offset: number;
  length: number;
}

/** Milliseconds that other work may have to wait. */
const patience = 2;
/** Bytes that come with one read where several pieces lie in them. */
const largestRead = 8192;

export class WeightFile implements ByteSource {
  readonly path: string;
  readonly size: number;
  readonly #handle: FileHandle;

  private constructor(path: string, size: number, handle: FileHandle) {
    this.path = path;
    this.size = size;
    this.#handle = handle;
  }

  /** Opens a file for as long as `body` takes. @throws CheckpointError when it cannot be read */
  static async use<Result>(
    path: string,
    body: (file: WeightFile) => Promise<Result>,
  ): Promise<Result> {
    await requireFile(path);
    const handle = await open(path, 'r').catch((cause: unknown) => {
      throw unreadable(path, cause);
    });
    try {
      const { size } = await handle.stat();
      return await body(new WeightFile(path, size, handle));
    } finally {
      await handle.close();
    }
  }

  async read(offset: number, length: number): Promise<Buffer> {
    this.#checkPlace({ offset, length });
    const bytes = Buffer.alloc(length);
    let filled = 0;
    while (filled < length) {
      const { bytesRead } = await this.#handle
        .read(bytes, filled, length - filled, offset + filled)
        .catch((cause: unknown) => {
          throw unreadable(this.path, cause);
        });
      if (bytesRead === 0) throw shrunk(this.path);
      filled += bytesRead;
    }
    return bytes;
  }

  // A read on another thread takes ten times as long as these do once the file is in memory.
  async readAll(pieces: readonly Piece[]): Promise<Buffer[]> {
    for (const piece of pieces) this.#checkPlace(piece);
    const found: Buffer[] = [];
    let start = performance.now();
    while (found.length < pieces.length) {
      if (performance.now() - start > patience) {
        await setImmediate();
        start = performance.now();
      }
      this.#readNeighbours(pieces, found);
    }
    return found;
  }

  /** The next piece, and with it those that follow so closely that reads of their own cost more. */
  #readNeighbours(pieces: readonly Piece[], found: Buffer[]): void {
    const first = found.length;
    const begin = (pieces[first] as Piece).offset;
    let end = begin;
    let count = first;
    for (; count < pieces.length; count += 1) {
      const { offset, length } = pieces[count] as Piece;
      const isNeighbour = offset >= end && offset + length <= begin + largestRead;
      if (count > first && !isNeighbour) break;
      end = offset + length;
    }
    const bytes = this.#readNow(begin, end - begin);
    for (const { offset, length } of pieces.slice(first, count)) {
      found.push(bytes.subarray(offset - begin, offset - begin + length));
    }
  }

  #readNow(offset: number, length: number): Buffer {
    const bytes = Buffer.allocUnsafe(length);
    let read = 0;
    try {
      read = readSync(this.#handle.fd, bytes, 0, length, offset);
    } catch (cause) {
      throw unreadable(this.path, cause);
    }
    if (read < length) throw shrunk(this.path);
    return bytes;
  }

  #checkPlace({ offset, length }: Piece): void {
    if (offset >= 0 && length >= 0 && offset + length <= this.size) return;
    throw new CheckpointError(
      `${this.path} is damaged or truncated (${this.size} bytes): copy it again.`,
    );
  }
}

function shrunk(path: string): CheckpointError {
  return new CheckpointError(`${path} shrank while it was read.`);
}

function unreadable(path: string, cause: unknown): CheckpointError {
  return new CheckpointError(`${path} cannot be read: ${(cause as Error).message}.`, { cause });
}
