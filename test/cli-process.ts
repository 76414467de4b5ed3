// The command line as a process of its own.
import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';

import { packageRoot } from '../lib/package-root.js';

export interface Outcome {
  code: number | null;
  /** What killed it. */
  killedBy: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

export interface RunOptions {
  env?: NodeJS.ProcessEnv;
  /** What it reads. */
  input?: string;
  cwd?: string;
}

const tsx = import.meta.resolve('tsx');
const mainFile = join(packageRoot, 'lib', 'cli', 'main.ts');

/** What starts the command line, from any folder. */
export const command: readonly string[] = [process.execPath, '--import', tsx, mainFile];

export function start(
  args: readonly string[],
  { env = {}, input, cwd }: RunOptions = {},
): { child: ChildProcess; ended: Promise<Outcome> } {
  const [node = '', ...rest] = command;
  const child = spawn(node, [...rest, ...args], {
    stdio: [input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
    // One thread: sums in another order would change last bits.
    env: { ...process.env, OMP_NUM_THREADS: '1', ...env },
    ...(cwd !== undefined && { cwd }),
  });
  const outcome: Outcome = { code: null, killedBy: null, stdout: '', stderr: '' };
  child.stdout?.on('data', (chunk) => {
    outcome.stdout += chunk;
  });
  child.stderr?.on('data', (chunk) => {
    outcome.stderr += chunk;
  });
  child.stdin?.end(input);
  const ended = new Promise<Outcome>((resolve) => {
    child.on('close', (code, killedBy) => resolve({ ...outcome, code, killedBy }));
  });
  return { child, ended };
}

export const run = (args: readonly string[], options?: RunOptions): Promise<Outcome> =>
  start(args, options).ended;

/** Standard output of --json: a value for each line. */
export function jsonLines({ stdout }: Outcome): Record<string, unknown>[] {
  const lines = stdout.split('\n').filter((line) => line !== '');
  return lines.map((line) => JSON.parse(line) as Record<string, unknown>);
}
