// Embeddings of prompts in A1111's syntax.
import { divide, mean, multiply, reshape } from '../ops.js';
import { Tensor } from '../tensor.js';
import {
  type PromptEncoder,
  type RowEncoder,
  RowMaker,
  type TokenRow,
  type WeightedToken,
} from './row-encoder.js';
import type { RowEncoders } from './row-encoders.js';
import type { WeightedText } from './weighted-text.js';

/** A row that is full breaks after its last comma if no more tokens than these follow it. */
const commaReach = 20;

/**
 * The embeddings [1,n·L,D] of a prompt, those of all encoders side by side, in float32. Each token's
 * is multiplied by its weight, and then the row's mean is made what it was.
 */
export function embedA1111(
  encoders: RowEncoders,
  parts: readonly (readonly WeightedText[])[],
): Promise<Tensor> {
  return encoders.embed((encoder) => embedRows(encoder, rowsOf(encoder, parts)));
}

/** The first row of a prompt as its tokenizer would make it. */
export function firstRow(
  part: PromptEncoder,
  parts: readonly (readonly WeightedText[])[],
): readonly number[] {
  return (rowsOf(new RowMaker(part), parts)[0] as TokenRow).ids;
}

/** The rows of a prompt, at least one. */
export function rowsOf(maker: RowMaker, parts: readonly (readonly WeightedText[])[]): TokenRow[] {
  const tokens = parts.map((texts) =>
    texts.flatMap(({ text, weight }) =>
      maker.tokenizer.tokenize(text).map((id) => ({ id, weight })),
    ),
  );
  // A BREAK at the end begins no row.
  if (tokens.length > 1 && tokens.at(-1)?.length === 0) tokens.pop();
  return tokens.flatMap((part) => chunks(maker, part).map((chunk) => maker.row(chunk)));
}

/** Tokens in stretches that fit a row, broken at commas where one is near. */
function chunks(
  { tokenizer, room }: RowMaker,
  tokens: readonly WeightedToken[],
): WeightedToken[][] {
  const comma = tokenizer.tokenId(',</w>');
  const found: WeightedToken[][] = [];
  let start = 0;
  while (tokens.length - start > room) {
    let end = start + room;
    // A comma that would begin the next row stands there.
    if (tokens[end]?.id !== comma) {
      const last = tokens.slice(start, end).findLastIndex(({ id }) => id === comma);
      if (last >= 0 && room - last <= commaReach) end = start + last + 1;
    }
    found.push(tokens.slice(start, end));
    start = end;
  }
  return [...found, tokens.slice(start)];
}

async function embedRows(encoder: RowEncoder, rows: readonly TokenRow[]): Promise<Tensor> {
  using embeddings = await encoder.run(rows);
  using weighted = emphasised(embeddings, rows);
  const [count = 1, length = 0, width = 0] = weighted.shape;
  return reshape(weighted, [1, count * length, width]);
}

function emphasised(embeddings: Tensor, rows: readonly TokenRow[]): Tensor {
  const numbers = rows.flatMap(({ weights }) => weights);
  if (numbers.every((weight) => weight === 1)) return embeddings.alias();
  const [count = 1, length = 0] = embeddings.shape;
  using onHost = Tensor.fromArray(Float32Array.from(numbers), [count, length, 1]);
  using weights = onHost.to({ device: embeddings.device });
  using weighted = multiply(embeddings, weights);
  using before = rowMeans(embeddings);
  using after = rowMeans(weighted);
  using ratio = divide(before, after);
  using single = ratio.to({ dtype: 'float32' });
  return multiply(weighted, single);
}

/** [R,1,1]; in float64, because the mean is small beside the values. */
function rowMeans(tensor: Tensor): Tensor {
  using exact = tensor.to({ dtype: 'float64' });
  return mean(exact, [1, 2], true);
}
