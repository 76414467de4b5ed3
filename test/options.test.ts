// What options that cannot be meant come to: an error that names the option, the value and the way
// out, before any network has run.
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, mock, test } from 'node:test';
import { pathToFileURL } from 'node:url';

import {
  AutoPipelineForImage2Image,
  AutoPipelineForText2Image,
  configure,
  EulerDiscreteScheduler,
  Generator,
  type ImageToImagePipeline,
  type TextToImagePipeline,
} from '../lib/index.js';
import { Network } from '../lib/networks/network.js';
import { demoModel, temporaryFolder, testImage } from './helpers.js';
import { assertRefused, disposed, disposeTensors, zeros } from './refusal.js';

// Networks as small as this one gain nothing from threads and lose much on a busy machine.
configure({ threads: 1 });

type Options = Record<string, unknown>;

let imageToImage: ImageToImagePipeline;
let textToImage: TextToImagePipeline;

before(async () => {
  imageToImage = await AutoPipelineForImage2Image.fromPretrained(demoModel);
  textToImage = await AutoPipelineForText2Image.fromPipe(imageToImage);
});
after(() => {
  disposeTensors();
  imageToImage.dispose();
  textToImage.dispose();
});

const sound = {
  image: () => ({
    prompt: 'a fox',
    image: testImage(),
    numInferenceSteps: 2,
    strength: 1,
    seed: 1,
  }),
  text: () => ({ prompt: 'a fox', height: 32, width: 32, numInferenceSteps: 2, seed: 1 }),
};

type Draw = (options: Options) => Promise<unknown>;
const drawers: Record<keyof typeof sound, Draw> = {
  image: (options) => (imageToImage.generate as unknown as Draw).call(imageToImage, options),
  text: (options) => (textToImage.generate as unknown as Draw).call(textToImage, options),
};

/** One test for an option: each of the changes to sound options is refused. */
function refused(
  what: string,
  kinds: (keyof typeof sound)[],
  cases: [changes: () => Options, says: RegExp, code?: string][],
): void {
  test(`${what}: impossible values are refused`, async () => {
    for (const kind of kinds) {
      for (const [changes, says, code] of cases) {
        const options = { ...sound[kind](), ...changes() };
        await assertRefused(() => drawers[kind](options), { says, code });
      }
    }
  });
}

const both: (keyof typeof sound)[] = ['image', 'text'];

test('options that are no object are refused', async () => {
  for (const options of [undefined, null, 7, 'a fox']) {
    for (const draw of Object.values(drawers)) {
      await assertRefused(() => draw(options as unknown as Options), {
        says: /an object for options/,
      });
    }
  }
});

refused('unknown options', both, [
  [() => ({ guidance_scale: 5 }), /no option guidance_scale\. It is called guidanceScale here/],
  [() => ({ num_images_per_prompt: 5 }), /It is called numImagesPerPrompt here/],
  [() => ({ steps: 5 }), /no option steps\. Known are: numInferenceSteps, .*prompt/],
  [() => ({ controlImage: 5 }), /no option controlImage/],
]);
test('options of the other task are refused', async () => {
  await assertRefused(() => drawers.image({ ...sound.image(), height: 64 }), {
    says: /no option height/,
  });
  await assertRefused(() => drawers.text({ ...sound.text(), strength: 1 }), {
    says: /no option strength/,
  });
});

const embeds = (...shape: number[]) => zeros(shape.length === 0 ? [1, 24, 128] : shape);
const neither = { prompt: undefined };

