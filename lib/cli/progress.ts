import { Presets, SingleBar } from 'cli-progress';

/** A bar on a terminal; nothing where standard error is piped. */
export class Progress {
  readonly #bar: SingleBar | undefined;
  #started = false;

  constructor(label: string) {
    if (process.stderr.isTTY !== true) return;
    const format = `${label} {bar} {value}/{total} | {rate} it/s | {eta_formatted} left`;
    this.#bar = new SingleBar(
      { format, stream: process.stderr, hideCursor: true, clearOnComplete: false, etaBuffer: 20 },
      Presets.shades_classic,
    );
  }

  #began = 0;

  update(done: number, total: number): void {
    if (this.#bar === undefined) return;
    if (!this.#started) {
      this.#bar.start(total, 0, { rate: '–' });
      this.#started = true;
      this.#began = performance.now();
    }
    const seconds = (performance.now() - this.#began) / 1000;
    const rate = done > 1 && seconds > 0 ? ((done - 1) / seconds).toFixed(2) : '–';
    this.#bar.update(done, { rate });
  }

  stop(): void {
    if (this.#started) this.#bar?.stop();
  }
}
