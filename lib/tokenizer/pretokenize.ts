import { characterClass } from './unicode.js';

const endings = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"];
const markers = ['<|startoftext|>', '<|endoftext|>'];

/**
 * Cuts normalised text into the words that byte-pair encoding works on: English endings after an
 * apostrophe, runs of letters, single digits, runs of anything else. White space is dropped.
 */
export function splitWords(text: string): string[] {
  const words: string[] = [];
  let i = 0;
  while (i < text.length) {
    const marker = markers.find((candidate) => text.startsWith(candidate, i));
    if (marker !== undefined) {
      // A second split, which the original applies to every word, takes the markers apart.
      words.push('<|', marker.slice(2, -2), '|>');
      i += marker.length;
      continue;
    }
    const ending = text[i] === "'" ? endings.find((e) => text.startsWith(e, i)) : undefined;
    const end = ending === undefined ? endOfRun(text, i) : i + ending.length;
    if (end > i) words.push(text.slice(i, end));
    i = end > i ? end : i + 1; // no run starts at white space
  }
  return words;
}

/** End of the run of one class that starts at `start`; `start` itself at white space. */
function endOfRun(text: string, start: number): number {
  const first = text.codePointAt(start) as number;
  const kind = characterClass(first);
  if (kind === 'space') return start;
  let end = start + unitsOf(first);
  if (kind === 'number') return end;
  while (end < text.length) {
    const next = text.codePointAt(end) as number;
    if (characterClass(next) !== kind) break;
    end += unitsOf(next);
  }
  return end;
}

function unitsOf(codePoint: number): number {
  return codePoint > 0xffff ? 2 : 1;
}