refused('prompt', both, [
  [() => neither, /one of prompt and promptEmbeds but received neither/],
  [() => ({ promptEmbeds: embeds() }), /one of prompt and promptEmbeds but received both/],
  [() => ({ prompt: 7 }), /a string or an array of strings for prompt but received 7 \(number\)/],
  [() => ({ prompt: null }), /for prompt but received null/],
  [() => ({ prompt: [] }), /for prompt but received an array of 0/],
  [() => ({ prompt: ['a fox', 7] }), /for prompt but received an array of 2/],
]);
refused('negativePrompt', both, [
  [() => ({ negativePrompt: 7 }), /for negativePrompt but received 7/],
  [() => ({ negativePrompt: [] }), /for negativePrompt but received an array of 0/],
  [
    () => ({ negativePrompt: ['a', 'b'] }),
    /1 texts?, one per prompt, for negativePrompt .* an array of 2/,
  ],
  [
    () => ({ negativePrompt: 'a', negativePromptEmbeds: embeds() }),
    /one of negativePrompt and negativePromptEmbeds but received both/,
  ],
]);
refused('promptEmbeds', both, [
  [() => ({ ...neither, promptEmbeds: [1, 2] }), /3 dimensions for promptEmbeds .* an array of 2/],
  [() => ({ ...neither, promptEmbeds: embeds(24, 128) }), /for promptEmbeds .*\[24, 128\]/],
  [
    () => ({ ...neither, promptEmbeds: embeds(1, 24, 64) }),
    /^Expected \[B, L, 128\] for promptEmbeds but received \[1, 24, 64\] \(shape\)\.$/,
  ],
  [() => ({ ...neither, promptEmbeds: embeds(0, 24, 128) }), /for promptEmbeds .*\[0, 24, 128\]/],
  [() => ({ ...neither, promptEmbeds: embeds(1, 0, 128) }), /for promptEmbeds .*\[1, 0, 128\]/],
  [() => ({ ...neither, promptEmbeds: disposed([1, 24, 128]) }), /disposed/, 'ERR_DISPOSED'],
  // Longer than a negative prompt could be made.
  [
    () => ({ ...neither, promptEmbeds: embeds(1, 48, 128) }),
    /promptEmbeds has 48 tokens.*negativePromptEmbeds/,
  ],
]);
refused('negativePromptEmbeds', both, [
  [() => ({ negativePromptEmbeds: embeds(2, 24, 128) }), /for negativePromptEmbeds but received 2/],
  [
    () => ({ negativePromptEmbeds: embeds(1, 20, 128) }),
    /24 tokens.* for negativePromptEmbeds but received 20/,
  ],
  [() => ({ negativePromptEmbeds: embeds(1, 24, 64) }), /for negativePromptEmbeds .*\[1, 24, 64\]/],
  [() => ({ negativePromptEmbeds: disposed([1, 24, 128]) }), /disposed/, 'ERR_DISPOSED'],
  [
    () => ({ ...neither, promptEmbeds: embeds(), negativePromptEmbeds: embeds(1, 20, 128) }),
    /the shape \[1, 24, 128\] of promptEmbeds for negativePromptEmbeds .*\[1, 20, 128\]/,
  ],
]);

/** Values of the wrong type or outside a range, each named in the message. */
function values(name: string, list: readonly unknown[], says = ''): [() => Options, RegExp][] {
  return list.map((value) => [
    () => ({ [name]: value }),
    new RegExp(
      `${says}.*for ${name} but received ${typeof value === 'number' ? `${value} \\(number\\)` : ''}`,
    ),
  ]);
}

