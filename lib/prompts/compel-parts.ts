// Words and groups of a prompt in Compel's syntax, and what can be done to one of them.
import type { PromptNode } from './compel-tree.js';
import type { PromptReader } from './prompt-reader.js';

const plusBase = 1.1;
const minusBase = 0.9;
const deepestNesting = 100;

// A stretch of ordinary characters, an escape, or a sign with more of the word behind it.
const pieceOfWord = /[^ \t\n\r\v\f()",.+\-=\\]+|\\[()",.+\-=]?|[+-](?![ \t\n\r()",.+\-=]|$)/y;

const usage: Readonly<Record<string, string>> = {
  '.and': 'It takes a whole prompt: ("a cat", "a dog").and(1, 0.5).',
  '.add': 'It takes a whole prompt: ("a cat", "a dog").add(1, 0.5).',
  '.blend': 'It takes a whole prompt: ("a cat", "a dog").blend(0.7, 0.3).',
  '.attend': 'It takes one weight: (a cat).attend(1.2) or (a cat).attend(++).',
  '.swap': 'It takes the words to put instead: (a cat).swap(a dog).',
};

/** @throws PromptSyntaxError where an operator is used wrongly */
export class PartParser {
  /** Set while the prompts of a `.blend()` are read. */
  inBlend = false;
  readonly #reader: PromptReader;
  #depth = 0;

  constructor(reader: PromptReader) {
    this.#reader = reader;
  }

  /** Words, groups and operators; punctuation only where `punctuation` says so. */
  #parts({ punctuation }: { punctuation: boolean }): PromptNode[] {
    const nodes: PromptNode[] = [];
    for (;;) {
      this.#reader.skipSpace();
      const node = this.part({ bareWords: true }) ?? (punctuation ? this.#mark() : undefined);
      if (node === undefined) return nodes;
      nodes.push(node);
    }
  }

  #mark(): PromptNode | undefined {
    const text = this.#reader.take(/[,.]/y);
    return text === undefined ? undefined : { kind: 'text', text };
  }

  /** A group or a word with what is done to it; undefined, and nothing read, where none stands. */
  part({ bareWords }: { bareWords: boolean }): PromptNode | undefined {
    const reader = this.#reader;
    const start = reader.position;
    const lora = this.lora();
    if (lora !== undefined) return lora;
    const group = this.group();
    const target = group ?? this.word();
    if (target === undefined) return undefined;
    const weight = this.#weightBehind(group !== undefined) ?? this.#attend();
    if (weight !== undefined) return { kind: 'group', weight, children: [target] };
    if (this.#swap()) return { kind: 'swap', original: target };
    if (group !== undefined) this.#refuseOperator();
    if (group !== undefined || bareWords) return target;
    reader.position = start;
    return undefined;
  }

  /** `(…)` or `"…"` */
  group(): PromptNode | undefined {
    return this.#parenthesized() ?? this.#quoted();
  }

  #parenthesized(): PromptNode | undefined {
    const reader = this.#reader;
    const start = reader.position;
    if (!reader.accept('(')) return undefined;
    const children = this.#nested(start, () => this.#parts({ punctuation: true }));
    if (reader.accept(')')) return { kind: 'group', weight: 1, children };
    reader.position = start;
    return undefined;
  }

  #quoted(): PromptNode | undefined {
    const reader = this.#reader;
    const start = reader.position;
    const close = reader.closingQuote();
    if (close === undefined) return undefined;
    reader.position += 1;
    const children = reader.within(close, () => {
      const parts = this.#parts({ punctuation: true });
      return reader.atEnd ? parts : undefined;
    });
    reader.position = children === undefined ? start : close + 1;
    if (children === undefined) return undefined;
    // Unlike empty parentheses, empty quotation marks are a text.
    if (children.length === 0) children.push({ kind: 'text', text: '' });
    return { kind: 'group', weight: 1, children };
  }

  /** A word without syntax; a sign belongs to it where more of the word follows. */
  word(): PromptNode | undefined {
    let text = '';
    for (let piece = this.#piece(); piece !== undefined; piece = this.#piece()) text += piece;
    return text === '' ? undefined : { kind: 'text', text };
  }

  #piece(): string | undefined {
    return this.#reader.take(pieceOfWord);
  }

  /** `++`, `-` or, behind a group, `1.3`; nothing may stand between. */
  #weightBehind(isGroup: boolean): number | undefined {
    return this.#signs() ?? (isGroup ? this.#reader.number() : undefined);
  }

  #signs(): number | undefined {
    const signs = this.#reader.take(/\++|-+/y);
    if (signs === undefined) return undefined;
    return (signs.startsWith('+') ? plusBase : minusBase) ** signs.length;
  }

  /** `.attend(1.2)` */
  #attend(): number | undefined {
    const reader = this.#reader;
    if (reader.call(['.attend']) === undefined) return undefined;
    reader.skipSpace();
    const weight = this.#signs() ?? reader.number() ?? this.refuse('a weight', '.attend');
    reader.skipSpace();
    if (!reader.accept(')')) this.refuse("')'", '.attend');
    return weight;
  }

  /** `.swap(a dog, s_end=0.3)`: what it puts instead takes control over cross-attention. */
  #swap(): boolean {
    const reader = this.#reader;
    const start = reader.position;
    if (reader.call(['.swap']) === undefined) return false;
    if (this.inBlend) throw reader.fault('no .swap() in a .blend()', '', start);
    this.#nested(start, () => this.#parts({ punctuation: false }));
    while (reader.accept(',')) this.#swapOption();
    if (!reader.accept(')')) this.refuse("')'", '.swap');
    return true;
  }

  #swapOption(): void {
    const reader = this.#reader;
    const value = () => {
      reader.skipSpace();
      if (reader.number() === undefined) reader.take(/[\w-]+/y);
      reader.skipSpace();
    };
    value();
    if (reader.accept('=')) value();
  }

  /** `withLora(name, 0.8)` */
  lora(): PromptNode | undefined {
    const reader = this.#reader;
    if (reader.call(['withLora', 'useLora']) === undefined) return undefined;
    const hint = 'Write withLora(name) or withLora(name, 0.8).';
    reader.skipSpace();
    const name = reader.take(/[\w-]+/y);
    if (name === undefined) throw reader.fault('the name of a LoRA', hint);
    reader.skipSpace();
    let weight = 1;
    if (reader.accept(',')) {
      reader.skipSpace();
      const given = reader.number();
      if (given === undefined) throw reader.fault('a number', hint);
      weight = given;
      reader.skipSpace();
    }
    if (!reader.accept(')')) throw reader.fault("')'", hint);
    return { kind: 'lora', name, weight };
  }

  /** A group with `.name(` behind it, where `name` is no operator or cannot stand here. */
  #refuseOperator(): void {
    const start = this.#reader.position;
    const name = this.#reader.take(/\.[a-z]\w*(?=\()/iy);
    if (name === undefined) return;
    const hint = usage[name] ?? `Known are ${Object.keys(usage).join(', ')}.`;
    throw this.#reader.fault(`no operator ${name}()`, hint, start);
  }

  /** Keeps hostile prompts from exhausting the stack. */
  #nested<Result>(start: number, read: () => Result): Result {
    if (this.#depth === deepestNesting) {
      throw this.#reader.fault(
        `parentheses at most ${deepestNesting} deep`,
        'Write \\( for one that is text.',
        start,
      );
    }
    this.#depth += 1;
    try {
      return read();
    } finally {
      this.#depth -= 1;
    }
  }

  /** Says how an operator is used. @throws PromptSyntaxError */
  refuse(what: string, operator: string): never {
    throw this.#reader.fault(what, usage[operator] as string);
  }
}
