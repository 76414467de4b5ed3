// How far a command is: a bar on a terminal, now and then a plain line where standard error goes
// elsewhere. Standard output is for results alone.
import type { WriteStream } from 'node:tty';

export interface ProgressOptions {
  quiet?: boolean;
  /** How amounts are written; plain numbers unless given. */
  amount?: (value: number) => string;
  /** What is counted per second: steps, called `it`, or bytes. */
  rate?: (perSecond: number) => string;
  stream?: Pick<WriteStream, 'write' | 'isTTY' | 'columns'>;
  /** Milliseconds, for tests. */
  now?: () => number;
}

/** Milliseconds between two pictures of the bar, and between two plain lines. */
const redraw = 100;
const plainPause = 10_000;
/** Updates that the rate is taken over: what was long ago says little. */
const window = 20;
const barWidth = 24;

/** The bar that is on the screen: others' lines go above it. */
let shown: Progress | undefined;

/** Writes a line without breaking the bar that may be there. */
export function writeLine(text: string, stream: Pick<WriteStream, 'write'> = process.stderr): void {
  shown?.hide();
  stream.write(`${text}\n`);
  shown?.show();
}

export class Progress {
  readonly #label: string;
  readonly #options: Required<ProgressOptions>;
  readonly #isTerminal: boolean;
  #samples: { at: number; done: number }[] = [];
  #line = '';
  #writtenAt: number;

  constructor(label: string, options: ProgressOptions = {}) {
    this.#label = label;
    this.#options = {
      quiet: false,
      amount: (value) => `${value}`,
      rate: iterations,
      stream: process.stderr,
      now: () => performance.now(),
      ...options,
    };
    this.#isTerminal = this.#options.stream.isTTY === true;
    // The first plain line tells of something that takes long; the bar is there at once.
    this.#writtenAt = this.#isTerminal ? Number.NEGATIVE_INFINITY : this.#options.now();
  }

  /** @param detail What is being done, such as `picture 2 of 3`. */
  update(done: number, total: number, detail = ''): void {
    const { quiet, now } = this.#options;
    if (quiet) return;
    const at = now();
    this.#samples = [...this.#samples, { at, done }].slice(-window);
    const pause = this.#isTerminal ? redraw : plainPause;
    if (at - this.#writtenAt < pause && done < total) return;
    if (!this.#isTerminal && at - this.#writtenAt < pause) return;
    this.#writtenAt = at;
    this.#line = this.#text(done, total, detail);
    if (this.#isTerminal) this.show();
    else this.#options.stream.write(`${this.#line}\n`);
  }

  /** Takes the bar away; what comes next starts on an empty line. */
  stop(): void {
    this.hide();
    this.#line = '';
    if (shown === this) shown = undefined;
  }

  show(): void {
    if (!this.#isTerminal || this.#line === '') return;
    const { stream } = this.#options;
    shown = this;
    // A line that wraps could not be taken back.
    stream.write(`\r${this.#line.slice(0, Math.max(1, (stream.columns || 80) - 1))}\x1b[K`);
  }

  hide(): void {
    if (this.#isTerminal && this.#line !== '') this.#options.stream.write('\r\x1b[K');
  }

  #text(done: number, total: number, detail: string): string {
    const { amount, rate } = this.#options;
    const counted = `${amount(done)}/${amount(total)}`;
    const perSecond = this.#perSecond();
    const speed = perSecond > 0 ? [rate(perSecond)] : [];
    const left = perSecond > 0 && total > done ? [`${clock((total - done) / perSecond)} left`] : [];
    const parts = [counted, ...speed, ...left, ...(detail === '' ? [] : [detail])];
    if (!this.#isTerminal) return `${this.#label}: ${parts.join(', ')}`;
    const filled = Math.round(barWidth * (total > 0 ? Math.min(1, done / total) : 0));
    const bar = '█'.repeat(filled) + '░'.repeat(barWidth - filled);
    return `${this.#label} ${bar} ${parts.join('  ')}`;
  }

  #perSecond(): number {
    const [first, last] = [this.#samples[0], this.#samples.at(-1)];
    if (first === undefined || last === undefined || last.at <= first.at) return 0;
    return ((last.done - first.done) / (last.at - first.at)) * 1000;
  }
}

function iterations(perSecond: number): string {
  return perSecond >= 1 ? `${perSecond.toFixed(1)} it/s` : `${(1 / perSecond).toFixed(1)} s/it`;
}

/** `1.2 GB` */
export function byteCount(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let value = bytes;
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit === 0 || value >= 99.95 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

/** `0:07`, `12:30`, `1:02:03` */
export function clock(seconds: number): string {
  const whole = Math.ceil(seconds);
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  const tail = `${whole % 60}`.padStart(2, '0');
  return hours > 0 ? `${hours}:${`${minutes}`.padStart(2, '0')}:${tail}` : `${minutes}:${tail}`;
}
