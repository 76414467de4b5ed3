// Checkpoints by name: a folder, or a repository on the Hugging Face hub, of which the cache holds
// what was read of it before and the rest is downloaded.
import { existsSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';

import { expected, HubError, InvalidArgumentError } from '../errors.js';
import { CachedRepository, type HubFile, type HubListing, isFile } from './hub-cache.js';
import { HubClient } from './hub-client.js';
import { diskError } from './hub-errors.js';
import { findCommit, findListing, notCached } from './hub-lookup.js';
import { type HubPart, type PlanOptions, planPart } from './hub-plan.js';
import { type HubReference, parseFile, parseRepository } from './hub-reference.js';
import { checkHubAccess, type HubAccess, hubSettings } from './hub-settings.js';
import { transferAll } from './hub-transfers.js';
import { shardNames } from './weights.js';

export interface ResolvedCheckpoint {
  /** Absolute. Of a repository it holds what has been asked for. */
  folder: string;
  /** Brings more of it; undefined for a folder of the caller's. */
  snapshot: HubSnapshot | undefined;
}

/**
 * Finds a checkpoint: a folder, or `'org/name'` and `'org/name@revision'` on the hub. A folder that is
 * there counts before a repository of that name.
 *
 * @throws InvalidArgumentError, HubError where the hub cannot say what the repository holds
 */
export async function resolveCheckpoint(
  path: string,
  access: HubAccess = {},
): Promise<ResolvedCheckpoint> {
  if (typeof path !== 'string' || path === '') {
    throw expected('a folder or a name on the hub', 'checkpoint', path);
  }
  checkHubAccess(access);
  const folder = resolve(path);
  const reference = existsSync(folder) ? undefined : parseRepository(path);
  if (reference === undefined) return { folder, snapshot: undefined };
  const snapshot = await HubSnapshot.open(reference, access);
  return { folder: snapshot.folder, snapshot };
}

/**
 * The path of a single file: one of this machine, or `'org/name/file'` and a file's address on the
 * hub, which is downloaded unless it is in the cache.
 *
 * @throws HubError
 */
export async function resolveFile(path: string, access: HubAccess = {}): Promise<string> {
  checkHubAccess(access);
  const { endpoint } = await hubSettings(access);
  const reference = existsSync(path) ? undefined : parseFile(path, endpoint);
  if (reference === undefined) {
    if (!/^https?:/.test(path)) return resolve(path);
    throw expected(`a file, or the address of one on ${endpoint}`, 'path', path);
  }
  const snapshot = await HubSnapshot.open(reference, access);
  await snapshot.fetch([reference.file]);
  return join(snapshot.folder, reference.file);
}

/** A repository at one commit: what it holds, and the folder in the cache where that is put. */
export class HubSnapshot {
  readonly folder: string;
  readonly #commit: string;
  readonly #cache: CachedRepository;
  readonly #client: HubClient;
  readonly #access: HubAccess;
  readonly #listing: HubListing;
  /** Why nothing can be downloaded, in words. */
  readonly #offline: string | undefined;

  private constructor(
    client: HubClient,
    cache: CachedRepository,
    access: HubAccess,
    found: { commit: string; listing: HubListing; offline: string | undefined },
  ) {
    this.#client = client;
    this.#cache = cache;
    this.#access = access;
    this.#commit = found.commit;
    this.#listing = found.listing;
    this.#offline = found.offline;
    this.folder = cache.snapshotFolder(found.commit);
  }

  static async open(reference: HubReference, access: HubAccess): Promise<HubSnapshot> {
    const { repository } = reference;
    if (reference.revision !== undefined && access.revision !== undefined) {
      throw new InvalidArgumentError(
        `Expected one revision but received ${reference.revision} in the name and ${access.revision} in the option.`,
      );
    }
    const revision = reference.revision ?? access.revision ?? 'main';
    const settings = await hubSettings(access);
    const client = new HubClient(repository, settings, access.signal);
    const cache = new CachedRepository(settings.cacheFolder, repository);
    access.signal?.throwIfAborted();
    const found = await findCommit(client, cache, revision);
    const { listing, offline } = await findListing(client, cache, found);
    return new HubSnapshot(client, cache, access, { commit: found.commit, listing, offline });
  }

  /** Files at the top of the repository. */
  get names(): string[] {
    return [...this.#listing.keys()].filter((name) => !name.includes('/'));
  }

  has(name: string): boolean {
    return this.#listing.has(name);
  }

  /**
   * Brings files into the folder, as far as they are not there.
   *
   * @throws HubError
   */
  async fetch(names: readonly string[]): Promise<void> {
    const absent = [...new Set(names)].filter((name) => !this.#isHere(name));
    if (absent.length === 0) return;
    this.#requireNetwork(absent);
    const files = absent.map((name) => this.#listed(name));
    try {
      await transferAll(this.#client, this.#cache, this.#commit, files, this.#access);
    } catch (error) {
      throw diskError(error, this.#cache.folder);
    }
  }

  /** Brings all that is read of the parts. @throws HubError, CheckpointError */
  async fetchParts(parts: readonly HubPart[], options: PlanOptions): Promise<void> {
    const plans = parts.map((part) => planPart(this.#listing.keys(), part, options));
    const lacks = plans.flatMap(({ lack }) => lack ?? []);
    if (lacks.length > 0) this.#requireNetwork(lacks);
    const indexes = plans.flatMap(({ index }) => index ?? []);
    await this.fetch(indexes);
    const shards: string[] = [];
    for (const index of indexes) {
      for (const name of await shardNames(join(this.folder, index))) {
        shards.push(dirname(index) === '.' ? name : `${dirname(index)}/${name}`);
      }
    }
    await this.fetch([...plans.flatMap(({ files }) => files), ...shards]);
  }

  #isHere(name: string): boolean {
    return isFile(join(this.folder, name), this.#listing.get(name)?.size);
  }

  #listed(name: string): HubFile {
    const file = this.#listing.get(name);
    if (file !== undefined) return file;
    throw new HubError(
      `${this.#client.repository} has no file ${name} at its commit ${this.#commit}. Is it the right repository, and the right revision?`,
      { code: 'ERR_HUB_NOT_FOUND' },
    );
  }

  /** @throws HubError that names what is missing, where nothing can be downloaded */
  #requireNetwork(missing: readonly string[]): void {
    if (this.#offline === undefined) return;
    throw notCached(this.#client, this.#cache, missing.join(', '), this.#offline);
  }
}
