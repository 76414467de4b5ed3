// Interprets pickles without executing anything: a stack machine that builds numbers, texts, lists
// and dictionaries, and asks its caller for everything else. It knows the operations that pickle
// protocols 2 to 4 use for those; a pickle with any other one is refused.
import { CheckpointError } from '../errors.js';

/** What a pickle may call; functions that keep their arguments copy them. */
export type PickleFunction = (values: readonly unknown[]) => unknown;

export interface PickleHandlers {
  /** What a name of a Python module stands for; a PickleFunction may be called. Throws to refuse. */
  findGlobal(module: string, name: string): unknown;
  /** What an object kept outside the pickle is. Throws to refuse. */
  loadPersistent(id: unknown): unknown;
}

/** More than training checkpoints with optimizer states have; each operation makes one object at most. */
const mostOperations = 1_000_000;
const longestName = 256;

/** What is left when a pickle has run. Tuples and lists are arrays, dictionaries are maps. */
export function readPickle(path: string, bytes: Buffer, handlers: PickleHandlers): unknown {
  const machine = new Machine(path, bytes, handlers);
  for (let count = 0; count < mostOperations; count += 1) {
    const code = machine.byte();
    if (code === stop) return machine.pop();
    const operation = operations[code];
    if (operation === undefined) {
      throw machine.broken(`the operation 0x${code.toString(16)} is none that torch.save uses`);
    }
    operation(machine);
  }
  throw machine.broken(`it has more than ${mostOperations} operations`);
}

class Machine {
  readonly #path: string;
  readonly #bytes: Buffer;
  readonly #handlers: PickleHandlers;
  readonly #memo = new Map<number, unknown>();
  /** The stacks below each mark. */
  readonly #below: unknown[][] = [];
  #stack: unknown[] = [];
  #at = 0;

  constructor(path: string, bytes: Buffer, handlers: PickleHandlers) {
    this.#path = path;
    this.#bytes = bytes;
    this.#handlers = handlers;
  }

  // Reading
  take(length: number): Buffer {
    const start = this.#advance(length);
    return this.#bytes.subarray(start, this.#at);
  }

  byte(): number {
    return this.#bytes[this.#advance(1)] as number;
  }

  short(): number {
    return this.#bytes.readUInt16LE(this.#advance(2));
  }

  unsigned(): number {
    return this.#bytes.readUInt32LE(this.#advance(4));
  }

  signed(): number {
    return this.#bytes.readInt32LE(this.#advance(4));
  }

  /** Two's complement of any length; a bigint where a number would be rounded. */
  long(bytes: number): number | bigint {
    const digits = Buffer.from(this.take(bytes)).reverse().toString('hex');
    const value = BigInt.asIntN(8 * bytes, BigInt(`0x0${digits}`));
    const number = Number(value);
    return Number.isSafeInteger(number) ? number : value;
  }

  text(bytes: number): string {
    const start = this.#advance(bytes);
    return this.#bytes.toString('utf8', start, this.#at);
  }

  /** Where the next bytes start, which count as read. */
  #advance(length: number): number {
    if (length > this.#bytes.length - this.#at) throw this.broken('it is cut off');
    this.#at += length;
    return this.#at - length;
  }

