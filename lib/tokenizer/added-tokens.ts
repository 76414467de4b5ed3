import { isSpace, normalize } from './unicode.js';

/** A token that is looked for in the text before it is cut into words. */
export interface AddedToken {
  content: string;
  /** Match only where no word character touches the token. */
  singleWord?: boolean;
  /** White space before the token belongs to it. */
  lstrip?: boolean;
  /** White space after the token belongs to it. */
  rstrip?: boolean;
  /** Look for it in the normalised (lowercase) text; unless given: yes, except special tokens. */
  normalized?: boolean;
  /** Left out by `decode` with `skipSpecialTokens`. */
  special?: boolean;
}

/** A stretch of text, or the id of the token that stood there. */
export type Piece = string | number;

interface Pattern {
  text: string;
  id: number;
  token: Required<AddedToken>;
}

/**
 * Added and special tokens on top of a vocabulary, with the rules of the `tokenizers` library:
 * tokens that are not normalised are cut out of the text as it was typed, then the rest is
 * normalised and the other tokens are cut out of it; at one place the longest token wins.
 */
export class AddedTokens {
  readonly #vocab: ReadonlyMap<string, number>;
  readonly #ids = new Map<string, number>();
  readonly #tokens = new Map<number, Required<AddedToken>>();
  /** What `decode` writes for tokens that were normalised. */
  readonly #decoded = new Map<number, string>();
  readonly #special = new Set<string>();
  #asTyped = new Map<string, Pattern[]>();
  #afterNormalizing = new Map<string, Pattern[]>();

  constructor(vocab: ReadonlyMap<string, number>) {
    this.#vocab = vocab;
  }

  /** Adds tokens; one that exists takes the new flags. Returns how many were new or changed. */
  add(tokens: readonly AddedToken[]): number {
    let changed = 0;
    for (const given of tokens) {
      const token = complete(given);
      if (token.content === '') continue;
      const known = this.idOf(token.content);
      const id = known ?? this.#nextId();
      if (!sameFlags(this.#tokens.get(id), token)) changed++;
      if (token.special) this.#special.add(token.content);
      this.#ids.set(token.content, id);
      this.#tokens.set(id, token);
      if (token.normalized) {
        const form = normalize(token.content);
        if (form !== token.content) this.#decoded.set(id, form);
      }
    }
    this.#asTyped = this.#patterns(false);
    this.#afterNormalizing = this.#patterns(true);
    return changed;
  }

  /** Takes added tokens back; their ids are free again. Others are left alone. */
  remove(contents: readonly string[]): void {
    for (const content of contents) {
      const id = this.#ids.get(content);
      if (id === undefined) continue;
      this.#ids.delete(content);
      this.#tokens.delete(id);
      this.#decoded.delete(id);
      this.#special.delete(content);
    }
    this.#asTyped = this.#patterns(false);
    this.#afterNormalizing = this.#patterns(true);
  }

  /** Number of tokens that the vocabulary does not have. */
  get newTokens(): number {
    return [...this.#ids.keys()].filter((content) => !this.#vocab.has(content)).length;
  }

  idOf(content: string): number | undefined {
    return this.#ids.get(content) ?? this.#vocab.get(content);
  }

  /** The token that `decode` writes for an id, if it is an added one. */
  textOf(id: number): string | undefined {
    return this.#decoded.get(id) ?? this.#tokens.get(id)?.content;
  }

  isSpecial(content: string): boolean {
    return this.#special.has(content);
  }

  /** Cuts a text into normalised stretches and token ids. */
  split(text: string, options: { splitSpecialTokens: boolean }): Piece[] {
    const skip = (token: AddedToken) => options.splitSpecialTokens && this.isSpecial(token.content);
    return cut(text, this.#asTyped, skip).flatMap((piece) =>
      typeof piece === 'number' ? [piece] : cut(normalize(piece), this.#afterNormalizing, skip),
    );
  }

  #nextId(): number {
    let next = this.#vocab.size;
    for (const id of this.#ids.values()) next = Math.max(next, id + 1);
    return next;
  }

  /** Patterns by their first code unit, the longest first. */
  #patterns(normalized: boolean): Map<string, Pattern[]> {
    const byFirst = new Map<string, Pattern[]>();
    for (const [id, token] of this.#tokens) {
      if (token.normalized !== normalized) continue;
      const text = normalized ? normalize(token.content) : token.content;
      const first = text.charAt(0);
      const list = byFirst.get(first) ?? [];
      list.push({ text, id, token });
      byFirst.set(first, list);
    }
    // Two tokens may normalise to the same text. The library then picks one by chance: here the
    // lower id.
    for (const list of byFirst.values()) {
      list.sort((a, b) => b.text.length - a.text.length || a.id - b.id);
    }
    return byFirst;
  }
}

/** Leftmost, longest matches, left to right; the search goes on where the token's own text ends. */
function cut(
  text: string,
  patterns: ReadonlyMap<string, Pattern[]>,
  skip: (token: AddedToken) => boolean,
): Piece[] {
  if (patterns.size === 0) return text === '' ? [] : [text];
  const pieces: Piece[] = [];
  let done = 0;
  let i = 0;
  while (i < text.length) {
    const candidates = patterns.get(text.charAt(i));
    const match = candidates?.find((pattern) => text.startsWith(pattern.text, i));
    if (match === undefined) {
      i++;
      continue;
    }
    const matchEnd = i + match.text.length;
    const { token } = match;
    if (!skip(token) && (!token.singleWord || standsAlone(text, i, matchEnd))) {
      const start = token.lstrip ? Math.max(done, startOfSpace(text, i)) : i;
      const end = token.rstrip ? endOfSpace(text, matchEnd) : matchEnd;
      if (start > done) pieces.push(text.slice(done, start));
      // Empty where an earlier token has taken all of this one's text as its white space.
      if (end > start) pieces.push(match.id);
      done = end;
    }
    i = matchEnd;
  }
  if (done < text.length) pieces.push(text.slice(done));
  return pieces;
}

const wordCharacter = '[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}]';
const endsWithWord = new RegExp(`${wordCharacter}$`, 'u');
const startsWithWord = new RegExp(`^${wordCharacter}`, 'u');

function standsAlone(text: string, start: number, end: number): boolean {
  // Two code units hold any code point: no need to look at the whole text.
  const before = text.slice(Math.max(0, start - 2), start);
  const after = text.slice(end, end + 2);
  return !endsWithWord.test(before) && !startsWithWord.test(after);
}

function startOfSpace(text: string, end: number): number {
  let start = end;
  while (start > 0 && isSpace(text.charCodeAt(start - 1))) start--;
  return start;
}

function endOfSpace(text: string, start: number): number {
  let end = start;
  while (end < text.length && isSpace(text.charCodeAt(end))) end++;
  return end;
}

function complete(token: AddedToken): Required<AddedToken> {
  const { content, singleWord = false, lstrip = false, rstrip = false, special = false } = token;
  return { content, singleWord, lstrip, rstrip, special, normalized: token.normalized ?? !special };
}

function sameFlags(a: Required<AddedToken> | undefined, b: Required<AddedToken>): boolean {
  return (
    a !== undefined &&
    a.singleWord === b.singleWord &&
    a.lstrip === b.lstrip &&
    a.rstrip === b.rstrip &&
    a.normalized === b.normalized &&
    a.special === b.special
  );
}
