// One process at a time. Node has no flock, so a lock is a file whose holder touches it every second;
// one that stands still was left by a process that is gone. Locks save downloads, no more: what is
// downloaded is checked and renamed into its place, so a lock that fails breaks nothing.
import { randomUUID } from 'node:crypto';
import { mkdir, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

export interface LockOptions {
  signal?: AbortSignal | undefined;
  /** Milliseconds without a sign of life after which a lock is taken over. */
  patience?: number;
}

const beat = 1000;

/**
 * Runs `body` while no other holder of the lock runs. Where no lock can be made, it runs without.
 *
 * @throws the signal's reason, while it waits
 */
export async function withLock<Result>(
  path: string,
  body: () => Promise<Result>,
  { signal, patience = 5 * beat }: LockOptions = {},
): Promise<Result> {
  const token = randomUUID();
  await mkdir(dirname(path), { recursive: true }).catch(() => {});
  await acquire(path, token, patience, signal);
  const heart = setInterval(() => {
    const now = new Date();
    utimes(path, now, now).catch(() => {});
  }, beat);
  heart.unref();
  try {
    return await body();
  } finally {
    clearInterval(heart);
    const holder = await readFile(path, 'utf8').catch(() => '');
    if (holder === token) await rm(path, { force: true }).catch(() => {});
  }
}

async function acquire(
  path: string,
  token: string,
  patience: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  let seen = '';
  let since = performance.now();
  for (;;) {
    signal?.throwIfAborted();
    try {
      await writeFile(path, token, { flag: 'wx' });
      return;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') return;
    }
    // By its changes, not by its age: clocks of machines that share a disk may differ.
    const status = await stat(path).catch(() => undefined);
    const state = `${status?.ino} ${status?.mtimeMs}`;
    if (state !== seen) {
      seen = state;
      since = performance.now();
    } else if (performance.now() - since > patience && (await takeOver(path, token))) {
      return;
    }
    await sleep(Math.min(200, patience / 4), undefined, { signal }).catch(() => {});
  }
}

/** Of several that do this at once, the last one wins, and the others see it. */
async function takeOver(path: string, token: string): Promise<boolean> {
  const made = `${path}.${token}`;
  try {
    await writeFile(made, token);
    await rename(made, path);
    await sleep(50);
    return (await readFile(path, 'utf8')) === token;
  } catch {
    await rm(made, { force: true }).catch(() => {});
    return false;
  }
}
