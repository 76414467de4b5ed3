/** What a sampler remembers of earlier evaluations. */

import type { Tensor } from '../tensor.js';
import type { LinearForm } from './linear-form.js';

/** A form with tensors of its own, aliases of those it was made from. */
export class KeptForm implements Disposable {
  readonly form: LinearForm<Tensor>;

  constructor(form: LinearForm<Tensor>) {
    this.form = form.map(([coefficient, tensor]) => [coefficient, tensor.alias()]);
  }

  [Symbol.dispose](): void {
    for (const [, tensor] of this.form) tensor.dispose();
  }
}

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