refused('numInferenceSteps', both, [
  ...values('numInferenceSteps', [
    0,
    -1,
    2.5,
    Number.NaN,
    Number.POSITIVE_INFINITY,
    '20',
    true,
    1001,
    2 ** 40,
  ]),
]);
refused('timesteps and sigmas', both, [
  [() => ({ timesteps: [900, 500] }), /for timesteps .*EulerDiscreteScheduler does/],
  [() => ({ sigmas: [5, 1] }), /for sigmas .*EulerDiscreteScheduler does/],
  [() => ({ timesteps: [900], sigmas: [5] }), /one of timesteps and sigmas but received both/],
]);
refused(
  'guidanceScale',
  both,
  values('guidanceScale', ['7.5', Number.NaN, Number.POSITIVE_INFINITY], 'a number'),
);
refused(
  'guidanceRescale',
  ['text'],
  values('guidanceRescale', [-0.1, 1.5, '1'], 'between 0 and 1'),
);
refused('numImagesPerPrompt', both, values('numImagesPerPrompt', [0, -1, 1.5, '2'], 'at least 1'));
refused('eta', both, values('eta', [-0.1, 1.1, '0'], 'between 0 and 1'));
refused('clipSkip', both, [
  ...values('clipSkip', [-1, 0.5, '1']),
  ...values('clipSkip', [2, 99], 'at most 1'),
]);
refused(
  'outputType',
  both,
  values('outputType', ['pil', 'png', 7, {}], "'image', 'tensor', 'latent'"),
);
refused('onStep', both, values('onStep', [7, 'log', {}], 'a function'));
refused('signal', both, values('signal', [7, {}, new AbortController()], 'an AbortSignal'));
refused('seed', both, [
  ...values('seed', [1.5, '7', Number.NaN, 2 ** 53, null, {}], 'a whole number'),
  ...values('seed', [[], [1, 2]], 'one seed or 1, one per picture'),
  [() => ({ seed: ['7'] }), /a whole number for seed but received "7"/],
  [() => ({ prompt: ['a', 'b'], numImagesPerPrompt: 2, seed: [1, 2] }), /one seed or 4/],
]);
refused('generator', both, [
  [() => ({ generator: new Generator() }), /one of seed and generator but received both/],
  ...[7, {}, [7], null].map((generator): [() => Options, RegExp] => {
    return [() => ({ seed: undefined, generator }), /a Generator for generator but received/];
  }),
  [
    () => ({ seed: undefined, generator: [new Generator(), new Generator()] }),
    /one generator or 1/,
  ],
]);

refused(
  'height and width',
  ['text'],
  [
    ...values('height', [0, -8, 64.5, '64', Number.NaN], 'at least 8'),
    ...values('height', [63], 'a multiple of 8'),
    ...values('width', [65], 'a multiple of 8'),
    [() => ({ height: 63 }), /Use 56 or 64\./],
    [
      () => ({ height: 8e6, width: 8e6 }),
      /at most 268402689 pixels for height and width but received 64000000000000/,
    ],
    [() => ({ height: 63, width: undefined }), /a multiple of 8 for height/],
  ],
);
refused(
  'latents',
  ['text'],
  [
    [() => ({ latents: [1] }), /a Tensor with 4 dimensions for latents/],
    [() => ({ latents: zeros([4, 8, 8]) }), /4 dimensions for latents .*\[4, 8, 8\]/],
    [() => ({ latents: zeros([1, 4, 16, 16]) }), /\[1, 4, 8, 8\] for latents .*\[1, 4, 16, 16\]/],
    [() => ({ latents: zeros([2, 4, 8, 8]) }), /\[1, 4, 8, 8\] for latents/],
    [() => ({ latents: disposed([1, 4, 8, 8]) }), /disposed/, 'ERR_DISPOSED'],
  ],
);

refused(
  'strength',
  ['image'],
  [
    ...values('strength', [-0.1, 1.4, '0.5', Number.NaN], 'a number between 0 and 1'),
    [() => ({ strength: 0.4 }), /at least 0\.5 for strength .* With 2 steps nothing would be left/],
    [() => ({ strength: 0 }), /for strength but received 0 \(number\)/],
  ],
);