  line(): string {
    const end = this.#bytes.indexOf(0x0a, this.#at);
    if (end < 0 || end - this.#at > longestName) throw this.broken('a name has no end');
    const line = this.text(end - this.#at);
    this.#at += 1;
    return line;
  }

  checkProtocol(): void {
    const version = this.byte();
    if (version < 2 || version > 4) throw this.broken(`protocol ${version} is unknown`);
  }

  // The stack and the memo
  push(value: unknown): void {
    this.#stack.push(value);
  }

  top(): unknown {
    const { length } = this.#stack;
    if (length === 0) throw this.broken('a value is missing');
    return this.#stack[length - 1];
  }

  pop(): unknown {
    const value = this.top();
    this.#stack.pop();
    return value;
  }

  /** The topmost values, in the order they were pushed. */
  popMany(count: number): unknown[] {
    const start = this.#stack.length - count;
    if (start < 0) throw this.broken('a value is missing');
    const values = this.#stack.slice(start);
    this.#stack.length = start;
    return values;
  }

  mark(): void {
    this.#below.push(this.#stack);
    this.#stack = [];
  }

  /** All values since the last mark. */
  popMark(): unknown[] {
    const below = this.#below.pop();
    if (below === undefined) throw this.broken('a mark is missing');
    const items = this.#stack;
    this.#stack = below;
    return items;
  }

  /** The topmost value, or the mark where nothing was pushed since. */
  discard(): void {
    if (this.#stack.length > 0) this.#stack.pop();
    else this.popMark();
  }

  keep(index = this.#memo.size): void {
    this.#memo.set(index, this.top());
  }

  recall(index: number): void {
    const value = this.#memo.get(index);
    if (value === undefined) throw this.broken(`it recalls ${index}, which it never kept`);
    this.push(value);
  }

  // Collections
  append(items: readonly unknown[]): void {
    const list = this.top();
    if (!Array.isArray(list)) throw this.broken('it appends to something that is no list');
    for (const item of items) list.push(item);
  }

  setItems(items: readonly unknown[]): void {
    const map = this.top();
    if (!(map instanceof Map) || items.length % 2 !== 0) {
      throw this.broken('it sets items of something that is no dictionary');
    }
    for (let i = 0; i < items.length; i += 2) map.set(items[i], items[i + 1]);
  }

  // What is asked of the caller
  global(module: unknown, name: unknown): void {
    if (typeof module !== 'string' || typeof name !== 'string') {
      throw this.broken('a name is no text');
    }
    this.push(this.#handlers.findGlobal(module, name));
  }

  persistent(): void {
    this.push(this.#handlers.loadPersistent(this.pop()));
  }

  reduce(): void {
    const [callee, values] = this.popMany(2);
    // Functions come from findGlobal alone.
    if (typeof callee !== 'function' || !Array.isArray(values)) {
      throw this.broken('something is called that is no function');
    }
    this.push((callee as PickleFunction)(values));
  }

  /** Attributes of a dictionary (`_metadata`) say nothing about tensors: they are dropped. */
  build(): void {
    const state = this.pop();
    if (!(state instanceof Map) || !(this.top() instanceof Map)) {
      throw this.broken('it sets the state of something that is no dictionary');
    }
  }

  broken(reason: string): CheckpointError {
    return new CheckpointError(
      `The pickle in ${this.#path} is damaged, or torch.save did not write it: ${reason} (byte ${this.#at}).`,
    );
  }
}

type Operation = (machine: Machine) => void;

const stop = 0x2e;

/** By code; most of the 256 are none. */
const operations = byCode([
  [0x80, (machine) => machine.checkProtocol()], // PROTO
  [0x95, (machine) => void machine.take(8)], // FRAME
  [0x4e, (machine) => machine.push(null)], // NONE
  [0x88, (machine) => machine.push(true)], // NEWTRUE
  [0x89, (machine) => machine.push(false)], // NEWFALSE
  [0x4b, (machine) => machine.push(machine.byte())], // BININT1
  [0x4d, (machine) => machine.push(machine.short())], // BININT2
  [0x4a, (machine) => machine.push(machine.signed())], // BININT
  [0x8a, (machine) => machine.push(machine.long(machine.byte()))], // LONG1
  [0x47, (machine) => machine.push(machine.take(8).readDoubleBE())], // BINFLOAT
  [0x8c, (machine) => machine.push(machine.text(machine.byte()))], // SHORT_BINUNICODE
  [0x58, (machine) => machine.push(machine.text(machine.unsigned()))], // BINUNICODE
  [0x43, (machine) => machine.push(machine.take(machine.byte()))], // SHORT_BINBYTES
  [0x42, (machine) => machine.push(machine.take(machine.unsigned()))], // BINBYTES
  [0x28, (machine) => machine.mark()], // MARK
  [0x30, (machine) => machine.discard()], // POP
  [0x31, (machine) => void machine.popMark()], // POP_MARK
  [0x32, (machine) => machine.push(machine.top())], // DUP
  [0x71, (machine) => machine.keep(machine.byte())], // BINPUT
  [0x72, (machine) => machine.keep(machine.unsigned())], // LONG_BINPUT
  [0x94, (machine) => machine.keep()], // MEMOIZE
  [0x68, (machine) => machine.recall(machine.byte())], // BINGET
  [0x6a, (machine) => machine.recall(machine.unsigned())], // LONG_BINGET
  [0x29, (machine) => machine.push([])], // EMPTY_TUPLE
  [0x85, (machine) => machine.push(machine.popMany(1))], // TUPLE1
  [0x86, (machine) => machine.push(machine.popMany(2))], // TUPLE2
  [0x87, (machine) => machine.push(machine.popMany(3))], // TUPLE3
  [0x74, (machine) => machine.push(machine.popMark())], // TUPLE
  [0x5d, (machine) => machine.push([])], // EMPTY_LIST
  [0x61, (machine) => machine.append(machine.popMany(1))], // APPEND
  [0x65, (machine) => machine.append(machine.popMark())], // APPENDS
  [0x7d, (machine) => machine.push(new Map())], // EMPTY_DICT
  [0x73, (machine) => machine.setItems(machine.popMany(2))], // SETITEM
  [0x75, (machine) => machine.setItems(machine.popMark())], // SETITEMS
  [0x63, (machine) => machine.global(machine.line(), machine.line())], // GLOBAL
  [0x93, (machine) => machine.global(...(machine.popMany(2) as [unknown, unknown]))], // STACK_GLOBAL
  [0x51, (machine) => machine.persistent()], // BINPERSID
  [0x52, (machine) => machine.reduce()], // REDUCE
  [0x62, (machine) => machine.build()], // BUILD
]);

function byCode(entries: readonly [number, Operation][]): readonly (Operation | undefined)[] {
  const table: (Operation | undefined)[] = Array(256).fill(undefined);
  for (const [code, operation] of entries) table[code] = operation;
  return table;
}
