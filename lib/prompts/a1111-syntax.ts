// The prompt syntax that AUTOMATIC1111's web interface made common: (more)[less](so much:1.3).
import { PromptSyntaxError } from '../errors.js';
import { checkWeight, type WeightedText } from './weighted-text.js';

const more = 1.1;
const less = 1 / 1.1;
const deepestNesting = 100;

const piece = /\\[()[\]\\]|\\|[([\])]|:\s*[+-]?[.\d]+\s*\)|[^\\()[\]:]+|:/g;

/**
 * Reads a prompt in A1111's syntax: its texts with their weights, in one list for each part between
 * `BREAK`s.
 *
 * @throws PromptSyntaxError `ERR_PROMPT_SYNTAX` for what would need other conditions at other steps
 * (`[from:to:0.5]`, `[a|b]`), further networks (`<lora:name:1>`), or a number that is none
 */
export function parseA1111(prompt: string): WeightedText[][] {
  const reading = new Reading(prompt);
  for (const { 0: text, index } of prompt.matchAll(piece)) reading.take(text, index);
  return reading.finish();
}

class Reading {
  readonly #prompt: string;
  /** Texts in order; null for BREAK. */
  readonly #texts: (WeightedText | null)[] = [];
  // Where the open brackets began. The two kinds need not nest.
  readonly #round: number[] = [];
  readonly #square: number[] = [];

  constructor(prompt: string) {
    this.#prompt = prompt;
  }

  take(text: string, position: number): void {
    if (text.startsWith('\\')) this.#add(text.slice(1));
    else if (text === '(') this.#open(this.#round, position);
    else if (text === '[') this.#open(this.#square, position);
    else if (text.endsWith(')') && this.#round.length > 0) {
      this.#close(this.#round, text === ')' ? more : this.#number(text, position));
    } else if (text === ']' && this.#square.length > 0) {
      if (/:\s*[\d.]+\s*$/.test(this.#prompt.slice(0, position))) {
        throw this.#fault('Prompt editing, [from:to:when],', position);
      }
      this.#close(this.#square, less);
    } else this.#plain(text, position);
  }

  finish(): WeightedText[][] {
    // What is not closed reaches to the end.
    while (this.#round.length > 0) this.#close(this.#round, more);
    while (this.#square.length > 0) this.#close(this.#square, less);
    const parts: WeightedText[][] = [[]];
    for (const text of this.#texts) {
      const part = parts.at(-1) as WeightedText[];
      const last = part.at(-1);
      if (text === null) parts.push([]);
      else if (last?.weight === text.weight) last.text += text.text;
      else part.push({ ...text, weight: checkWeight(text.weight) });
    }
    return parts;
  }

  #plain(text: string, position: number): void {
    if (this.#square.length > 0 && text.includes('|')) {
      throw this.#fault('Alternation, [a|b],', position + text.indexOf('|'));
    }
    const network = text.search(/<(?:lora|lyco|hypernet)$/);
    if (network >= 0 && this.#prompt[position + text.length] === ':') {
      throw this.#fault('A network in the prompt, <lora:name:1>,', position + network);
    }
    for (const [i, part] of text.split(/\s*\bBREAK\b\s*/).entries()) {
      if (i > 0) this.#texts.push(null);
      this.#add(part);
    }
  }

  #add(text: string): void {
    this.#texts.push({ text, weight: 1 });
  }

  #open(brackets: number[], position: number): void {
    if (this.#round.length + this.#square.length === deepestNesting) {
      throw new PromptSyntaxError(
        `Expected brackets at most ${deepestNesting} deep at position ${position} of the prompt. Write \\( for one that is text.`,
        position,
      );
    }
    brackets.push(this.#texts.length);
  }

  #close(brackets: number[], factor: number): void {
    const start = brackets.pop() as number;
    for (let i = start; i < this.#texts.length; i += 1) {
      const text = this.#texts[i];
      if (text) text.weight *= factor;
    }
  }

  /** The number of `:1.3)`. */
  #number(text: string, position: number): number {
    const digits = text.slice(1, -1).trim();
    const number = Number(digits);
    if (Number.isFinite(number)) return number;
    throw new PromptSyntaxError(
      `Expected a weight at position ${position + 1} of the prompt but found ${JSON.stringify(digits)}. Write (a cat:1.3).`,
      position + 1,
    );
  }

  #fault(what: string, position: number): PromptSyntaxError {
    return new PromptSyntaxError(
      `${what} at position ${position} of the prompt is not supported. Put a backslash before a bracket that is text.`,
      position,
    );
  }
}
