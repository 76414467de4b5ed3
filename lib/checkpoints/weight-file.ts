// Reads pieces of a weight file that nobody trusts yet.
import { type FileHandle, open } from 'node:fs/promises';

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
}

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
    if (offset < 0 || length < 0 || offset + length > this.size) {
      throw new CheckpointError(
        `${this.path} is damaged or truncated (${this.size} bytes): copy it again.`,
      );
    }
    const bytes = Buffer.alloc(length);
    let filled = 0;
    while (filled < length) {
      const { bytesRead } = await this.#handle
        .read(bytes, filled, length - filled, offset + filled)
        .catch((cause: unknown) => {
          throw unreadable(this.path, cause);
        });
      if (bytesRead === 0) throw new CheckpointError(`${this.path} shrank while it was read.`);
      filled += bytesRead;
    }
    return bytes;
  }
}

function unreadable(path: string, cause: unknown): CheckpointError {
  return new CheckpointError(`${path} cannot be read: ${(cause as Error).message}.`, { cause });
}
