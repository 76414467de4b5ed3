// Components that a caller picks, or a checkpoint throws together: do they belong to one another?
// Found out before any network runs.
import type { StableDiffusionComponents } from './stable-diffusion.js';

/** Why components cannot work together, in words; undefined where they can. */
export function misfit(components: Readonly<StableDiffusionComponents>): string | undefined {
  const { vae, textEncoder, tokenizer, unet } = components;
  if (unet.inChannels !== vae.latentChannels) {
    return `the unet takes ${unet.inChannels} channels and the vae makes ${vae.latentChannels}: the unet is not made for plain text-to-image and image-to-image`;
  }
  const { cross_attention_dim: width, encoder_hid_dim: projected } = unet.network.config;
  const made = textEncoder.network.config.hidden_size;
  if (
    typeof width === 'number' &&
    projected == null &&
    typeof made === 'number' &&
    made !== width
  ) {
    return `the unet takes embeddings of width ${width} and the text encoder makes ${made}`;
  }
  const known = textEncoder.network.config.vocab_size;
  if (typeof known === 'number' && tokenizer.size > known) {
    return `the tokenizer has ${tokenizer.size} tokens and the text encoder knows ${known}`;
  }
  const { dtype, device } = unet.network;
  for (const [name, { network }] of Object.entries({ vae, textEncoder })) {
    if (network.dtype === dtype && network.device === device) continue;
    return `the unet works in ${dtype} on ${device} and the ${name} in ${network.dtype} on ${network.device}`;
  }
  return undefined;
}
