// What a prompt in Compel's syntax consists of, as it is written and as it is weighted.
import { checkWeight, type WeightedText } from './weighted-text.js';

export type PromptNode =
  | { kind: 'text'; text: string }
  | { kind: 'group'; weight: number; children: readonly PromptNode[] }
  | { kind: 'swap'; original: PromptNode }
  | { kind: 'lora'; name: string; weight: number };

/** Several prompts mixed, or one; and how much of the result counts. */
export interface Term {
  weight: number;
  blend: readonly { weight: number; prompt: PromptNode }[];
}

/** A prompt read in Compel's syntax. */
export interface CompelPrompt {
  /** One part, or those of `.and()`. The parts of `.blend()` have weights that add up to 1. */
  parts: readonly {
    weight: number;
    blend: readonly { weight: number; fragments: readonly WeightedText[] }[];
  }[];
  /** What `withLora(name, weight)` asks for; nothing is loaded. */
  loraWeights: readonly { name: string; weight: number }[];
}

/** Nested weights multiplied, neighbours of one weight joined. */
export function flatten(terms: readonly Term[], loras: readonly PromptNode[]): CompelPrompt {
  const found = new Flattening();
  for (const lora of loras) found.add(lora, 1);
  const parts: { weight: number; blend: { weight: number; fragments: WeightedText[] }[] }[] = [];
  for (const { weight, blend } of terms) {
    const flat = blend.map((one) => {
      found.add(one.prompt, 1);
      return { weight: one.weight, fragments: found.takeFragments() };
    });
    // As in Compel: a part without words does not count.
    if (flat.some(({ fragments }) => fragments.length > 0)) parts.push({ weight, blend: flat });
  }
  if (parts.length === 0) parts.push({ weight: 1, blend: [{ weight: 1, fragments: [] }] });
  return { parts, loraWeights: found.loraWeights };
}

class Flattening {
  readonly loraWeights: { name: string; weight: number }[] = [];
  #fragments: WeightedText[] = [];
  /** Whether the next words may join the last ones. */
  #open = false;

  add(node: PromptNode, weight: number): void {
    if (node.kind === 'text') {
      this.#addText(node.text, weight);
    } else if (node.kind === 'group') {
      for (const child of node.children) this.add(child, weight * node.weight);
    } else if (node.kind === 'lora') {
      this.loraWeights.push({ name: node.name, weight: node.weight });
    } else {
      // Words that could be swapped are tokens of their own.
      this.#open = false;
      this.add(node.original, weight);
      this.#open = false;
    }
  }

  takeFragments(): WeightedText[] {
    const fragments = this.#fragments;
    this.#fragments = [];
    this.#open = false;
    return fragments;
  }

  #addText(escaped: string, weight: number): void {
    const text = escaped.replace(/\\+([()"])/g, '$1');
    const last = this.#fragments.at(-1);
    if (this.#open && last?.weight === weight) last.text += ` ${text}`;
    else this.#fragments.push({ text, weight: checkWeight(weight) });
    this.#open = true;
  }
}
