import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { expected, ImageError } from '../errors.js';

export interface ReadOptions {
  limitInputBytes: number;
  timeout: number;
  signal: AbortSignal | undefined;
}

export interface SourceBytes {
  bytes: Uint8Array;
  /** What error messages call the source. */
  name: string;
}

/** Bytes of a file path, an address, or bytes themselves. */
export async function readSource(source: unknown, options: ReadOptions): Promise<SourceBytes> {
  if (source instanceof Uint8Array) return { bytes: source, name: 'the given bytes' };
  if (source instanceof ArrayBuffer) {
    return { bytes: new Uint8Array(source), name: 'the given bytes' };
  }
  if (!(source instanceof URL) && (typeof source !== 'string' || source === '')) {
    throw expected(
      'a file path, a URL, the bytes of an image file, an Image or a sharp instance',
      'source',
      source,
    );
  }
  const text = String(source);
  const scheme = /^([a-z][a-z\d+.-]+):/i.exec(text)?.[1]?.toLowerCase();
  switch (scheme) {
    case 'http':
    case 'https':
      return readAddress(text, options);
    case 'data':
      return readDataUrl(text, options);
    case 'file':
      return readFileUrl(text, options);
    default:
      if (source instanceof URL || (scheme !== undefined && text.startsWith(`${scheme}://`))) {
        throw new ImageError(
          `Cannot read ${shorten(text)}: addresses with ${scheme}: are not supported, only http:, ` +
            'https:, file: and data:.',
        );
      }
      return readFile(text, options);
  }
}

async function readFileUrl(address: string, options: ReadOptions): Promise<SourceBytes> {
  let path: string;
  try {
    path = fileURLToPath(address);
  } catch (error) {
    const { message } = error as Error;
    throw new ImageError(`Cannot read ${shorten(address)}: ${message}.`, { cause: error });
  }
  return readFile(path, options);
}

async function readFile(path: string, options: ReadOptions): Promise<SourceBytes> {
  const { limitInputBytes, signal } = options;
  let file: FileHandle | undefined;
  try {
    // Without waiting: a pipe that nobody writes to would never open.
    file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const status = await file.stat();
    // A pipe or a device has no end that could be waited for.
    if (!status.isFile()) throw new ImageError(`Cannot read ${path}: it is not a file.`);
    if (status.size > limitInputBytes) throw tooLarge(path, limitInputBytes);
    return { bytes: await file.readFile({ signal }), name: path };
  } catch (error) {
    signal?.throwIfAborted();
    if (error instanceof ImageError) throw error;
    const { code, message } = error as NodeJS.ErrnoException;
    const problem =
      code === 'ENOENT' || code === 'ENOTDIR'
        ? 'there is no such file. Give a path or an address that starts with http:// or https://.'
        : `${message}.`;
    throw new ImageError(`Cannot read ${shorten(path)}: ${problem}`, { cause: error });
  } finally {
    await file?.close();
  }
}

async function readDataUrl(address: string, options: ReadOptions): Promise<SourceBytes> {
  const name = 'the data: URL';
  if (address.length > options.limitInputBytes * 2) throw tooLarge(name, options.limitInputBytes);
  try {
    const response = await fetch(address);
    return { bytes: new Uint8Array(await response.arrayBuffer()), name };
  } catch (error) {
    throw new ImageError(
      `Cannot read ${name}: it is not well formed. It looks like data:image/png;base64,…`,
      { cause: error },
    );
  }
}

async function readAddress(address: string, options: ReadOptions): Promise<SourceBytes> {
  const { limitInputBytes, timeout, signal } = options;
  const { url, name, headers } = parseAddress(address);
  const controller = new AbortController();
  const abort = () => controller.abort(signal?.reason);
  signal?.addEventListener('abort', abort, { once: true });
  let timedOut = false;
  const timer = setTimeout(
    () => {
      timedOut = true;
      controller.abort();
    },
    Math.min(timeout, 2 ** 31 - 1),
  );
  try {
    const response = await fetch(url, { headers, signal: controller.signal });
    if (!response.ok) {
      const status = `${response.status} ${response.statusText}`.trim();
      throw new ImageError(`Cannot read ${name}: the server answered ${status}.`);
    }
    if (Number(response.headers.get('content-length') ?? 0) > limitInputBytes) {
      throw tooLarge(name, limitInputBytes);
    }
    return { bytes: await collect(response, name, limitInputBytes), name };
  } catch (error) {
    signal?.throwIfAborted();
    if (error instanceof ImageError) throw error;
    const problem = timedOut ? `it did not answer within ${timeout} ms` : deepest(error);
    throw new ImageError(`Cannot read ${name}: ${problem}.`, { cause: error });
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', abort);
    // Ends a transfer that nobody waits for any more.
    controller.abort();
  }
}

/** The body, counted as it comes: the length that a server announces need not be true. */
async function collect(response: Response, name: string, limit: number): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of (response.body ?? []) as AsyncIterable<Uint8Array>) {
    size += chunk.length;
    if (size > limit) throw tooLarge(name, limit);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks, size);
}

function tooLarge(name: string, limit: number): ImageError {
  return new ImageError(
    `Cannot read ${name}: it has more than ${limit} bytes. Pass a larger limitInputBytes if you ` +
      'trust it.',
  );
}

/** fetch says "fetch failed"; what happened stands in its cause. */
function deepest(error: unknown): string {
  let current = error as Error;
  while (current.cause instanceof Error) current = current.cause;
  return current.message || String((current as NodeJS.ErrnoException).code ?? current.name);
}

/**
 * fetch takes no user name in an address, so it moves into a header. The name for messages has
 * neither that nor the query: both may hold secrets that belong in no log.
 */
function parseAddress(address: string): {
  url: URL;
  name: string;
  headers: Record<string, string>;
} {
  try {
    const url = new URL(address);
    const headers: Record<string, string> = {};
    if (url.username !== '' || url.password !== '') {
      const login = `${decodeURIComponent(url.username)}:${decodeURIComponent(url.password)}`;
      headers.authorization = `Basic ${Buffer.from(login).toString('base64')}`;
      url.username = '';
      url.password = '';
    }
    return { url, name: shorten(url.origin + url.pathname), headers };
  } catch (error) {
    const [shown] = address.replace(/\/\/[^/]*@/, '//').split('?');
    throw new ImageError(`Cannot read ${shorten(shown ?? '')}: it is not a well-formed address.`, {
      cause: error,
    });
  }
}

function shorten(text: string): string {
  return text.length > 200 ? `${text.slice(0, 200)}…` : text;
}
