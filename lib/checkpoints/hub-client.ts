// Requests to the hub: with the token where it belongs, repeated where that helps, with errors that
// say what to do.
import { setTimeout as sleep } from 'node:timers/promises';

import { HubError } from '../errors.js';
import { checkedFile, commitPattern, type HubFile, mostFiles } from './hub-cache.js';
import { answerError, deepest } from './hub-errors.js';
import type { HubSettings } from './hub-settings.js';

/** Milliseconds that are waited for a server that asks for patience. */
const longestWait = 60_000;

/** More than any list of files of a page. */
const largestAnswer = 64 * 1024 * 1024;

const usualTries = 4;

export class HubClient {
  readonly repository: string;
  readonly settings: HubSettings;
  readonly #signal: AbortSignal | undefined;

  constructor(repository: string, settings: HubSettings, signal: AbortSignal | undefined) {
    this.repository = repository;
    this.settings = settings;
    this.#signal = signal;
  }

  /**
   * The commit that a branch or tag is at.
   *
   * @param isUrgent One try only: there is something else to fall back on.
   * @throws HubError
   */
  async commitOf(revision: string, isUrgent: boolean): Promise<string> {
    // Loaded when needed: importing this package must not wait for it.
    const { modelInfo } = await import('@huggingface/hub');
    const tries = isUrgent ? 1 : usualTries;
    const { sha } = await this.#ask(() =>
      modelInfo({
        name: this.repository,
        revision,
        additionalFields: ['sha'],
        hubUrl: this.settings.endpoint,
        fetch: (input, init) => this.#answer(String(input), init, tries),
      }),
    );
    if (typeof sha === 'string' && commitPattern.test(sha)) return sha;
    throw this.#strange('no commit');
  }

  /** What a commit consists of. @throws HubError */
  async files(commit: string): Promise<HubFile[]> {
    const { listFiles } = await import('@huggingface/hub');
    return await this.#ask(async () => {
      const files: HubFile[] = [];
      const entries = listFiles({
        repo: { type: 'model', name: this.repository },
        revision: commit,
        recursive: true,
        hubUrl: this.settings.endpoint,
        fetch: (input, init) => this.#answer(String(input), init, usualTries),
      });
      for await (const { type, path, size, oid, lfs } of entries) {
        if (type !== 'file') continue;
        files.push(checkedFile({ name: path, size: lfs?.size ?? size, hash: lfs?.oid ?? oid }));
        if (files.length > mostFiles) throw this.#strange(`more than ${mostFiles} files`);
      }
      return files;
    });
  }

  /**
   * The content of a file from a byte on. The caller reads the body, and ends it.
   *
   * @throws HubError
   */
  async open(commit: string, name: string, from: number, signal: AbortSignal): Promise<Response> {
    const path = name.split('/').map(encodeURIComponent).join('/');
    const url = `${this.settings.endpoint}/${this.repository}/resolve/${commit}/${path}`;
    // As it is: the length of compressed content says nothing.
    const headers: Record<string, string> = { 'accept-encoding': 'identity' };
    if (from > 0) headers.range = `bytes=${from}-`;
    return await this.#send(url, { headers, signal }, usualTries, async (response) => response);
  }

  /** Waits before another try; longer each time. @throws the signal's reason */
  async pause(tries: number, signal?: AbortSignal | null, asked?: number): Promise<void> {
    const delay = asked ?? this.settings.retryDelay * 2 ** (tries - 1);
    await sleep(delay, undefined, { signal: signal ?? undefined }).catch(() => {});
    signal?.throwIfAborted();
  }

  /** An answer that is here as a whole, so that the library's reading of it cannot fail. */
  async #answer(url: string, init: RequestInit | undefined, tries: number): Promise<Response> {
    return await this.#send(url, { ...init, signal: this.#signal }, tries, async (response) => {
      const { status, headers } = response;
      return new Response(await wholeBody(response), { status, headers });
    });
  }

  async #send(
    url: string,
    init: RequestInit,
    mostTries: number,
    read: (response: Response) => Promise<Response>,
  ): Promise<Response> {
    for (let tries = 1; ; tries += 1) {
      const response = await this.#fetch(url, init, read);
      if (response instanceof Response) {
        if (response.ok || response.status === 416) return response;
        const error = await answerError(this, response);
        const wait = requestedDelay(response.headers);
        const isPassing = [408, 429, 500, 502, 503, 504].includes(response.status);
        if (!isPassing || tries >= mostTries || (wait ?? 0) > longestWait) throw error;
        await this.pause(tries, init.signal, wait);
      } else {
        if (tries >= mostTries) throw this.unreachable(response.fault);
        await this.pause(tries, init.signal);
      }
    }
  }

  async #fetch(
    url: string,
    init: RequestInit,
    read: (response: Response) => Promise<Response>,
  ): Promise<Response | { fault: unknown }> {
    const { token, endpoint, answerTimeout } = this.settings;
    const headers = new Headers(init.headers);
    headers.set('user-agent', 'torchbrush');
    // The hub's own pages only. fetch itself drops the header when it is sent on to another origin.
    const isHub = new URL(url).origin === new URL(endpoint).origin;
    if (token !== undefined && isHub) headers.set('authorization', `Bearer ${token}`);
    const slow = new AbortController();
    const timer = setTimeout(() => slow.abort(new Error('no answer in time')), answerTimeout);
    const signals = init.signal == null ? [slow.signal] : [slow.signal, init.signal];
    try {
      const response = await fetch(url, { ...init, headers, signal: AbortSignal.any(signals) });
      timer.refresh();
      return response.ok ? await read(response) : response;
    } catch (fault) {
      init.signal?.throwIfAborted();
      if (fault instanceof HubError) throw fault;
      return { fault };
    } finally {
      clearTimeout(timer);
    }
  }

  /** What the library cannot read is no hub's answer. */
  async #ask<Result>(question: () => Promise<Result>): Promise<Result> {
    try {
      return await question();
    } catch (error) {
      this.#signal?.throwIfAborted();
      if (error instanceof HubError) throw error;
      throw this.#strange(deepest(error), error);
    }
  }

  /** @internal */
  unreachable(cause: unknown): HubError {
    return new HubError(
      `${this.repository} is no folder here, and ${this.settings.endpoint} cannot be reached: ${deepest(cause)}. Check the network and HF_ENDPOINT; localFilesOnly takes what is in the cache.`,
      { code: 'ERR_HUB_NETWORK', cause },
    );
  }

  #strange(what: string, cause?: unknown): HubError {
    return new HubError(
      `${this.settings.endpoint} answers what no hub does (${what}). Check HF_ENDPOINT, and whether the network has a login page.`,
      { code: 'ERR_HUB_NETWORK', cause },
    );
  }
}

async function wholeBody(response: Response): Promise<Uint8Array<ArrayBuffer>> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of (response.body ?? []) as AsyncIterable<Uint8Array>) {
    size += chunk.length;
    if (size > largestAnswer) throw new Error(`an answer of more than ${largestAnswer} bytes`);
    chunks.push(chunk);
  }
  return new Uint8Array(Buffer.concat(chunks, size));
}

/** Milliseconds that the server asks to wait for, in the standard's header or in the hub's. */
function requestedDelay(headers: Headers): number | undefined {
  const after = headers.get('retry-after');
  if (after !== null && /^\d+$/.test(after)) return Number(after) * 1000;
  if (after !== null && !Number.isNaN(Date.parse(after))) {
    return Math.max(0, Date.parse(after) - Date.now());
  }
  const [, remaining, seconds] = /r=(\d+)\s*;\s*t=(\d+)/.exec(headers.get('ratelimit') ?? '') ?? [];
  return Number(remaining) === 0 && seconds !== undefined ? Number(seconds) * 1000 : undefined;
}
