// A server that speaks as much of the hub's protocol as clients need, with the faults that networks
// have. Large files lie on another origin, as on the real one.
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';

/** Files from this size on are "large": kept by SHA-256, elsewhere. */
const largeFile = 64 * 1024;

/** Entries of one page of a list. */
const pageSize = 3;

export interface Repository {
  /** By path. */
  files: Record<string, Buffer>;
  /** Branches and tags; `main` is there anyway. */
  revisions?: string[];
  gated?: boolean;
  private?: boolean;
}

export interface ServerRequest {
  method: string;
  /** Path and query. */
  url: string;
  authorization: string | undefined;
  range: string | undefined;
  /** Whether it reached the place of large files. */
  isElsewhere: boolean;
}

/** What goes wrong with requests whose address holds `at`; `times` of them, or all. */
export interface Fault {
  at: string;
  times?: number;
  /** An answer in place of the right one. */
  status?: number;
  headers?: Record<string, string>;
  body?: string;
  /** The connection breaks after so many bytes. */
  cutAfter?: number;
  /** Nothing more comes after so many bytes. */
  stallAfter?: number;
  /** Changes what is sent. */
  change?(content: Buffer): Buffer;
  /** The whole file whatever part was asked for. */
  ignoreRange?: boolean;
}

export const token = 'hf_test';

export class HubServer {
  readonly requests: ServerRequest[] = [];
  readonly faults: Fault[] = [];
  readonly repositories: Record<string, Repository> = {};
  endpoint = '';
  #elsewhere = '';
  readonly #servers: Server[] = [];

  static async start(repositories: Record<string, Repository> = {}): Promise<HubServer> {
    const server = new HubServer();
    Object.assign(server.repositories, repositories);
    server.endpoint = await server.#listen(false);
    server.#elsewhere = await server.#listen(true);
    return server;
  }

  async #listen(isElsewhere: boolean): Promise<string> {
    const server = createServer((request, response) => {
      const { method = '', url = '', headers } = request;
      const { authorization, range } = headers;
      this.requests.push({ method, url, authorization, range, isElsewhere });
      if (isElsewhere) this.#sendLarge(request, response);
      else this.#answer(request, response);
    });
    this.#servers.push(server);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  async close(): Promise<void> {
    for (const server of this.#servers) {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    }
  }

  /** The commit that a repository is at. */
  commitOf(name: string): string {
    const hash = createHash('sha1');
    for (const [path, content] of Object.entries(this.repositories[name]?.files ?? {})) {
      hash.update(path).update(hashOf(content));
    }
    return hash.digest('hex');
  }

  /** Paths of the files that were sent, in part or whole. */
  get sent(): string[] {
    const paths = this.requests.map(({ method, url }) =>
      method === 'GET' ? /\/resolve\/[0-9a-f]{40}\/([^?]*)/.exec(url)?.[1] : undefined,
    );
    return [...new Set(paths.filter((path) => path !== undefined))].sort();
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    const { url = '' } = request;
    const fault = this.#faultOf(url);
    if (fault?.status !== undefined) {
      response.writeHead(fault.status, fault.headers).end(fault.body ?? '');
      return;
    }
    const [path = '', query = ''] = url.split('?');
    const api = /^\/api\/models\/([^/]+\/[^/]+)\/(revision|tree|paths-info)\/([^/]+)/.exec(path);
    const file = /^\/([^/]+\/[^/]+)\/resolve\/([^/]+)\/(.+)$/.exec(path);
    const [, name = '', ...rest] = api ?? file ?? [];
    const repository = this.#visible(name, request, response);
    if (repository === undefined) return;
    const revision = decodeURIComponent((api === null ? rest[0] : rest[1]) ?? '');
    const commit = this.commitOf(name);
    if (![commit, 'main', ...(repository.revisions ?? [])].includes(revision)) {
      refuse(response, 404, 'RevisionNotFound');
    } else if (api === null) {
      const wanted = decodeURIComponent(rest[1] ?? '');
      this.#sendFile(request, response, { repository, commit, path: wanted, fault });
    } else if (rest[0] === 'revision') {
      sendJson(response, infoOf(name, commit, repository));
    } else {
      this.#sendTree(response, path, query, repository);
    }
  }

