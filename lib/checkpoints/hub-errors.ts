// What the hub's refusals mean, and what to do about them.
import { resolve } from 'node:path';

import { HubError } from '../errors.js';
import type { HubClient } from './hub-client.js';

/** The error that an answer other than "OK" is. */
export async function answerError(
  { repository, settings }: HubClient,
  response: Response,
): Promise<HubError> {
  await response.body?.cancel().catch(() => {});
  const { endpoint, token } = settings;
  const { status, headers } = response;
  const kind = headers.get('x-error-code') ?? '';
  const said = (headers.get('x-error-message') ?? '').slice(0, 300);
  if (kind === 'RevisionNotFound') {
    return new HubError(
      `${repository} has no such revision. Its branches and tags are on ${endpoint}/${repository}/tree/main.`,
      { code: 'ERR_HUB_REVISION' },
    );
  }
  if (kind === 'EntryNotFound') {
    return new HubError(`${repository} has no such file: ${pathOf(response.url)}.`, {
      code: 'ERR_HUB_NOT_FOUND',
    });
  }
  if (kind === 'GatedRepo') {
    const then =
      token === undefined
        ? `then set HF_TOKEN to a token of that account (${endpoint}/settings/tokens)`
        : 'with the account that the token in use belongs to';
    return new HubError(
      `${repository} is gated. Accept its conditions on ${endpoint}/${repository}, ${then}.`,
      { code: 'ERR_HUB_ACCESS' },
    );
  }
  if (status === 401 && token !== undefined && kind !== 'RepoNotFound') {
    return new HubError(
      `${endpoint} does not accept the access token. Make another on ${endpoint}/settings/tokens and set HF_TOKEN, or unset it for public repositories.`,
      { code: 'ERR_HUB_ACCESS' },
    );
  }
  // To strangers a private repository is none.
  if (status === 401 || status === 404 || kind === 'RepoNotFound') {
    return new HubError(
      `There is neither a folder ${resolve(repository)} nor a repository ${repository} on ${endpoint} that can be seen ${token === undefined ? 'without a token. If it is private, set HF_TOKEN' : 'with this token'}. Check the name.`,
      { code: 'ERR_HUB_NOT_FOUND' },
    );
  }
  if (status === 403) {
    return new HubError(
      `${endpoint} does not give ${repository}${said === '' ? '' : `: ${said}`}. Check the rights of the token, and the conditions on ${endpoint}/${repository}.`,
      { code: 'ERR_HUB_ACCESS' },
    );
  }
  if (status === 429) {
    const when = headers.get('retry-after');
    return new HubError(
      `${endpoint} gets too many requests from here. Try again ${when === null ? 'later' : `in ${when} s`}${token === undefined ? ', or set HF_TOKEN, which allows more' : ''}.`,
      { code: 'ERR_HUB_RATE_LIMIT' },
    );
  }
  return new HubError(
    `${endpoint} answers ${status}${said === '' ? '' : ` (${said})`} for ${repository}. Try again later.`,
    { code: 'ERR_HUB_NETWORK' },
  );
}

/** Where a transfer was sent on to may hold signatures, which belong in no log. */
function pathOf(url: string): string {
  return URL.canParse(url) ? new URL(url).pathname : 'a file';
}

/** fetch says "fetch failed"; what happened stands in its cause. */
export function deepest(error: unknown): string {
  let current = error as Error;
  while (current.cause instanceof Error) current = current.cause;
  return current.message || String((current as NodeJS.ErrnoException).code ?? current.name);
}

/** An error of the disk with what to do about it; others as they are. */
export function diskError(error: unknown, folder: string): unknown {
  if (!(error instanceof Error) || !('syscall' in error)) return error;
  const { code = '', message } = error as NodeJS.ErrnoException;
  const cures: Record<string, string> = {
    ENOSPC: 'The disk is full: make room',
    EDQUOT: 'The disk quota is used up: make room',
    EACCES: 'It may not be written: change its owner',
    EPERM: 'It may not be written: change its owner',
    EROFS: 'It is read-only: mount it otherwise',
  };
  const cure = cures[code] ?? 'Look what is there';
  return new HubError(
    `Cannot write the cache ${folder}: ${message}. ${cure}, or name another folder with HF_HUB_CACHE or cacheDir.`,
    { code: 'ERR_HUB_CACHE', cause: error },
  );
}
