// Embeddings of prompts in Compel's syntax; the maths of Compel 2.0.
import { concat, linearCombination, multiply, narrow, repeat } from '../ops.js';
import { Scratch } from '../scratch.js';
import { Tensor } from '../tensor.js';
import type { CompelPrompt } from './compel-tree.js';
import { warnOfTruncation } from './encode.js';
import { allVisible, type RowEncoder, type TokenRow, type WeightedToken } from './row-encoder.js';
import type { RowEncoders } from './row-encoders.js';
import type { WeightedText } from './weighted-text.js';

/** How words with a weight below 1 are left out of the embeddings that are mixed in. */
export type DownweightMode = 'mask' | 'remove';

export interface CompelSettings {
  /** Cuts prompts to one row; otherwise they take as many as they need. */
  truncateLongPrompts: boolean;
  downweightMode: DownweightMode;
}

export const compelDefaults: CompelSettings = { truncateLongPrompts: true, downweightMode: 'mask' };

/** Keeps the share of a word of weight 0 finite. */
const smallestWeight = 1e-5;

/** The embeddings [1,n·L,D] of a prompt, those of all encoders side by side, in float32. */
export async function embedCompel(
  encoders: RowEncoders,
  { parts }: CompelPrompt,
  settings: CompelSettings,
): Promise<Tensor> {
  using scratch = new Scratch();
  const embedded: Tensor[] = [];
  for (const { weight, blend } of parts) {
    const mixed: Tensor[] = [];
    for (const { fragments } of blend) {
      const embed = (encoder: RowEncoder) => embedFragments(encoder, fragments, settings);
      mixed.push(scratch.own(await encoders.embed(embed)));
    }
    const padded = await encoders.padToSameLength(mixed);
    for (const tensor of padded) scratch.own(tensor);
    const shares = blend.map((one) => one.weight);
    const whole = scratch.own(linearCombination(shares, padded));
    embedded.push(scratch.own(awayFrom(await encoders.empty(), whole, weight)));
  }
  return concat(embedded, 1);
}

/** empty + weight·(embeddings − empty) */
function awayFrom(empty: Tensor, embeddings: Tensor, weight: number): Tensor {
  if (weight === 1) return embeddings.alias();
  const blocks = (embeddings.shape[1] as number) / (empty.shape[1] as number);
  using origin = repeat(empty, [1, blocks, 1]);
  return linearCombination([weight, 1 - weight], [embeddings, origin]);
}

/**
 * Each token's embedding is moved away from that of an empty prompt by its weight. For each fragment
 * with a weight below 1 the same is done to the prompt without that fragment, and mixed in: half and
 * half at 0.5, nothing but it at 0.
 */
async function embedFragments(
  encoder: RowEncoder,
  fragments: readonly WeightedText[],
  settings: CompelSettings,
): Promise<Tensor> {
  const tokens = tokenize(encoder, fragments, settings);
  const rows = rowsOf(encoder, tokens.flat(), settings);
  if (settings.truncateLongPrompts) {
    const whole = fragments.map(({ text }) => text).join(' ');
    warnOfTruncation(encoder.tokenizer, [whole], encoder.length);
  }
  const alternatives = alternativesOf(encoder, tokens, rows, settings);
  const total = alternatives.reduce((sum, { share }) => sum + share, 1);
  const others = alternatives.flatMap(({ share, rows }) => rows.map((one) => ({ ...one, share })));
  using weighted = await embedRows(encoder, [...rows, ...others.map(({ row }) => row)]);
  using scratch = new Scratch();
  const embedded = Array.from({ length: rows.length + others.length }, (_, i) =>
    scratch.own(narrow(weighted, 0, i, 1)),
  );
  const mixed = rows.map((_, place) => {
    const instead = [...others.keys()].filter((i) => others[i]?.place === place);
    const shares = instead.map((i) => (others[i]?.share as number) / total);
    const own = 1 - shares.reduce((sum, share) => sum + share, 0);
    const tensors = [place, ...instead.map((i) => rows.length + i)].map(
      (i) => embedded[i] as Tensor,
    );
    return scratch.own(linearCombination([own, ...shares], tensors));
  });
  return concat(mixed, 1);
}

type Fragment = readonly WeightedToken[];

