import type { NativeTensor } from './core.js';
import { checkDevice } from './devices.js';
import { expected, expectedShape, fromNative } from './errors.js';
import { call } from './native.js';

/** Number formats of tensors. */
export type DType =
  | 'float32'
  | 'float16'
  | 'bfloat16'
  | 'float64'
  | 'int64'
  | 'int32'
  | 'int8'
  | 'uint8'
  | 'bool';

/** Arrays that a tensor's memory can be seen through. */
export type TensorData =
  | Float32Array
  | Float64Array
  | Uint16Array
  | BigInt64Array
  | Int32Array
  | Int8Array
  | Uint8Array;

type ArrayClass = {
  new (length: number): TensorData;
  new (buffer: ArrayBuffer, offset?: number, length?: number): TensorData;
  readonly BYTES_PER_ELEMENT: number;
};

/** @internal Half-precision numbers have no array class in Node 20: they show as their 16 bits. */
export const arrayClasses: Record<DType, ArrayClass> = {
  float32: Float32Array,
  float64: Float64Array,
  float16: Uint16Array,
  bfloat16: Uint16Array,
  int64: BigInt64Array,
  int32: Int32Array,
  int8: Int8Array,
  uint8: Uint8Array,
  bool: Uint8Array,
};

const dtypeOfArray: [new (length: number) => TensorData, DType][] = [
  [Float32Array, 'float32'],
  [Float64Array, 'float64'],
  [BigInt64Array, 'int64'],
  [Int32Array, 'int32'],
  [Int8Array, 'int8'],
  [Uint8Array, 'uint8'],
];

/**
 * A dense array of numbers on a device, held by libtorch.
 *
 * Whoever makes a tensor disposes it (`dispose()` or `using`); functions never dispose what they are
 * given and always return fresh tensors. Garbage collection frees forgotten ones, later.
 */
export class Tensor {
  readonly #native: NativeTensor;
  #shape: readonly number[] | undefined;
  #data: TensorData | undefined;

  /** @internal Wraps a native tensor and takes it over. */
  constructor(native: NativeTensor) {
    this.#native = native;
  }

  /**
   * A CPU tensor over `data`. Typed arrays are shared, not copied: writing to the array changes the
   * tensor. Plain arrays become float32.
   *
   * @param shape Sizes, outermost first; their product is the length of `data`.
   * @throws InvalidArgumentError `ERR_INVALID_ARGUMENT` when sizes and length differ.
   * @example Tensor.fromArray(new Float32Array(4 * 64 * 64), [1, 4, 64, 64])
   */
  static fromArray(
    data: TensorData | readonly number[],
    shape: readonly number[],
    options: { dtype?: DType } = {},
  ): Tensor {
    const array = toTypedArray(data, options.dtype);
    const dtype = options.dtype ?? dtypeOf(array);
    if (arrayClasses[dtype].BYTES_PER_ELEMENT !== array.BYTES_PER_ELEMENT) {
      throw expected(
        `an array of ${arrayClasses[dtype].BYTES_PER_ELEMENT}-byte elements`,
        'data',
        data,
      );
    }
    if (!shape.every((size) => Number.isSafeInteger(size) && size >= 0)) {
      throw expectedShape('whole numbers of at least 0', 'shape', shape);
    }
    const count = shape.reduce((product, size) => product * size, 1);
    if (count !== array.length) {
      throw expected(`[${shape.join(', ')}] = ${count} elements`, 'data', array.length);
    }
    const buffer = array.buffer;
    if (!(buffer instanceof ArrayBuffer)) throw expected('memory that is not shared', 'data', data);
    return call((core) => new Tensor(core.fromBuffer(buffer, array.byteOffset, shape, dtype)));
  }

  /** @internal */
  get native(): NativeTensor {
    return this.#native;
  }

  /** Sizes, outermost first. @throws DisposedError */
  get shape(): readonly number[] {
    this.#check();
    this.#shape ??= Object.freeze(this.#native.shape);
    return this.#shape;
  }

  /** Format of its numbers. */
  get dtype(): DType {
    this.#check();
    return this.#native.dtype as DType;
  }

  /** `'cpu'` or `'cuda:0'`. */
  get device(): string {
    this.#check();
    return this.#native.device;
  }

  /** Number of elements. */
  get size(): number {
    return this.shape.reduce((product, length) => product * length, 1);
  }

  /** Whether `dispose()` was called; everything else throws `ERR_DISPOSED` then. */
  get disposed(): boolean {
    return this.#native.disposed;
  }

  /**
   * The tensor's own memory, without a copy: CPU and contiguous only. Half-precision numbers show as
   * their 16 bits. The array stays valid after `dispose()`.
   *
   * @throws InvalidArgumentError on other devices: use `toFloat32Array()`.
   */
  get data(): TensorData {
    this.#check();
    if (this.#data === undefined) {
      const buffer = call(() => this.#native.view());
      this.#data = new arrayClasses[this.dtype](buffer, 0, this.size);
    }
    return this.#data;
  }

  /** A copy as 32-bit floats, from any device and dtype. */
  async toFloat32Array(): Promise<Float32Array> {
    this.#check();
    try {
      return new Float32Array(await this.#native.toHost('float32'));
    } catch (error) {
      throw fromNative(error);
    }
  }

  /** The same numbers in another dtype or on another device; a fresh handle in any case. */
  to(options: { dtype?: DType; device?: string }): Tensor {
    this.#check();
    const { dtype = this.dtype, device = this.device } = options;
    if (dtype === this.dtype && device === this.device) return this.alias();
    if (device !== this.device) checkDevice(device);
    return call((core) => {
      const convert = core.operator('aten::to', 'device');
      return new Tensor(convert(this.#native, device, dtype) as NativeTensor);
    });
  }

  /** A second handle on the same memory, to be disposed on its own. */
  alias(): Tensor {
    return call(() => new Tensor(this.#native.alias()));
  }

  /** Lets the memory go. Safe to call twice; anything else throws afterwards. */
  dispose(): void {
    this.#data = undefined;
    this.#native.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #check(): void {
    if (this.#native.disposed) call(() => this.#native.shape);
  }
}

function toTypedArray(data: TensorData | readonly number[], dtype: DType | undefined): TensorData {
  if (!Array.isArray(data)) {
    if (ArrayBuffer.isView(data)) return data as TensorData;
    throw expected('an array of numbers', 'data', data);
  }
  const numbers = data as readonly number[];
  if (dtype === 'int64') return BigInt64Array.from(numbers, (value) => BigInt(value));
  if (dtype === 'float16' || dtype === 'bfloat16') {
    throw expected(
      'a Uint16Array of bits',
      `data of dtype ${dtype}`,
      data,
      'Or convert with to().',
    );
  }
  const Class = arrayClasses[dtype ?? 'float32'] as unknown as {
    from(values: readonly number[]): TensorData;
  };
  return Class.from(numbers);
}

function dtypeOf(array: TensorData): DType {
  const entry = dtypeOfArray.find(([Class]) => array instanceof Class);
  if (entry === undefined) {
    throw expected('a typed array or a dtype', 'data', array, 'Name the dtype of 16-bit data.');
  }
  return entry[1];
}
