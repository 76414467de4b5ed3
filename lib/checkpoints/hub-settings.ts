// What the environment and the caller say about the hub: the same variables as for huggingface_hub.
import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';

import { expected, HubError, InvalidArgumentError } from '../errors.js';
import { checkBoolean, checkFunction, checkSignal } from '../options.js';

/** How checkpoints that are no folder on this machine are come by. */
export interface HubOptions {
  /** Branch, tag or commit of a repository on the hub; `'main'` unless given. */
  revision?: string;
  /** Takes what is in the cache, without any request. */
  localFilesOnly?: boolean;
  /** Folder to use instead of the Hugging Face cache. */
  cacheDir?: string;
  /** Access token to use instead of `HF_TOKEN`, or of the one that `hf auth login` has saved. */
  token?: string;
}

/** Told about files as they come from the hub; several are on their way at once. */
export interface DownloadProgress {
  /** Tells it from progress in loading. */
  status: 'downloading';
  /** `'org/name'`. */
  repository: string;
  /** Its path in the repository. */
  file: string;
  /** Bytes of this file that are here. */
  fileBytes: number;
  /** Bytes that this file has. */
  fileSize: number;
  /** Bytes of all files that are being fetched now, as far as they are here. */
  bytes: number;
  /** Bytes that all files have that are being fetched now. */
  size: number;
}

/** Who wants a checkpoint, and how it may be come by. */
export interface HubAccess extends HubOptions {
  /** Called about ten times a second while files are downloaded. */
  onProgress?: ((progress: DownloadProgress) => void) | undefined;
  /** Stops downloads; what has come stays, and is not fetched again. */
  signal?: AbortSignal | undefined;
}

export interface HubSettings {
  /** Without a slash at its end. */
  endpoint: string;
  cacheFolder: string;
  token: string | undefined;
  /** Why there are no requests, in words. */
  offline: string | undefined;
  /** Milliseconds that an answer may take. */
  answerTimeout: number;
  /** Milliseconds that a transfer may stand still. */
  stallTimeout: number;
  /** Milliseconds before the second try; the double before each one more. */
  retryDelay: number;
}

export const hubOptionNames: readonly (keyof HubOptions)[] = [
  'revision',
  'localFilesOnly',
  'cacheDir',
  'token',
];
export const hubAccessNames: readonly (keyof HubAccess)[] = [
  ...hubOptionNames,
  'onProgress',
  'signal',
];

/** For a second checkpoint: a revision is the first one's. */
export function withoutRevision({ revision: _, ...access }: HubAccess): HubAccess {
  return access;
}

/** @throws InvalidArgumentError */
export function checkHubAccess(access: HubAccess): void {
  const { revision, localFilesOnly, cacheDir, token, onProgress, signal } = access;
  if (revision !== undefined && !isRevision(revision)) {
    throw expected('a branch, a tag or a commit', 'revision', revision);
  }
  checkBoolean(localFilesOnly, 'localFilesOnly');
  if (cacheDir !== undefined && (typeof cacheDir !== 'string' || cacheDir === '')) {
    throw expected('a folder', 'cacheDir', cacheDir);
  }
  // The value is a secret: no message shows it.
  if (token !== undefined && !isToken(token)) {
    throw new InvalidArgumentError('Expected an access token for token: letters, digits and _.');
  }
  checkFunction(onProgress, 'onProgress');
  checkSignal(signal);
}

/** A name that git could have, and that stays in the folder it is put in. */
export function isRevision(value: unknown): value is string {
  return (
    typeof value === 'string' &&
    /^[\w][\w.+-]*(\/[\w][\w.+-]*)*$/.test(value) &&
    !value.includes('..') &&
    value.length <= 255
  );
}

function isToken(value: unknown): value is string {
  return typeof value === 'string' && /^[\x21-\x7e]+$/.test(value);
}

/** @throws InvalidArgumentError, HubError for an environment that cannot be meant */
export async function hubSettings(access: HubAccess): Promise<HubSettings> {
  const env = environment();
  const home = inHome(
    env.HF_HOME ?? join(env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'huggingface'),
  );
  const cacheFolder =
    access.cacheDir ?? env.HF_HUB_CACHE ?? env.HUGGINGFACE_HUB_CACHE ?? join(home, 'hub');
  let offline: string | undefined;
  if (access.localFilesOnly === true) offline = 'localFilesOnly is set';
  else if (isTrue(env.HF_HUB_OFFLINE)) offline = 'HF_HUB_OFFLINE is set';
  else if (isTrue(env.TRANSFORMERS_OFFLINE)) offline = 'TRANSFORMERS_OFFLINE is set';
  return {
    endpoint: endpointOf(env.HF_ENDPOINT ?? 'https://huggingface.co'),
    cacheFolder: resolve(inHome(cacheFolder)),
    token: access.token ?? (await savedToken(home)),
    offline,
    answerTimeout: seconds(env.HF_HUB_ETAG_TIMEOUT) ?? 10_000,
    stallTimeout: seconds(env.HF_HUB_DOWNLOAD_TIMEOUT) ?? 10_000,
    retryDelay: 1000,
  };
}

/** A variable that is set to nothing counts as not set. */
function environment(): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(process.env).filter(([, value]) => value !== ''));
}

function endpointOf(text: string): string {
  const isAddress = URL.canParse(text) && /^https?:$/.test(new URL(text).protocol);
  if (isAddress) return text.replace(/\/+$/, '');
  throw expected('an address such as https://huggingface.co', 'HF_ENDPOINT', text);
}

async function savedToken(home: string): Promise<string | undefined> {
  const env = environment();
  if (isTrue(env.HF_HUB_DISABLE_IMPLICIT_TOKEN)) return undefined;
  const file = inHome(env.HF_TOKEN_PATH ?? join(home, 'token'));
  const named = env.HF_TOKEN ?? env.HUGGING_FACE_HUB_TOKEN ?? '';
  const text = named.trim() !== '' ? named : await readFile(file, 'utf8').catch(() => '');
  const token = text.trim();
  if (token === '') return undefined;
  if (isToken(token)) return token;
  const where = named.trim() !== '' ? 'HF_TOKEN' : file;
  throw new HubError(
    `Expected an access token in ${where} but it holds characters that no token has. Copy it again from https://huggingface.co/settings/tokens.`,
    { code: 'ERR_HUB_ACCESS' },
  );
}

function inHome(path: string): string {
  return path === '~' || path.startsWith('~/') ? join(homedir(), path.slice(1)) : path;
}

function isTrue(value: string | undefined): boolean {
  return ['1', 'ON', 'YES', 'TRUE'].includes((value ?? '').toUpperCase());
}

function seconds(text: string | undefined): number | undefined {
  const value = Number(text ?? Number.NaN);
  return Number.isFinite(value) && value > 0 ? value * 1000 : undefined;
}
