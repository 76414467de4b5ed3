/**
 * Pairs of ids → a number, by open addressing in one typed array. A `Map` with a float64 key for
 * each pair takes ten times as long to fill, which was a tenth of loading a checkpoint.
 */
export class PairTable {
  readonly #mask: number;
  /** Left id + 1 (0: free), right id, in turn. */
  readonly #keys: Int32Array;
  readonly #values: Float64Array;

  /** @param capacity The most pairs that will be set. */
  constructor(capacity: number) {
    let slots = 16;
    while (slots < capacity * 2) slots *= 2;
    this.#mask = slots - 1;
    this.#keys = new Int32Array(slots * 2);
    this.#values = new Float64Array(slots);
  }

  set(left: number, right: number, value: number): void {
    const slot = this.#slotOf(left, right);
    this.#keys[slot * 2] = left + 1;
    this.#keys[slot * 2 + 1] = right;
    this.#values[slot] = value;
  }

  get(left: number, right: number): number | undefined {
    const slot = this.#slotOf(left, right);
    return this.#keys[slot * 2] === 0 ? undefined : this.#values[slot];
  }

  /** The pair's slot, or the free one where it would go. */
  #slotOf(left: number, right: number): number {
    const keys = this.#keys;
    let slot = (Math.imul(left, 0x9e3779b1) ^ Math.imul(right, 0x85ebca6b)) >>> 7;
    for (;;) {
      slot &= this.#mask;
      const key = keys[slot * 2] as number;
      if (key === 0 || (key === left + 1 && keys[slot * 2 + 1] === right)) return slot;
      slot += 1;
    }
  }
}
