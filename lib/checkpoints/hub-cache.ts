// One repository in the Hugging Face cache, in the layout of huggingface_hub: `blobs` by hash,
// `snapshots` of links to them, `refs` from branches to commits.
import { randomUUID } from 'node:crypto';
import { statSync } from 'node:fs';
import {
  copyFile,
  mkdir,
  readdir,
  readFile,
  rename,
  rm,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { isFilePath } from './hub-reference.js';
import { parseJson } from './json.js';

/** A file as the hub lists it. */
export interface HubFile {
  /** Its path in the repository. */
  name: string;
  size: number;
  /** SHA-256 of its content for large files, git's SHA-1 for others. */
  hash: string;
}

/** What is known of a commit's files by name; `undefined` for those that are only seen on disk. */
export type HubListing = ReadonlyMap<string, HubFile | undefined>;

export const commitPattern = /^[0-9a-f]{40}$/;
const hashPattern = /^([0-9a-f]{40}|[0-9a-f]{64})$/;

/** Repositories have some thousand files at most; checkpoints some dozen. */
export const mostFiles = 100_000;

export class CachedRepository {
  readonly folder: string;
  readonly #locks: string;

  /** @param cacheFolder The whole cache; it need not be there yet. */
  constructor(cacheFolder: string, repository: string) {
    const name = `models--${repository.replace('/', '--')}`;
    this.folder = join(cacheFolder, name);
    this.#locks = join(cacheFolder, '.locks', name);
  }

  snapshotFolder(commit: string): string {
    return join(this.folder, 'snapshots', commit);
  }

  blob(hash: string): string {
    return join(this.folder, 'blobs', hash);
  }

  lock(hash: string): string {
    return join(this.#locks, `${hash}.torchbrush.lock`);
  }

  /** The commit that a branch or tag was at when it was last looked up. */
  async readRef(revision: string): Promise<string | undefined> {
    const text = await readFile(join(this.folder, 'refs', revision), 'utf8').catch(() => '');
    return commitPattern.test(text.trim()) ? text.trim() : undefined;
  }

  /** A cache that cannot be written is as good: it is asked for again the next time. */
  async writeRef(revision: string, commit: string): Promise<void> {
    if (revision === commit || (await this.readRef(revision)) === commit) return;
    await writeWhole(join(this.folder, 'refs', revision), commit).catch(() => {});
  }

  /** A commit's files never change, so their list is kept: ours, or the one of huggingface_hub. */
  async readListing(commit: string): Promise<HubListing | undefined> {
    for (const file of [this.#listing(commit), join(this.folder, 'trees', `${commit}.json`)]) {
      const text = await readFile(file, 'utf8').catch(() => undefined);
      const listing = text === undefined ? undefined : parseListing(text);
      if (listing !== undefined) return listing;
    }
    return undefined;
  }

  /**
   * Under a name of our own: to huggingface_hub its file says that all of the repository was wanted,
   * and it would refuse a snapshot of some files when there is no network.
   */
  async writeListing(commit: string, listing: readonly HubFile[]): Promise<void> {
    const files = Object.fromEntries(
      listing.map(({ name, size, hash }) => [
        name,
        hash.length === 64
          ? { size, blob_id: '', lfs_sha256: hash, lfs_size: size }
          : { size, blob_id: hash },
      ]),
    );
    const text = JSON.stringify({ format_version: 1, files });
    await writeWhole(this.#listing(commit), text).catch(() => {});
  }

  /** The files of a snapshot that are on disk. */
  async localFiles(commit: string): Promise<HubListing> {
    const root = this.snapshotFolder(commit);
    const names = await readdir(root, { recursive: true }).catch(() => []);
    const files = names.filter((name) => isFile(join(root, name)));
    return new Map(files.map((name) => [name, undefined]));
  }

  /** Puts a file whose content is here into a snapshot. */
  async link(commit: string, { name, hash }: HubFile): Promise<void> {
    const pointer = join(this.snapshotFolder(commit), name);
    const blob = this.blob(hash);
    await mkdir(dirname(pointer), { recursive: true });
    const made = `${pointer}.${randomUUID().slice(0, 8)}`;
    try {
      await symlink(relative(dirname(pointer), blob), made).catch(async (error: unknown) => {
        // Some file systems have no links.
        const { code = '' } = error as NodeJS.ErrnoException;
        if (!['EPERM', 'ENOSYS', 'ENOTSUP', 'EOPNOTSUPP'].includes(code)) throw error;
        await copyFile(blob, made);
      });
      await rename(made, pointer);
    } catch (error) {
      await rm(made, { force: true });
      throw error;
    }
  }

  #listing(commit: string): string {
    return join(this.folder, 'trees', `${commit}.torchbrush.json`);
  }
}

function parseListing(text: string): HubListing | undefined {
  try {
    const { format_version: version, files } = parseJson(text) as {
      format_version?: unknown;
      files?: Record<string, Record<string, unknown>>;
    };
    if (version !== 1 || files === undefined) return undefined;
    const entries = Object.entries(files).map(([name, file]) =>
      checkedFile({
        name,
        size: file.lfs_size ?? file.size,
        hash: file.lfs_sha256 ?? file.blob_id,
      }),
    );
    return new Map(entries.map((file) => [file.name, file]));
  } catch {
    // Damaged or of another version: asked for again.
    return undefined;
  }
}

/** @throws TypeError for a file that could lie outside of its folder, or that cannot be checked */
export function checkedFile(file: Record<keyof HubFile, unknown>): HubFile {
  const { name, size, hash } = file;
  if (
    typeof name === 'string' &&
    isFilePath(name.split('/')) &&
    typeof size === 'number' &&
    Number.isSafeInteger(size) &&
    size >= 0 &&
    typeof hash === 'string' &&
    hashPattern.test(hash)
  ) {
    return { name, size, hash };
  }
  throw new TypeError(`a file ${JSON.stringify(file).slice(0, 200)}`);
}

export function isFile(path: string, size?: number): boolean {
  try {
    const status = statSync(path);
    return status.isFile() && (size === undefined || status.size === size);
  } catch {
    // Missing, a link to nowhere, a part of the path that is a file, or forbidden.
    return false;
  }
}

/** So that nobody ever reads half a file. */
async function writeWhole(path: string, text: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  const made = `${path}.${randomUUID().slice(0, 8)}.tmp`;
  try {
    await writeFile(made, text);
    await rename(made, path);
  } catch (error) {
    await rm(made, { force: true });
    throw error;
  }
}
