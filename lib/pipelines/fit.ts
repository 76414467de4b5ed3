// Components that a caller picks, or a checkpoint throws together: do they belong to one another?
// Found out before any network runs. Each function says in words why not.
import type { Autoencoder } from '../networks/autoencoder.js';
import type { Prior } from '../networks/prior.js';
import type { TextEncoder } from '../networks/text-encoder.js';
import type { UNet } from '../networks/unet.js';
import type { ClipTokenizer } from '../tokenizer/index.js';
import { networksOf } from './components.js';

/** The UNet denoises what the autoencoder makes. */
export function misfitOfLatents({
  unet,
  vae,
}: {
  unet: UNet;
  vae: Autoencoder;
}): string | undefined {
  if (unet.inChannels === vae.latentChannels) return undefined;
  return `the unet takes ${unet.inChannels} channels and the vae makes ${vae.latentChannels}: the unet is not made for plain text-to-image and image-to-image`;
}

/** The UNet attends to what the text encoders make, side by side. */
export function misfitOfEmbeddings(
  unet: UNet,
  encoders: readonly TextEncoder[],
): string | undefined {
  const { cross_attention_dim: width, encoder_hid_dim: projected } = unet.network.config;
  const made = encoders.reduce((sum, encoder) => sum + encoder.width, 0);
  if (typeof width !== 'number' || projected != null || made === width) return undefined;
  const what = encoders.length === 1 ? 'the text encoder makes' : 'the text encoders make';
  return `the unet takes embeddings of width ${width} and ${what} ${made}`;
}

/** The text encoder has an embedding for each token. */
export function misfitOfTokens(tokenizer: ClipTokenizer, encoder: TextEncoder): string | undefined {
  const known = encoder.network.config.vocab_size;
  if (typeof known !== 'number' || tokenizer.size <= known) return undefined;
  return `the tokenizer has ${tokenizer.size} tokens and the text encoder knows ${known}`;
}

/**
 * All networks work on one device, and all but the autoencoder in one dtype: pixels and latents are
 * converted for it.
 */
export function misfitOfPlaces(components: {
  unet?: UNet;
  prior?: Prior;
  vae?: Autoencoder;
}): string | undefined {
  const main = components.unet === undefined ? 'prior' : 'unet';
  const [first] = networksOf({ part: components[main] });
  if (first === undefined) return undefined;
  const { dtype, device } = first;
  for (const [name, part] of Object.entries(components)) {
    for (const network of networksOf({ part })) {
      const isConverted = part === components.vae;
      if (network.device === device && (network.dtype === dtype || isConverted)) continue;
      return `the ${main} works in ${dtype} on ${device} and the ${name} in ${network.dtype} on ${network.device}`;
    }
  }
  return undefined;
}
