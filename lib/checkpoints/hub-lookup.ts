// Which commit a name means, and which files it has: from the hub, or from the cache where there is no
// network.
import { existsSync } from 'node:fs';

import { HubError } from '../errors.js';
import { type CachedRepository, commitPattern, type HubListing } from './hub-cache.js';
import type { HubClient } from './hub-client.js';

interface FoundCommit {
  commit: string;
  /** Why nothing more can be asked of the hub, in words. */
  offline: string | undefined;
}

/** @throws HubError */
export async function findCommit(
  client: HubClient,
  cache: CachedRepository,
  revision: string,
): Promise<FoundCommit> {
  const { offline } = client.settings;
  if (commitPattern.test(revision)) return { commit: revision, offline };
  const cached = await cache.readRef(revision);
  const isHere = cached !== undefined && existsSync(cache.snapshotFolder(cached));
  if (offline !== undefined) {
    if (isHere) return { commit: cached, offline };
    throw notCached(client, cache, `revision ${revision}`, offline);
  }
  try {
    const commit = await client.commitOf(revision, isHere);
    await cache.writeRef(revision, commit);
    return { commit, offline };
  } catch (error) {
    if (!isHere || !isPassing(error)) throw error;
    return { commit: cached, offline: fallenBack(client, error) };
  }
}

/** @throws HubError */
export async function findListing(
  client: HubClient,
  cache: CachedRepository,
  { commit, offline }: FoundCommit,
): Promise<{ listing: HubListing; offline: string | undefined }> {
  const known = await cache.readListing(commit);
  if (known !== undefined) return { listing: known, offline };
  if (offline !== undefined) return { listing: await cache.localFiles(commit), offline };
  try {
    const files = await client.files(commit);
    await cache.writeListing(commit, files);
    return { listing: new Map(files.map((file) => [file.name, file])), offline };
  } catch (error) {
    const listing = await cache.localFiles(commit);
    if (listing.size === 0 || !isPassing(error)) throw error;
    return { listing, offline: fallenBack(client, error) };
  }
}

/** A file or a revision that is not there. @param missing In words. */
export function notCached(
  { repository, settings }: HubClient,
  cache: CachedRepository,
  missing: string,
  offline: string,
): HubError {
  const what = existsSync(cache.folder)
    ? `${missing} of ${repository} ${/, /.test(missing) ? 'are' : 'is'}`
    : `${repository} (${missing}) is neither a folder nor`;
  return new HubError(
    `${what} not in the cache ${settings.cacheFolder}, and cannot be downloaded: ${offline}. Load it once with the network.`,
    { code: 'ERR_HUB_NOT_CACHED' },
  );
}

/** Repositories that are gone or closed are used from the cache, too; a wrong revision is a mistake. */
function isPassing(error: unknown): error is HubError {
  return error instanceof HubError && error.code !== 'ERR_HUB_REVISION';
}

function fallenBack({ repository }: HubClient, error: HubError): string {
  process.emitWarning(`${repository} is taken from the cache as it is. ${error.message}`, {
    code: 'TORCHBRUSH_HUB_CACHED',
  });
  return error.message.replace(/\.$/, '');
}
