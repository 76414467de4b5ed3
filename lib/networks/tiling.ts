// Large pictures through an autoencoder in tiles that overlap, as diffusers cuts and blends them.
import { add, concat, full, multiply, narrow, overwrite, subtract } from '../ops.js';
import { Tensor } from '../tensor.js';

type Run = (tile: Tensor) => Promise<Tensor>;

/** What `run` makes of a batch [B,…], picture by picture. */
export async function runPerPicture(batch: Tensor, run: Run): Promise<Tensor> {
  const count = batch.shape[0] as number;
  if (count === 1) return await run(batch);
  const parts: Tensor[] = [];
  try {
    for (let i = 0; i < count; i += 1) {
      using one = narrow(batch, 0, i, 1);
      parts.push(await run(one));
    }
    return concat(parts, 0);
  } finally {
    disposeAll(parts);
  }
}

/** Whether a side of [B,C,H,W] is longer. */
export function isLarger(tensor: Tensor, side: number): boolean {
  return tensor.shape.slice(2).some((length) => length > side);
}

/** Sizes of tiles along a side; those of the result are in its own units, pixels or latents. */
export interface Tiling {
  /** Side of a tile that goes in, and how far it is to the next one. */
  size: number;
  stride: number;
  /** Over how much of the result a tile is blended with the one before it. */
  blend: number;
  /** What is kept of a tile's result; the rest lies under the next tile. */
  keep: number;
}

/** A quarter of each tile lies under the next, in pixels and in latents. */
export function quarterOverlap(from: number, to: number): Tiling {
  const blend = Math.floor(to * 0.25);
  return { size: from, stride: Math.floor(from * 0.75), blend, keep: to - blend };
}

/**
 * Runs [B,C,H,W] tile by tile, row after row. A tile is blended with the one above and then with the one
 * to the left, both as they were left by their own blending.
 */
export async function runTiled(input: Tensor, run: Run, tiling: Tiling): Promise<Tensor> {
  const [, , height = 0, width = 0] = input.shape;
  const rows: Tensor[] = [];
  let above: Tensor[] = [];
  try {
    for (let y = 0; y < height; y += tiling.stride) {
      const row: Tensor[] = [];
      try {
        for (let x = 0; x < width; x += tiling.stride) {
          using tile = await runTile(input, y, x, run, tiling);
          const [top, left] = [above[row.length], row.at(-1)];
          using lowered = top === undefined ? tile.alias() : blend(top, tile, 2, tiling.blend);
          row.push(left === undefined ? lowered.alias() : blend(left, lowered, 3, tiling.blend));
        }
        rows.push(joined(row, tiling.keep));
      } finally {
        disposeAll(above);
        above = row;
      }
    }
    return concat(rows, 2);
  } finally {
    disposeAll(rows);
    disposeAll(above);
  }
}

/** Share of a tile that lies under the next one in {@link runOverlaid}. */
const overlap = 0.125;

/**
 * Runs [B,C,H,W] tile by tile and lays each result over those before it, faded in over the overlap at
 * its upper and left edge. `scale` is how many times longer a result's sides are than its tile's.
 */
export async function runOverlaid(
  input: Tensor,
  run: Run,
  size: number,
  scale: number,
): Promise<Tensor> {
  const [, , height = 0, width = 0] = input.shape;
  const fade = Math.floor(size * overlap);
  const place = (at: number) => Math.floor(at * scale);
  let canvas: Tensor | undefined;
  try {
    for (let y = 0; y < height; y += size - fade) {
      for (let x = 0; x < width; x += size - fade) {
        using result = await runTile(input, y, x, run, { size });
        const [batch = 0, channels = 0] = result.shape;
        canvas ??= full([batch, channels, place(height), place(width)], 0, {
          device: input.device,
        });
        lay(canvas, result, [place(y), place(x)], fade * scale);
      }
    }
    const { dtype } = input;
    return (canvas as Tensor).to({ dtype });
  } finally {
    canvas?.dispose();
  }
}

function lay(canvas: Tensor, tile: Tensor, [y, x]: [number, number], fade: number): void {
  const [, , height = 0, width = 0] = tile.shape;
  using rows = narrow(canvas, 2, y, height);
  using under = narrow(rows, 3, x, width);
  using over = tile.to({ dtype: canvas.dtype });
  const shares = (start: number, length: number) =>
    Float32Array.from({ length }, (_, i) => (start === 0 ? 1 : Math.min(i / (fade - 1), 1)));
  using down = Tensor.fromArray(shares(y, height), [height, 1]);
  using along = Tensor.fromArray(shares(x, width), [1, width]);
  using onHost = multiply(down, along);
  using share = onHost.to({ device: canvas.device });
  using change = subtract(over, under);
  using part = multiply(change, share);
  using mixed = add(under, part);
  overwrite(under, mixed);
}

async function runTile(
  input: Tensor,
  y: number,
  x: number,
  run: Run,
  { size }: Pick<Tiling, 'size'>,
): Promise<Tensor> {
  using rows = upTo(input, 2, y, size);
  using tile = upTo(rows, 3, x, size);
  return await run(tile);
}

/** At most `length` entries from `start`. */
function upTo(tensor: Tensor, dim: number, start: number, length: number): Tensor {
  return narrow(tensor, dim, start, Math.min(length, (tensor.shape[dim] as number) - start));
}

/** The end of `before` fades into the beginning of `tensor`. */
function blend(before: Tensor, tensor: Tensor, dim: number, most: number): Tensor {
  const [end = 0, length = 0] = [before.shape[dim], tensor.shape[dim]];
  const extent = Math.min(end, length, most);
  if (extent === 0) return tensor.alias();
  using old = narrow(before, dim, end - extent, extent);
  using fresh = narrow(tensor, dim, 0, extent);
  using mixed = mix(old, fresh, dim, (i) => i / extent);
  if (extent === length) return mixed.alias();
  using rest = narrow(tensor, dim, extent, length - extent);
  return concat([mixed, rest], dim);
}

/** (1 − share)·a + share·b, where the share depends on the place along `dim`. */
function mix(a: Tensor, b: Tensor, dim: number, share: (index: number) => number): Tensor {
  const length = a.shape[dim] as number;
  const shape = a.shape.map((_, i) => (i === dim ? length : 1));
  const ramp = (value: (index: number) => number) => {
    using onHost = Tensor.fromArray(
      Float32Array.from({ length }, (_, i) => value(i)),
      shape,
    );
    return onHost.to({ dtype: a.dtype, device: a.device });
  };
  using up = ramp(share);
  using down = ramp((i) => 1 - share(i));
  using fading = multiply(a, down);
  using growing = multiply(b, up);
  return add(fading, growing);
}

function joined(row: readonly Tensor[], keep: number): Tensor {
  const parts: Tensor[] = [];
  try {
    for (const tile of row) {
      using low = upTo(tile, 2, 0, keep);
      parts.push(upTo(low, 3, 0, keep));
    }
    return concat(parts, 3);
  } finally {
    disposeAll(parts);
  }
}

function disposeAll(tensors: readonly Tensor[]): void {
  for (const tensor of tensors) tensor.dispose();
}
