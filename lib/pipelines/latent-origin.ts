// Which network a pipeline's latents belong to, so that a later pipeline that works on pixels can
// decode them.
import { InvalidArgumentError } from '../errors.js';
import type { Network } from '../networks/network.js';
import type { Tensor } from '../tensor.js';

/** Turns latents into pixels [B,3,H,W], about −1..1. */
export interface LatentDecoder {
  /** Counted: it must be alive while it decodes. */
  readonly network: Network;
  /** Pixels [B,3,H,W] in −1..1 of scaled latents [B,C,h,w]. You dispose them. */
  decode(latents: Tensor): Promise<Tensor>;
}

const origins = new WeakMap<Tensor, LatentDecoder>();

/** Remembers who can decode a result; holds neither of them. */
export function rememberOrigin(latents: Tensor, decoder: LatentDecoder): void {
  origins.set(latents, decoder);
}

/**
 * What decodes latents: the caller's choice, or the network of the pipeline that made them.
 *
 * @throws InvalidArgumentError where there is none, or it has been disposed
 */
export function decoderOf(latents: unknown, given: LatentDecoder | undefined): LatentDecoder {
  const first: unknown = Array.isArray(latents) ? latents[0] : latents;
  const decoder = given ?? origins.get(first as Tensor);
  if (decoder !== undefined && !decoder.network.disposed) return decoder;
  const reason =
    decoder === undefined
      ? 'it is not known which autoencoder made them'
      : 'the pipeline that made them has been disposed';
  throw new InvalidArgumentError(
    `The image is latents, and this pipeline takes pixels: ${reason}. Pass its vae, as vae: pipe.components.vae.`,
  );
}
