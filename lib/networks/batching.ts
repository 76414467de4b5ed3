// Runs that wait for a network at the same time go through it together, as one larger batch. What the
// rows of a batch hold does not matter to a network, so the requests may differ in everything but
// their shapes.
import { concat, narrow, repeat } from '../ops.js';
import type { Tensor } from '../tensor.js';

export type Inputs = Readonly<Record<string, Tensor>>;

/** One pass through a network; the caller disposes the results. */
export type Pass = (inputs: Inputs, outputs: readonly string[]) => Promise<Tensor[]>;

interface Request {
  inputs: Inputs;
  outputs: readonly string[];
  /** Requests with the same key fit into one batch. */
  key: string;
  rows: number;
  /** Values of its sample, or of the largest input where there is none. */
  size: number;
  resolve(results: Tensor[]): void;
  reject(reason: unknown): void;
}

/** Values of the sample that one pass takes at most: those of eight guided requests of 512×512 pixels. */
const largestPass = 16 * 4 * 64 * 64;

/** The waiting line of one network. */
export class Batching {
  readonly #pass: Pass;
  #waiting: Request[] = [];
  #isBusy = false;

  constructor(pass: Pass) {
    this.#pass = pass;
  }

  /**
   * A pass with these inputs, [B,…] each or [1,…] for one row that holds for all, alone or together
   * with what else waits. The inputs must live until the promise settles; the caller disposes the
   * results.
   */
  run(inputs: Inputs, outputs: readonly string[]): Promise<Tensor[]> {
    return new Promise((resolve, reject) => {
      const request = { inputs, outputs, ...describe(inputs, outputs), resolve, reject };
      this.#waiting.push(request);
      if (!this.#isBusy) void this.#next();
    });
  }

  /** Sends all that waits on its way, before something changes that it must not see. */
  flush(): void {
    while (this.#waiting.length > 0) void this.#together(this.#take());
  }

  async #next(): Promise<void> {
    this.#isBusy = true;
    await this.#together(this.#take());
    // Whoever got a result asks for its next step within this turn of the event loop.
    setImmediate(() => {
      this.#isBusy = false;
      if (this.#waiting.length > 0) void this.#next();
    });
  }

  /** The request that has waited longest, and those that fit into one batch with it. */
  #take(): Request[] {
    const taken: Request[] = [];
    const [first] = this.#waiting;
    let size = 0;
    this.#waiting = this.#waiting.filter((request) => {
      const fits = request.key === first?.key && size + request.size <= largestPass;
      if (!fits && taken.length > 0) return true;
      size += request.size;
      taken.push(request);
      return false;
    });
    return taken;
  }

  async #together(requests: readonly Request[]): Promise<void> {
    const [first, ...others] = requests;
    if (first === undefined) return;
    if (others.length > 0) {
      try {
        const results = await this.#merged(requests, first.outputs);
        for (const [i, request] of requests.entries()) request.resolve(results[i] ?? []);
        return;
      } catch {
        // One of them may be at fault, or all of them together too large: each gets its own answer.
      }
    }
    for (const { inputs, outputs, resolve, reject } of requests) {
      try {
        resolve(await this.#pass(inputs, outputs));
      } catch (error) {
        reject(error);
      }
    }
  }

  async #merged(requests: readonly Request[], outputs: readonly string[]): Promise<Tensor[][]> {
    const merged = mergeInputs(requests);
    try {
      const results = await this.#pass(merged, outputs);
      try {
        return split(requests, results);
      } finally {
        for (const tensor of results) tensor.dispose();
      }
    } finally {
      for (const tensor of Object.values(merged)) tensor.dispose();
    }
  }
}

function describe(
  inputs: Inputs,
  outputs: readonly string[],
): Pick<Request, 'key' | 'rows' | 'size'> {
  const shapes = Object.entries(inputs).map(
    ([name, { shape, dtype }]) => `${name}:${dtype}[${shape.slice(1).join()}]`,
  );
  const tensors = Object.values(inputs);
  return {
    key: [...shapes.sort(), '→', ...outputs].join(' '),
    rows: Math.max(...tensors.map(({ shape }) => shape[0] ?? 1)),
    size: inputs.sample?.size ?? Math.max(...tensors.map((tensor) => tensor.size)),
  };
}

/** The inputs of all requests one below the other; single rows are repeated for each of a request's. */
function mergeInputs(requests: readonly Request[]): Record<string, Tensor> {
  const merged: Record<string, Tensor> = {};
  try {
    for (const name of Object.keys(requests[0]?.inputs ?? {})) {
      const parts: Tensor[] = [];
      try {
        for (const { inputs, rows } of requests) parts.push(withRows(inputs[name] as Tensor, rows));
        merged[name] = concat(parts);
      } finally {
        for (const part of parts) part.dispose();
      }
    }
    return merged;
  } catch (error) {
    for (const tensor of Object.values(merged)) tensor.dispose();
    throw error;
  }
}

function withRows(tensor: Tensor, rows: number): Tensor {
  if (tensor.shape[0] === rows) return tensor.alias();
  return repeat(tensor, [rows, ...tensor.shape.slice(1).map(() => 1)]);
}

function split(requests: readonly Request[], results: readonly Tensor[]): Tensor[][] {
  let start = 0;
  return requests.map(({ rows }) => {
    const own = results.map((tensor) => narrow(tensor, 0, start, rows));
    start += rows;
    return own;
  });
}