function tokenize(
  { tokenizer, room }: RowEncoder,
  fragments: readonly WeightedText[],
  { truncateLongPrompts }: CompelSettings,
): Fragment[] {
  return fragments.map(({ text, weight }) => {
    const ids = tokenizer.tokenize(text);
    const kept = truncateLongPrompts ? ids.slice(0, room) : ids;
    return kept.map((id) => ({ id, weight }));
  });
}

/** The rows of a prompt, at least one. */
function rowsOf(
  encoder: RowEncoder,
  tokens: Fragment,
  { truncateLongPrompts }: CompelSettings,
): TokenRow[] {
  const rows: TokenRow[] = [];
  for (let start = 0; start === 0 || start < tokens.length; start += encoder.room) {
    rows.push(encoder.row(tokens.slice(start, start + encoder.room)));
    if (truncateLongPrompts) break;
  }
  return rows;
}

/** A row that stands instead of the prompt's own row at a place. */
interface OtherRow {
  place: number;
  row: TokenRow;
}

/** The prompt without one of its fragments, and how much of that to mix in to 1 of the prompt. */
interface Alternative {
  share: number;
  rows: OtherRow[];
}

function alternativesOf(
  encoder: RowEncoder,
  tokens: readonly Fragment[],
  own: readonly TokenRow[],
  settings: CompelSettings,
): Alternative[] {
  const alternatives: Alternative[] = [];
  let start = 0;
  for (const [index, fragment] of tokens.entries()) {
    const end = start + fragment.length;
    const weight = fragment[0]?.weight ?? 1;
    // What was cut off is not there to be left out.
    if (weight < 1 && start < own.length * encoder.room) {
      const share = Math.tan(((1 - Math.max(weight, smallestWeight)) * Math.PI) / 2);
      const rows =
        settings.downweightMode === 'mask'
          ? maskedRows(encoder, own, [start, end], settings)
          : rowsWithout(encoder, tokens, index, own.length, settings);
      alternatives.push({ share, rows });
    }
    start = end;
  }
  return alternatives;
}

/** The rows that hold the tokens from `start` to `end`, with these hidden. */
function maskedRows(
  { room, length }: RowEncoder,
  own: readonly TokenRow[],
  [start, end]: readonly [number, number],
  { truncateLongPrompts }: CompelSettings,
): OtherRow[] {
  const last = Math.min(Math.floor((end - 1) / room), own.length - 1);
  const rows: OtherRow[] = [];
  for (let place = Math.floor(start / room); place <= last; place += 1) {
    const row = own[place] as TokenRow;
    const [first, behind] = [start - place * room + 1, end - place * room + 1];
    // As in Compel: the ends of a row stay visible, but where a fragment was cut off, the end token
    // goes with it.
    const isEnd = (i: number) => !truncateLongPrompts && (i === 0 || i === length - 1);
    const isShown = (i: number) => row.visible[i] === true && (i < first || i >= behind);
    const visible = row.ids.map((_, i) => isEnd(i) || isShown(i));
    rows.push({ place, row: { ...row, visible } });
  }
  return rows;
}

/** As many rows as the prompt has, but without the words of one fragment. */
function rowsWithout(
  encoder: RowEncoder,
  tokens: readonly Fragment[],
  index: number,
  count: number,
  settings: CompelSettings,
): OtherRow[] {
  const others = tokens.filter((_, i) => i !== index).flat();
  const rows = rowsOf(encoder, others, settings);
  return Array.from({ length: count }, (_, place) => ({
    place,
    row: allVisible(rows[place] ?? encoder.row([])),
  }));
}

/** Weighted embeddings of rows, [R,L,D]: empty + weight·(embedding − empty), token by token. */
async function embedRows(encoder: RowEncoder, rows: readonly TokenRow[]): Promise<Tensor> {
  using embeddings = await encoder.run(rows);
  if (rows.every(({ weights }) => weights.every((weight) => weight === 1))) {
    return embeddings.alias();
  }
  const { device } = embeddings;
  const shape = [rows.length, encoder.length, 1];
  const numbers = rows.flatMap(({ weights }) => weights);
  using onHost = Tensor.fromArray(Float32Array.from(numbers), shape);
  using weights = onHost.to({ device });
  using restOnHost = Tensor.fromArray(
    Float32Array.from(numbers, (weight) => 1 - weight),
    shape,
  );
  using rest = restOnHost.to({ device });
  using own = multiply(embeddings, weights);
  using origin = multiply(await encoder.origin(), rest);
  return linearCombination([1, 1], [own, origin]);
}
