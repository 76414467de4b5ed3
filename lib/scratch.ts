// Tensors that live as long as a block of code.

import type { Tensor } from './tensor.js';

/** Disposes what it owns at the end of a block: `using scratch = new Scratch()`. */
export class Scratch implements Disposable {
  readonly #owned: Tensor[] = [];

  own(tensor: Tensor): Tensor {
    this.#owned.push(tensor);
    return tensor;
  }

  [Symbol.dispose](): void {
    for (const tensor of this.#owned.splice(0)) tensor.dispose();
  }
}
