// The sizes of pictures that Kandinsky's decoder can draw.
import { expected } from '../errors.js';
import { defaultPixelLimit } from '../images/image.js';
import { checkInteger } from '../options.js';
import type { Size } from './first-noise.js';
import type { KandinskyDecoderComponents } from './kandinsky-components.js';
import { decoderDefaults } from './kandinsky-decoder.js';

/**
 * Rounded up to multiples of the autoencoder's factor squared (64).
 *
 * @throws InvalidArgumentError
 */
export function textToImageSize(
  options: Partial<Size>,
  components: Readonly<KandinskyDecoderComponents>,
): Size {
  const factor = components.movq.scaleFactor ** 2;
  return checkSize(options, components, (side) => Math.ceil(side / factor) * factor);
}

/**
 * Rounded down to multiples of the autoencoder's factor (8), which pictures are scaled to.
 *
 * @throws InvalidArgumentError also where the UNet cannot take latents of that size
 */
export function imageToImageSize(
  options: Partial<Size>,
  components: Readonly<KandinskyDecoderComponents>,
): Size {
  const factor = components.movq.scaleFactor;
  return checkSize(options, components, (side) => side - (side % factor));
}

function checkSize(
  options: Partial<Size>,
  { unet, movq }: Readonly<KandinskyDecoderComponents>,
  round: (side: number) => number,
): Size {
  const { block_out_channels: levels } = unet.network.config;
  // Its blocks halve and double the latents and do not look at the size they had.
  const step = movq.scaleFactor * 2 ** ((Array.isArray(levels) ? levels.length : 1) - 1);
  const check = (name: 'height' | 'width') => {
    const given = checkInteger(options[name] ?? decoderDefaults.side, name, 1);
    const side = round(given);
    if (side > 0 && side % step === 0) return side;
    const lower = side - (side % step);
    const hint = lower > 0 ? `Use ${lower} or ${lower + step}.` : `Use ${step}.`;
    throw expected(`a multiple of ${step}`, name, given, hint);
  };
  const [height, width] = [check('height'), check('width')];
  if (height * width <= defaultPixelLimit) return { height, width };
  throw expected(`at most ${defaultPixelLimit} pixels`, 'height and width', height * width);
}
