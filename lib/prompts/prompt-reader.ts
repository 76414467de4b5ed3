// A prompt in Compel's syntax, read from left to right.
import { PromptSyntaxError } from '../errors.js';

/** What Compel takes for space. Other kinds belong to words; the tokenizer takes them out. */
const space = ' \t\n\r\v\f';
const number = /[+-]?(?:\d+\.\d*|\.\d+)|-?\d+/y;

export class PromptReader {
  position = 0;
  readonly #prompt: string;
  #text: string;

  constructor(prompt: string) {
    this.#prompt = prompt;
    // As Compel does: a comma ends a word.
    this.#text = prompt.replace(/,(\S)/g, ', $1');
  }

  get atEnd(): boolean {
    return this.position >= this.#text.length;
  }

  skipSpace(): void {
    while (!this.atEnd && space.includes(this.#text[this.position] as string)) this.position += 1;
  }

  startsWith(text: string): boolean {
    return this.#text.startsWith(text, this.position);
  }

  /** Reads `text` if it comes next. */
  accept(text: string): boolean {
    if (!this.startsWith(text)) return false;
    this.position += text.length;
    return true;
  }

  /** Reads what matches a sticky expression. */
  take(expression: RegExp): string | undefined {
    expression.lastIndex = this.position;
    const found = expression.exec(this.#text)?.[0];
    this.position += found?.length ?? 0;
    return found;
  }

  /** Reads one of the names and the parenthesis behind it, with any space around. */
  call(names: readonly string[]): string | undefined {
    const start = this.position;
    this.skipSpace();
    const name = names.find((one) => this.accept(one));
    this.skipSpace();
    if (name !== undefined && this.accept('(')) return name;
    this.position = start;
    return undefined;
  }

  /** Reads `1.3`, `.5` or `-2`. */
  number(): number | undefined {
    const start = this.position;
    const digits = this.take(number);
    if (digits === undefined) return undefined;
    if (Number.isFinite(Math.fround(Number(digits)))) return Number(digits);
    throw this.fault('a smaller number', '', start);
  }

  /** Runs `read` as if the prompt ended at `end`. */
  within<Result>(end: number, read: () => Result): Result {
    const whole = this.#text;
    this.#text = whole.slice(0, end);
    try {
      return read();
    } finally {
      this.#text = whole;
    }
  }

  /** Where the quotation that begins here ends; undefined where none begins, or none ends. */
  closingQuote(): number | undefined {
    if (!this.startsWith('"')) return undefined;
    let escaped: number | undefined;
    for (let at = this.position + 1; at < this.#text.length; at += 1) {
      const character = this.#text[at];
      if (character === '\n' || character === '\r') return escaped;
      if (character !== '"') continue;
      if (this.#text[at - 1] !== '\\') return at;
      // Ends the quotation after all where nothing else does.
      escaped = at;
    }
    return escaped;
  }

  /** Moves behind the parenthesis that closes the one here; false where none does. */
  skipGroup(): boolean {
    const start = this.position;
    if (!this.startsWith('(')) return false;
    let depth = 0;
    while (!this.atEnd) {
      const character = this.#text[this.position];
      if (character === '"') this.position = this.closingQuote() ?? this.position;
      // Whatever is behind a backslash opens and closes nothing.
      if (character === '\\') this.position += 1;
      if (character === '(') depth += 1;
      if (character === ')') depth -= 1;
      this.position += 1;
      if (depth === 0) return true;
    }
    this.position = start;
    return false;
  }

  fault(what: string, hint: string, at = this.position): PromptSyntaxError {
    const position = this.#originalPosition(at);
    const rest = this.#prompt.slice(position, position + 20);
    const found = rest === '' ? 'its end' : JSON.stringify(rest);
    return new PromptSyntaxError(
      `Expected ${what} at position ${position} of the prompt but found ${found}. ${hint}`.trimEnd(),
      position,
    );
  }

  #originalPosition(at: number): number {
    let inserted = 0;
    for (const { index } of this.#prompt.matchAll(/,\S/g)) {
      if (index + 1 + inserted >= at) break;
      inserted += 1;
    }
    return at - inserted;
  }
}
