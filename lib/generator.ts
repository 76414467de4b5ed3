import type { NativeGenerator } from './core.js';
import { expected } from './errors.js';
import { call } from './native.js';
import { Tensor } from './tensor.js';

/**
 * Random numbers as `torch.Generator('cpu')` draws them: one seed, one picture, here and in Python.
 * Numbers are drawn on the CPU for every device, so a seed does not depend on the device either.
 *
 * @example new Generator().manualSeed(7)
 */
export class Generator {
  #native: NativeGenerator | undefined;
  #seed: bigint;

  /** Seeded at random unless {@link manualSeed} is called. */
  constructor() {
    const words = crypto.getRandomValues(new Uint32Array(2));
    // 53 bits, so that initialSeed is exact as a number.
    this.#seed = (BigInt(words[0] ?? 0) << 21n) | BigInt((words[1] ?? 0) >>> 11);
  }

  /** Starts the sequence of `seed` anew. @param seed A whole number; negative ones wrap as in torch. */
  manualSeed(seed: number | bigint): this {
    if (typeof seed !== 'bigint' && !Number.isSafeInteger(seed)) {
      throw expected('a whole number', 'seed', seed);
    }
    this.#seed = BigInt.asUintN(64, BigInt(seed));
    this.#native?.seed(this.#seed);
    return this;
  }

  /** The seed the sequence started from. */
  get initialSeed(): bigint {
    return this.#seed;
  }

  /** @internal */
  get native(): NativeGenerator {
    this.#native ??= call((core) => new core.NativeGenerator(this.#seed));
    return this.#native;
  }

  /** The place in the sequence, as torch.Generator.get_state() gives it: uint8 [5056]. You dispose it. */
  getState(): Tensor {
    return call(() => new Tensor(this.native.getState()));
  }

  /**
   * Goes on from a state that `getState()` gave, or Python's. Throws ERR_INVALID_ARGUMENT for other
   * tensors. The state is not disposed.
   */
  setState(state: Tensor): this {
    call(() => this.native.setState(state.native));
    return this;
  }
}
