// The prompt syntax of Compel 2.0. What is no syntax is text, as there: a lone parenthesis or a sign
// between two words changes nothing. An operator that cannot be meant as written is an error here,
// where Compel would take it for text or drop what follows.

import { PartParser } from './compel-parts.js';
import { type CompelPrompt, flatten, type PromptNode, type Term } from './compel-tree.js';
import { PromptReader } from './prompt-reader.js';

const wholeOperators = ['.and', '.add', '.blend'];

/**
 * Reads a prompt in Compel's syntax. `docs/prompt-weighting.md` describes it.
 *
 * @throws PromptSyntaxError `ERR_PROMPT_SYNTAX`, with the position of the fault
 */
export function parseCompel(prompt: string): CompelPrompt {
  return new CompelParser(prompt).parse();
}

class CompelParser {
  readonly #reader: PromptReader;
  readonly #parts: PartParser;

  constructor(prompt: string) {
    this.#reader = new PromptReader(prompt);
    this.#parts = new PartParser(this.#reader);
  }

  parse(): CompelPrompt {
    const reader = this.#reader;
    const loras: PromptNode[] = [];
    this.#readLoras(loras);
    const operator = this.#wholeOperator();
    const terms = operator === undefined ? [plain(this.#freeText())] : this.#combined(operator);
    this.#readLoras(loras);
    if (!reader.atEnd) {
      throw reader.fault('the end', 'Nothing but withLora() can stand beside .and() and .blend().');
    }
    return flatten(terms, loras);
  }

  #readLoras(loras: PromptNode[]): void {
    for (;;) {
      this.#reader.skipSpace();
      const lora = this.#parts.lora();
      if (lora === undefined) return;
      loras.push(lora);
    }
  }

  /** The operator behind a list in parentheses that begins the prompt. */
  #wholeOperator(): string | undefined {
    const reader = this.#reader;
    const start = reader.position;
    const operator = reader.skipGroup() ? reader.call(wholeOperators) : undefined;
    reader.position = start;
    return operator;
  }

  /** `("a cat", "a dog").blend(0.7, 0.3)` */
  #combined(operator: string): Term[] {
    const reader = this.#reader;
    this.#parts.inBlend = operator === '.blend';
    const prompts = this.#promptList();
    const start = reader.position;
    reader.call(wholeOperators);
    const { weights, normalize } = this.#weights(operator);
    if (weights.length > 0 && weights.length !== prompts.length) {
      const hint = `There are ${weights.length}.`;
      throw reader.fault(`${prompts.length} weights, one for each prompt,`, hint, start);
    }
    const weighted = prompts.map((prompt, i) => ({ prompt, weight: weights[i] ?? 1 }));
    if (operator !== '.blend') {
      return weighted.map(({ prompt, weight }) => ({ weight, blend: [{ prompt, weight: 1 }] }));
    }
    const total = normalize ? weighted.reduce((sum, { weight }) => sum + weight, 0) : 1;
    if (total === 0) {
      throw reader.fault(
        'weights that do not add up to 0',
        'Or end them with no_normalize.',
        start,
      );
    }
    const blend = weighted.map(({ prompt, weight }) => ({ prompt, weight: weight / total }));
    return [{ weight: 1, blend }];
  }

  #promptList(): PromptNode[] {
    const reader = this.#reader;
    const prompts: PromptNode[] = [];
    reader.accept('(');
    do {
      reader.skipSpace();
      const prompt = this.#parts.group() ?? this.#quotedFreeText() ?? this.#parts.word();
      reader.skipSpace();
      if (prompt === undefined || !(reader.startsWith(',') || reader.startsWith(')'))) {
        throw reader.fault(
          'prompts in quotation marks with commas between them',
          'Weights belong inside: ("a (cat)1.2", "a dog").and().',
        );
      }
      prompts.push(prompt);
    } while (reader.accept(','));
    reader.accept(')');
    return prompts;
  }

  /** The arguments of `.and()` and `.blend()`, with the closing parenthesis. */
  #weights(operator: string): { weights: number[]; normalize: boolean } {
    const reader = this.#reader;
    const weights: number[] = [];
    let normalize = true;
    reader.skipSpace();
    if (reader.accept(')')) return { weights, normalize };
    for (;;) {
      reader.skipSpace();
      if (operator === '.blend' && reader.accept('no_normalize')) normalize = false;
      else weights.push(reader.number() ?? this.#parts.refuse('a number', operator));
      reader.skipSpace();
      if (reader.accept(')')) return { weights, normalize };
      if (!normalize || !reader.accept(',')) this.#parts.refuse("')'", operator);
    }
  }

  /** A prompt up to the reader's end, in which what is no syntax is text. */
  #freeText(): PromptNode {
    const children: PromptNode[] = [];
    for (;;) {
      this.#reader.skipSpace();
      if (this.#reader.atEnd) return { kind: 'group', weight: 1, children };
      children.push(this.#parts.part({ bareWords: false }) ?? this.#freeWord());
    }
  }

  #freeWord(): PromptNode {
    return { kind: 'text', text: this.#reader.take(/[^ \t\n\r\v\f]+/y) ?? '' };
  }

  /** A quoted prompt of `.blend()` and `.and()` may hold what is text only. */
  #quotedFreeText(): PromptNode | undefined {
    const reader = this.#reader;
    const close = reader.closingQuote();
    if (close === undefined) return undefined;
    reader.position += 1;
    const text = reader.within(close, () => this.#freeText());
    reader.position = close + 1;
    return text;
  }
}

function plain(prompt: PromptNode): Term {
  return { weight: 1, blend: [{ prompt, weight: 1 }] };
}