  #visible(
    name: string,
    { headers }: IncomingMessage,
    response: ServerResponse,
  ): Repository | undefined {
    const repository = this.repositories[name];
    const { authorization } = headers;
    const isKnown = authorization === `Bearer ${token}`;
    if (authorization !== undefined && !isKnown) {
      refuse(response, 401, undefined, 'Invalid credentials in Authorization header');
    } else if (repository === undefined || (repository.private === true && !isKnown)) {
      refuse(response, isKnown ? 404 : 401, 'RepoNotFound', 'Repository not found');
    } else if (repository.gated === true) {
      refuse(response, isKnown ? 403 : 401, 'GatedRepo', 'Access is restricted');
    } else {
      return repository;
    }
    return undefined;
  }

  #sendTree(response: ServerResponse, path: string, query: string, { files }: Repository): void {
    const start = Number(new URLSearchParams(query).get('cursor') ?? 0);
    const entries = Object.entries(files).map(([name, content]) => ({
      type: 'file',
      path: name,
      size: content.length,
      oid: gitHash(content),
      ...(content.length >= largeFile && {
        lfs: { oid: hashOf(content), size: content.length, pointerSize: 130 },
      }),
    }));
    const folders = [...new Set(Object.keys(files).map((name) => name.split('/')[0] ?? ''))]
      .filter((name) => files[name] === undefined)
      .map((name) => ({ type: 'directory', path: name, size: 0, oid: '0'.repeat(40) }));
    const all = [...folders, ...entries];
    if (start + pageSize < all.length) {
      const next = `${this.endpoint}${path}?recursive=true&cursor=${start + pageSize}`;
      response.setHeader('link', `<${next}>; rel="next"`);
    }
    sendJson(response, all.slice(start, start + pageSize));
  }

  #sendFile(
    request: IncomingMessage,
    response: ServerResponse,
    wanted: { repository: Repository; commit: string; path: string; fault: Fault | undefined },
  ): void {
    const { repository, commit, path, fault } = wanted;
    const content = repository.files[path];
    response.setHeader('x-repo-commit', commit);
    if (content === undefined) {
      refuse(response, 404, 'EntryNotFound', 'Entry not found');
    } else if (content.length < largeFile) {
      response.setHeader('etag', `"${gitHash(content)}"`);
      send(request, response, content, fault);
    } else {
      response.setHeader('x-linked-etag', `"${hashOf(content)}"`);
      response.setHeader('x-linked-size', content.length);
      const location = `${this.#elsewhere}/${hashOf(content)}?signature=secret&path=${path}`;
      response.writeHead(302, { location }).end();
    }
  }

  #sendLarge(request: IncomingMessage, response: ServerResponse): void {
    const { url = '' } = request;
    const hash = url.slice(1, 65);
    const files = Object.values(this.repositories).flatMap(({ files }) => Object.values(files));
    const content = files.find((file) => hashOf(file) === hash) as Buffer;
    send(request, response, content, this.#faultOf(url));
  }

  #faultOf(url: string): Fault | undefined {
    const index = this.faults.findIndex(({ at }) => url.includes(at));
    const fault = this.faults[index];
    if (fault?.times !== undefined) {
      fault.times -= 1;
      if (fault.times === 0) this.faults.splice(index, 1);
    }
    return fault;
  }
}

function send(
  { method, headers }: IncomingMessage,
  response: ServerResponse,
  whole: Buffer,
  fault: Fault = { at: '' },
): void {
  const [, start] = /^bytes=(\d+)-$/.exec(headers.range ?? '') ?? [];
  const from = fault.ignoreRange === true ? 0 : Number(start ?? 0);
  if (from >= whole.length && whole.length > 0) {
    response.writeHead(416, { 'content-range': `bytes */${whole.length}` }).end();
    return;
  }
  const content = (fault.change?.(whole) ?? whole).subarray(from);
  if (start !== undefined && fault.ignoreRange !== true) {
    response.statusCode = 206;
    response.setHeader('content-range', `bytes ${from}-${whole.length - 1}/${whole.length}`);
  }
  response.setHeader('content-length', content.length);
  const { cutAfter, stallAfter } = fault;
  const end = cutAfter ?? stallAfter;
  if (method === 'HEAD') response.end();
  else if (end === undefined || end >= content.length) response.end(content);
  else {
    response.write(content.subarray(0, end), () => {
      // What has arrived is read first: an error would overtake it.
      if (cutAfter !== undefined) setTimeout(() => response.destroy(), 50);
    });
  }
}

function refuse(
  response: ServerResponse,
  status: number,
  code: string | undefined,
  message = code ?? '',
): void {
  const headers = { 'x-error-message': message, ...(code && { 'x-error-code': code }) };
  response.writeHead(status, headers).end(JSON.stringify({ error: message }));
}

function sendJson(response: ServerResponse, value: unknown): void {
  response.setHeader('content-type', 'application/json');
  response.end(JSON.stringify(value));
}

function infoOf(name: string, commit: string, { files }: Repository): object {
  return {
    _id: '1',
    id: name,
    modelId: name,
    author: name.split('/')[0],
    sha: commit,
    lastModified: '2024-01-01T00:00:00.000Z',
    createdAt: '2024-01-01T00:00:00.000Z',
    private: false,
    gated: false,
    disabled: false,
    downloads: 0,
    likes: 0,
    tags: [],
    siblings: Object.keys(files).map((rfilename) => ({ rfilename })),
  };
}

const hashes = new WeakMap<Buffer, string>();

export function hashOf(content: Buffer): string {
  const hash = hashes.get(content) ?? createHash('sha256').update(content).digest('hex');
  hashes.set(content, hash);
  return hash;
}

export function gitHash(content: Buffer): string {
  return createHash('sha1').update(`blob ${content.length}\0`).update(content).digest('hex');
}

/** Bytes that look like nothing, the same on every run. */
export function noise(size: number, seed = 1): Buffer {
  const bytes = Buffer.alloc(size);
  let state = seed;
  for (let i = 0; i < size; i += 1) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bytes[i] = state >>> 24;
  }
  return bytes;
}

/** The files of a folder as a repository's. */
export function filesOfFolder(root: string): Record<string, Buffer> {
  const names = readdirSync(root, { recursive: true, encoding: 'utf8' });
  const files = names.filter((name) => statSync(join(root, name)).isFile());
  return Object.fromEntries(files.map((name) => [name, readFileSync(join(root, name))]));
}
