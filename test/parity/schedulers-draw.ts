/** Seeded random choices. */

/** mulberry32: a small seeded generator, so that a failing case can be drawn again. */
function makeRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let z = state;
    z = Math.imul(z ^ (z >>> 15), z | 1);
    z ^= z + Math.imul(z ^ (z >>> 7), z | 61);
    return ((z ^ (z >>> 14)) >>> 0) / 2 ** 32;
  };
}

export class Draw {
  readonly next: () => number;
  constructor(seed: number) {
    this.next = makeRandom(seed);
    for (let i = 0; i < 5; i++) this.next();
  }
  chance(probability: number): boolean {
    return this.next() < probability;
  }
  pick<T>(values: readonly T[]): T {
    const value = values[Math.floor(this.next() * values.length)];
    if (value === undefined) throw new RangeError('nothing to pick from');
    return value;
  }
  between(low: number, high: number): number {
    return low + this.next() * (high - low);
  }
}
