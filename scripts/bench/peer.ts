// Starts diffusers in Python beside a benchmark, and reports what was measured.
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { availableParallelism, cpus, totalmem } from 'node:os';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

import { libtorchInUse, native } from '../../lib/native.js';
import { ensurePython } from '../python.js';

export interface PeerAnswer {
  seconds: number;
}

/** A Python process that does one task at a time. */
export class DiffusersPeer {
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #lines: AsyncIterator<string>;
  versions: Record<string, unknown> = {};

  private constructor(child: ChildProcessWithoutNullStreams) {
    this.#child = child;
    this.#lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  }

  static async start(threads: number): Promise<DiffusersPeer> {
    const python = await ensurePython({ log: (line) => console.error(line) });
    const script = fileURLToPath(new URL('diffusers_peer.py', import.meta.url));
    const child = spawn(python, ['-W', 'ignore', script, String(threads)]);
    let errors = '';
    child.stderr.on('data', (chunk) => {
      errors = `${errors}${chunk}`.slice(-4000);
    });
    child.on('exit', (code) => {
      if (code !== 0 && code !== null) console.error(errors);
    });
    const peer = new DiffusersPeer(child);
    peer.versions = (await peer.#answer()) as unknown as Record<string, unknown>;
    return peer;
  }

  async ask(task: string, options: Record<string, unknown>): Promise<PeerAnswer> {
    this.#child.stdin.write(`${JSON.stringify({ task, ...options })}\n`);
    return this.#answer();
  }

  async #answer(): Promise<PeerAnswer> {
    const { value, done } = await this.#lines.next();
    if (done === true) throw new Error('The Python peer ended early.');
    return JSON.parse(value) as PeerAnswer;
  }

  stop(): void {
    this.#child.stdin.end();
  }
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle] as number;
  return sorted.length % 2 === 1 ? upper : (upper + (sorted[middle - 1] as number)) / 2;
}

export interface Comparison {
  name: string;
  ours: number[];
  theirs: number[];
}

/** The seconds of both sides as a table, with the machine they were measured on. */
export function report(comparisons: readonly Comparison[], peer: DiffusersPeer): void {
  const [cpu] = cpus();
  const memory = (totalmem() / 2 ** 30).toFixed(0);
  console.log(`machine: ${cpu?.model}, ${availableParallelism()} cores, ${memory} GiB`);
  console.log(
    `torchbrush: libtorch ${libtorchInUse().version}, ${native().threads()} threads, ${native().cpuCapability()}`,
  );
  console.log(`diffusers: ${JSON.stringify(peer.versions)}`);
  console.log('| what | torchbrush, s (min–max) | diffusers, s (min–max) | ratio of medians |');
  console.log('|---|---|---|---|');
  for (const { name, ours, theirs } of comparisons) {
    const ratio = (median(theirs) / median(ours)).toFixed(2);
    console.log(`| ${name} | ${spread(ours)} | ${spread(theirs)} | ${ratio}× |`);
  }
}

function spread(values: readonly number[]): string {
  const show = (value: number): string => value.toFixed(3);
  return `${show(median(values))} (${show(Math.min(...values))}–${show(Math.max(...values))})`;
}
