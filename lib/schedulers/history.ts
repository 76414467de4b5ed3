/** What a multistep sampler remembers of earlier steps. */

/** The last few entries, newest first. Entries that drop out are disposed. */
export class History<Entry extends Disposable> {
  readonly #capacity: number;
  #entries: Entry[] = [];

  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  get entries(): readonly Entry[] {
    return this.#entries;
  }

  /** Takes ownership of `entry`. */
  push(entry: Entry): void {
    this.#entries.unshift(entry);
    for (const dropped of this.#entries.splice(this.#capacity)) dropped[Symbol.dispose]();
  }

  clear(): void {
    for (const entry of this.#entries.splice(0)) entry[Symbol.dispose]();
  }
}