refused(
  'image',
  ['image'],
  [
    ...[undefined, null, 42, {}, '', new Date()].flatMap((image): [() => Options, RegExp][] => [
      [() => ({ image }), /a file path, .* or a Tensor for image but received/],
      [() => ({ image: [image] }), /for image but received/],
    ]),
    [() => ({ image: [] }), /at least one image for image/],
    [() => ({ image: [testImage(), zeros([3, 64, 64])] }), /image to be all tensors or no tensors/],
    [() => ({ image: testImage(3, 64) }), /an image of at least 4×4 pixels but received 3×64/],
    [
      () => ({ image: [testImage(), testImage()] }),
      /divides the 1 pictures? to draw for image but received 2/,
    ],
    [
      () => ({ prompt: ['a', 'b'], image: [1, 2, 3].map(() => testImage()) }),
      /for image but received 3/,
    ],
    [() => ({ image: zeros([64, 64]) }), /3 or 4 dimensions for image .*\[64, 64\]/],
    [
      () => ({ image: zeros([1, 64, 64]) }),
      /3 channels \(pixels\) or 4 \(latents\) for image .*\[1, 1, 64, 64\]/,
    ],
    [() => ({ image: zeros([3, 0, 64]) }), /for image/],
    [() => ({ image: zeros([0, 3, 64, 64]) }), /for image/],
    [() => ({ image: zeros([3, 2, 64]) }), /at least 4 pixels a side for image/],
    [() => ({ image: [zeros([3, 64, 64]), zeros([3, 32, 32])] }), /tensors of one size for image/],
    [() => ({ image: zeros([2, 3, 64, 64]) }), /for image but received 2/],
    [() => ({ image: disposed([3, 64, 64]) }), /disposed/, 'ERR_DISPOSED'],
    [() => ({ image: [zeros([3, 64, 64]), disposed([3, 64, 64])] }), /disposed/, 'ERR_DISPOSED'],
  ],
);

test('pictures that cannot be read are refused', async (context) => {
  const folder = temporaryFolder(context);
  const file = (name: string, bytes: string | Uint8Array) => {
    writeFileSync(join(folder, name), bytes);
    return join(folder, name);
  };
  const png = await testImage().toBuffer('png');
  const huge = Buffer.from(png);
  // Width and height in the PNG's header, and the header's checksum.
  huge.writeUInt32BE(60_000, 16);
  huge.writeUInt32BE(60_000, 20);
  const svg = '<svg xmlns="http://www.w3.org/2000/svg" width="60000" height="60000"></svg>';
  const cases: [unknown, RegExp][] = [
    [join(folder, 'missing.png'), /missing\.png.*no such file/],
    [pathToFileURL(join(folder, 'missing.png')), /missing\.png/],
    [folder, /is not a file/],
    [file('empty.png', ''), /empty\.png/],
    [file('text.png', 'a fox'), /text\.png: it is not an image/],
    [new Uint8Array(100), /the given bytes: it is not an image/],
    [file('cut.png', png.subarray(0, 200)), /cut\.png: it is damaged or cut off/],
    [Buffer.from(svg), /60000×60000 = 3600000000 pixels, more than the limit of 268402689/],
    [huge, /damaged|more than the limit/],
    ['ftp://example.com/fox.png', /ftp: are not supported/],
    [new URL('ftp://example.com/fox.png'), /ftp: are not supported/],
    ['data:image/png;base64,AAAA', /not an image/],
  ];
  for (const [image, says] of cases) {
    await assertRefused(() => drawers.image({ ...sound.image(), image }), {
      says,
      code: 'ERR_IMAGE',
    });
  }
});

test('timesteps and sigmas that no schedule can follow are refused', async () => {
  const old = textToImage.scheduler;
  textToImage.scheduler = EulerDiscreteScheduler.fromConfig(old.config);
  for (const list of [[], [Number.NaN], ['900'], 7, 'all', {}]) {
    await assertRefused(() => drawers.text({ ...sound.text(), timesteps: list }), {
      says: /for timesteps/,
    });
    await assertRefused(() => drawers.text({ ...sound.text(), sigmas: list }), {
      says: /for sigmas/,
    });
  }
  textToImage.scheduler = old;
});

test('a signal that is aborted already stops everything before it starts', async () => {
  const reason = new Error('not today');
  const networkRuns = mock.method(Network.prototype, 'run');
  for (const kind of both) {
    const options = { ...sound[kind](), signal: AbortSignal.abort(reason) };
    await assert.rejects(drawers[kind](options), reason);
  }
  const loading = AutoPipelineForImage2Image.fromPretrained(demoModel, {
    signal: AbortSignal.abort(reason),
  });
  await assert.rejects(loading, reason);
  assert.equal(networkRuns.mock.callCount(), 0);
  networkRuns.mock.restore();
});
