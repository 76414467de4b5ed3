/** diffusers' schedulers in Python processes that answer one case after the other. */

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

interface Question {
  readonly text: string;
  resolve(outcomes: Outcome[]): void;
  reject(error: Error): void;
}

interface Worker {
  readonly child: ChildProcess;
  /** In the order of the answers. */
  readonly waiting: Question[];
}

/** One that is answered, and one that is there when it is. */
const QUESTIONS_AT_ONCE = 2;

/** Two processes share the cases; questions may be asked ahead of time. */
export class PythonSchedulers implements Disposable {
  readonly #workers: readonly Worker[];
  readonly #queue: Question[] = [];

  constructor(python: string) {
    this.#workers = [this.#start(python), this.#start(python)];
  }

  /** The result in each mode. What is urgent comes before all that was asked earlier. */
  ask(one: Case, modes: readonly Mode[], { isUrgent = false } = {}): Promise<Outcome[]> {
    return new Promise((resolve, reject) => {
      const question = { text: JSON.stringify({ case: one, modes }), resolve, reject };
      if (isUrgent) this.#queue.unshift(question);
      else this.#queue.push(question);
      for (const worker of this.#workers) this.#feed(worker);
    });
  }

  #start(python: string): Worker {
    const script = join(dirname(fileURLToPath(import.meta.url)), 'schedulers.py');
    const child = spawn(python, [script], {
      stdio: ['pipe', 'pipe', 'inherit'],
      env: { ...process.env, OMP_NUM_THREADS: '1' },
    });
    const worker: Worker = { child, waiting: [] };
    createInterface({ input: child.stdout }).on('line', (line) => {
      const question = worker.waiting.shift();
      this.#feed(worker);
      question?.resolve(JSON.parse(line) as Outcome[]);
    });
    child.on('exit', () => {
      const lost = [...worker.waiting, ...this.#queue.splice(0)];
      for (const { reject } of lost) reject(new Error('The Python side stopped.'));
    });
    return worker;
  }

  #feed({ child, waiting }: Worker): void {
    while (waiting.length < QUESTIONS_AT_ONCE) {
      const question = this.#queue.shift();
      if (question === undefined) return;
      waiting.push(question);
      child.stdin?.write(`${question.text}\n`);
    }
  }

  [Symbol.dispose](): void {
    for (const { child } of this.#workers) child.stdin?.end();
  }
}
