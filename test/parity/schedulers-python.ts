/** diffusers' schedulers in one Python process for all cases. */

import { type ChildProcess, spawn } from 'node:child_process';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

import type { Case, Result } from '../golden/schedulers/run-case.js';

/** What a case gives on either side. */
export type Outcome = Result | { readonly error: string };

/** How to compute: see run_case.py. */
export type Mode = 'float64' | 'float32' | 'exact float32' | HalfMode;
type HalfMode = 'float16' | 'bfloat16' | 'exact float16' | 'exact bfloat16';

/** Answers come in the order of the questions, so that questions may be asked ahead of time. */
export class PythonSchedulers implements Disposable {
  readonly #child: ChildProcess;
  readonly #waiting: PromiseWithResolvers[] = [];

  constructor(python: string) {
    const script = join(dirname(fileURLToPath(import.meta.url)), 'schedulers.py');
    const child = spawn(python, [script], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#child = child;
    createInterface({ input: child.stdout }).on('line', (line) => {
      this.#waiting.shift()?.resolve(JSON.parse(line) as Outcome[]);
    });
    child.on('exit', () => {
      for (const { reject } of this.#waiting) reject(new Error('The Python side stopped.'));
    });
  }

  /** The result in each mode. */
  ask(one: Case, modes: readonly Mode[]): Promise<Outcome[]> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject });
      this.#child.stdin?.write(`${JSON.stringify({ case: one, modes })}\n`);
    });
  }

  [Symbol.dispose](): void {
    this.#child.stdin?.end();
  }
}

interface PromiseWithResolvers {
  resolve(outcomes: Outcome[]): void;
  reject(error: Error): void;
}
