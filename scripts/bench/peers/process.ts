// A process that does one task at a time, told so in lines of JSON on its standard input.
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

export type Answer = Record<string, unknown> & { seconds?: number };

export class PeerProcess {
  readonly name: string;
  /** What the process said of itself: versions, threads. */
  versions: Answer = {};
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #lines: AsyncIterator<string>;
  #errors = '';

  private constructor(name: string, child: ChildProcessWithoutNullStreams) {
    this.name = name;
    this.#child = child;
    this.#lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    child.stderr.on('data', (chunk) => {
      this.#errors = `${this.#errors}${chunk}`.slice(-4000);
    });
  }

  /** Resolves after the process has introduced itself. */
  static async start(
    name: string,
    command: string,
    args: readonly string[],
    options: { cwd?: string; env?: NodeJS.ProcessEnv } = {},
  ): Promise<PeerProcess> {
    const child = spawn(command, args, { ...options, stdio: 'pipe' });
    const failure = new Promise<never>((_, reject) => child.once('error', reject));
    const peer = new PeerProcess(name, child);
    // However this process ends, the peer's gigabytes go with it.
    const end = () => child.kill('SIGKILL');
    process.once('exit', end);
    child.once('exit', () => process.off('exit', end));
    peer.versions = await Promise.race([peer.#answer(), failure]);
    failure.catch(() => {});
    return peer;
  }

  /** @throws Error with the peer's own message when the task failed there. */
  async ask(task: string, options: Record<string, unknown> = {}): Promise<Answer> {
    this.#child.stdin.write(`${JSON.stringify({ task, ...options })}\n`);
    const answer = await this.#answer();
    if (typeof answer.error === 'string') throw new Error(`${this.name}: ${answer.error}`);
    return answer;
  }

  /** The seconds that a task took. */
  async time(task: string, options: Record<string, unknown> = {}): Promise<number> {
    const { seconds } = await this.ask(task, options);
    if (seconds === undefined) throw new Error(`${this.name} gave no time for ${task}.`);
    return seconds;
  }

  async #answer(): Promise<Answer> {
    for (;;) {
      const { value, done } = await this.#lines.next();
      if (done === true) throw new Error(`${this.name} ended early.\n${this.#errors}`);
      // Libraries write to standard output, too, and not always whole lines.
      const start = value.indexOf('{"');
      if (start >= 0) return JSON.parse(value.slice(start)) as Answer;
    }
  }

  stop(): void {
    this.#child.stdin.end();
    this.#child.kill();
  }
}
