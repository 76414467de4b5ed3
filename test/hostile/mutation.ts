// Changes of bytes at random, the same for the same seed.

/** mulberry32: small, and the same on every machine. */
export function randomNumbers(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

export type Random = ReturnType<typeof randomNumbers>;

/** One change in the first `region` bytes: bits flipped, digits changed, a piece cut out or doubled. */
export function mutated(bytes: Buffer, region: number, random: Random): Buffer {
  const copy = Buffer.from(bytes);
  const end = Math.min(region, bytes.length);
  switch (random(5)) {
    case 0:
      return copy.subarray(0, random(end));
    case 1: {
      const from = random(end);
      return Buffer.concat([copy.subarray(0, from), copy.subarray(from + 1 + random(16))]);
    }
    case 2: {
      const from = random(end);
      const piece = copy.subarray(from, from + 1 + random(64));
      return Buffer.concat([copy.subarray(0, from), piece, copy.subarray(from)]);
    }
    case 3: {
      // Digits, so that the file stays JSON and the numbers in it go wrong.
      const digits = [...copy.subarray(0, end).keys()].filter((i) => isDigit(copy[i]));
      for (let i = 0; i < 1 + random(3); i += 1)
        copy[digits[random(digits.length)] ?? 0] = 0x30 + random(10);
      return copy;
    }
    default:
      for (let i = 0; i < 1 + random(4); i += 1) {
        const at = random(end);
        copy[at] = (copy[at] as number) ^ (1 << random(8));
      }
      return copy;
  }
}

function isDigit(byte: number | undefined): boolean {
  return byte !== undefined && byte >= 0x30 && byte <= 0x39;
}
