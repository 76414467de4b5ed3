import { followers, letters, lowercaseRuns, numbers, spaces, starters } from './unicode-tables.js';

/**
 * Unicode as the `tokenizers` library sees it.
 *
 * JavaScript's own `\p{L}`, `toLowerCase` and `normalize` follow the Unicode version of the running
 * Node; the same prompt must give the same tokens everywhere, so the properties come from tables
 * (see generate_unicode_tables.py).
 */

/** A set of code points kept as sorted boundaries: members lie between an even and an odd one. */
class CodePointSet {
  readonly #encoded: string;
  #decoded: Uint32Array | undefined;

  constructor(encoded: string) {
    this.#encoded = encoded;
  }

  /** Decoded at the first use: importing the package shall cost nothing. */
  get #boundaries(): Uint32Array {
    if (this.#decoded !== undefined) return this.#decoded;
    const values = this.#encoded.split(' ');
    const boundaries = new Uint32Array(values.length);
    let position = 0;
    for (const [i, value] of values.entries()) {
      position += Number.parseInt(value, 36);
      boundaries[i] = position;
    }
    this.#decoded = boundaries;
    return boundaries;
  }

  has(codePoint: number): boolean {
    const boundaries = this.#boundaries;
    let low = 0;
    let high = boundaries.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((boundaries[middle] as number) <= codePoint) low = middle + 1;
      else high = middle;
    }
    return (low & 1) === 1;
  }
}

const letterSet = new CodePointSet(letters);
const numberSet = new CodePointSet(numbers);
const spaceSet = new CodePointSet(spaces);
const starterSet = new CodePointSet(starters);
const followerSet = new CodePointSet(followers);

/** What the tokenizer's regular expression calls a code point. */
export type CharacterClass = 'letter' | 'number' | 'space' | 'other';

let asciiClasses: readonly CharacterClass[] | undefined;

/** The class of a code point. */
export function characterClass(codePoint: number): CharacterClass {
  if (codePoint >= 128) return classOf(codePoint);
  asciiClasses ??= Array.from({ length: 128 }, (_, ascii) => classOf(ascii));
  return asciiClasses[codePoint] as CharacterClass;
}

function classOf(codePoint: number): CharacterClass {
  if (letterSet.has(codePoint)) return 'letter';
  if (numberSet.has(codePoint)) return 'number';
  return spaceSet.has(codePoint) ? 'space' : 'other';
}

/** Whether `\s` matches the code point. */
export function isSpace(codePoint: number): boolean {
  return characterClass(codePoint) === 'space';
}

let lowercase: Map<number, string> | undefined;

function decodeLowercase(): Map<number, string> {
  const table = new Map<number, string>([[0x130, 'i\u0307']]);
  const values = lowercaseRuns.split(' ').map((value) => Number.parseInt(value, 36));
  let codePoint = 0;
  for (let i = 0; i < values.length; i += 4) {
    const [gap, count, step, distance] = values.slice(i, i + 4) as [number, number, number, number];
    codePoint += gap;
    for (let n = 0; n < count; n++) {
      table.set(codePoint + n * step, String.fromCodePoint(codePoint + n * step + distance));
    }
    codePoint += (count - 1) * step;
  }
  return table;
}

/** Unpaired surrogates cannot be written as UTF-8; like everywhere in Node they become U+FFFD. */
export function toWellFormed(text: string): string {
  return text.replace(/\p{Surrogate}/gu, '\uFFFD');
}

/**
 * The normal form that the vocabulary was made for: NFC, runs of white space to one space, lowercase
 * letter by letter (so no final sigma, and U+0130 becomes two code points).
 */
export function normalize(text: string): string {
  lowercase ??= decodeLowercase();
  let result = '';
  let inSpace = false;
  for (const character of composeCanonically(text)) {
    const codePoint = character.codePointAt(0) as number;
    if (isSpace(codePoint)) {
      if (!inSpace) result += ' ';
      inSpace = true;
      continue;
    }
    inSpace = false;
    result += lowercase.get(codePoint) ?? character;
  }
  return result;
}

/**
 * NFC of the library's Unicode version. Only runs that its tables know are handed to JavaScript:
 * code points that were assigned later must stay where they are.
 */
function composeCanonically(text: string): string {
  // Nothing below U+0300 is replaced or reordered.
  if (!/[\u0300-\u{10FFFF}]/u.test(text)) return text;
  const characters = Array.from(text);
  let result = '';
  let i = 0;
  while (i < characters.length) {
    const start = i;
    if (starterSet.has(codePointOf(characters, i)) && !isFollower(characters, i)) i++;
    while (i < characters.length && isFollower(characters, i)) i++;
    if (i === start) {
      result += characters[i];
      i++;
    } else if (i - start === 1 && !isFollower(characters, start)) {
      result += characters[start];
    } else {
      result += characters.slice(start, i).join('').normalize('NFC');
    }
  }
  return result;
}

function isFollower(characters: readonly string[], i: number): boolean {
  const codePoint = codePointOf(characters, i);
  return codePoint >= 0x300 && followerSet.has(codePoint);
}

function codePointOf(characters: readonly string[], i: number): number {
  return (characters[i] as string).codePointAt(0) as number;
}
