import { createRequire } from 'node:module';
import type { Sharp, SharpInput, SharpOptions } from 'sharp';

let loaded: ((input: SharpInput, options: SharpOptions) => Sharp) | undefined;

/**
 * A sharp instance. sharp is loaded here, at the first picture: that takes longer than all the rest of
 * importing torchbrush.
 */
export function openSharp(input: SharpInput, options: SharpOptions): Sharp {
  loaded ??= createRequire(import.meta.url)('sharp') as NonNullable<typeof loaded>;
  return loaded(input, options);
}
