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
  readonly #limit: number | undefined;
  #errors = '';
  #isLate = false;

  private constructor(
    name: string,
    child: ChildProcessWithoutNullStreams,
    limit: number | undefined,
  ) {
    this.name = name;
    this.#child = child;
    this.#limit = limit;
    this.#lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    child.stderr.on('data', (chunk) => {
      this.#errors = `${this.#errors}${chunk}`.slice(-4000);
    });
    // A process that has ended takes no more tasks: that no answer comes says so.
    child.stdin.on('error', () => {});
  }

  /**
   * Resolves after the process has introduced itself.
   *
   * @param limit Seconds that it may take for an answer, before it is ended; for ever unless given.
   */
  static async start(
    name: string,
    command: string,
    args: readonly string[],
    { limit }: { limit?: number | undefined } = {},
  ): Promise<PeerProcess> {
    const child = spawn(command, args, { stdio: 'pipe' });
    const failure = new Promise<never>((_, reject) => child.once('error', reject));
    const peer = new PeerProcess(name, child, limit);
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
    const limit = this.#limit;
    const late = (): void => {
      this.#isLate = true;
      this.#child.kill('SIGKILL');
    };
    const timer = limit === undefined ? undefined : setTimeout(late, 1000 * limit);
    try {
      for (;;) {
        const { value, done } = await this.#lines.next();
        if (done === true) throw new Error(this.#ending());
        // Libraries write to standard output, too, and not always whole lines.
        const start = value.indexOf('{"');
        if (start >= 0) return JSON.parse(value.slice(start)) as Answer;
      }
    } finally {
      clearTimeout(timer);
    }
  }

  #ending(): string {
    if (this.#isLate) return `${this.name} took longer than ${this.#limit} s.`;
    const last = this.#errors.trimEnd().split('\n').at(-1) ?? '';
    return `${this.name} ended early: ${last}\n${this.#errors}`;
  }

  stop(): void {
    this.#child.stdin.end();
    this.#child.kill();
  }
}
