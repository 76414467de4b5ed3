// Runs that are taken in turn, A B C A B C …, so that whatever slows the machine slows all sides.

/** What networks compute in. */
export type BenchDType = 'float32' | 'bfloat16' | 'float16';
/** One of the things compared. */
export interface Side {
  name: string;
  /** Ratios are those of torchbrush's sides to the others. */
  isOurs: boolean;
  dtype: BenchDType;
  /** One run; what it measured, in the comparison's unit. */
  run(): Promise<number>;
  /** The numbers that a run of the same inputs gives. */
  output?: () => Promise<Float32Array>;
  dispose?: () => void;
}

export type Spread = Record<'median' | 'min' | 'max', number>;

export interface SideResult extends Spread {
  name: string;
  isOurs: boolean;
  dtype: BenchDType;
  /** One for each round. */
  values: number[];
  /** Against the first side in float32 that is not ours, where outputs were compared. */
  maxAbsError?: number;
}

export interface Interleaved {
  results: SideResult[];
  notes: string[];
}

/**
 * Takes every side once per round, after rounds that count for nothing. A side that fails is left out,
 * with a note that says why.
 */
export async function interleave(
  sides: readonly Side[],
  { rounds, warmups, log }: { rounds: number; warmups: number; log: (line: string) => void },
): Promise<Interleaved> {
  const notes: string[] = [];
  const measured = new Map<Side, number[]>(sides.map((side) => [side, []]));
  const attempt = async (side: Side): Promise<number | undefined> => {
    try {
      return await side.run();
    } catch (error) {
      const reason = error instanceof Error ? (error.message.split('\n')[0] ?? '') : String(error);
      notes.push(`${side.name} could not be measured: ${reason}`);
      log(`  ${notes.at(-1)}`);
      measured.delete(side);
      return undefined;
    }
  };
  for (const side of sides) {
    if (warmups > 0) log(`  warming up: ${side.name}`);
    for (let i = 0; i < warmups && measured.has(side); i += 1) await attempt(side);
  }
  for (let round = 0; round < rounds; round += 1) {
    const shown: string[] = [];
    for (const [side, values] of measured) {
      const value = await attempt(side);
      if (value === undefined) continue;
      values.push(value);
      shown.push(`${side.name} ${value.toPrecision(3)}`);
    }
    log(`  round ${round + 1} of ${rounds}: ${shown.join(', ')}`);
  }
  const results = [...measured].map(([{ name, isOurs, dtype }, values]) => {
    return { name, isOurs, dtype, ...spreadOf(values), values };
  });
  return { results, notes };
}

export function spreadOf(values: readonly number[]): Spread {
  return { median: median(values), min: Math.min(...values), max: Math.max(...values) };
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : (upper + (sorted[middle - 1] ?? Number.NaN)) / 2;
}

/** Seconds that it takes, with what it gives. */
export async function timed<Result>(run: () => Promise<Result>): Promise<[number, Result]> {
  const began = performance.now();
  const result = await run();
  return [(performance.now() - began) / 1000, result];
}
