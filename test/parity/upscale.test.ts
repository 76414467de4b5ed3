// The x2 and x4 upscalers, as they were published, against diffusers.
import { ensurePython } from '../../scripts/python.js';
import { caseOf } from './case.js';
import { describeSuite, say } from './suite.js';
import {
  exportCheckpointPrograms,
  initImage,
  makeCheckpoints,
  runFolder,
  saveImage,
  saveTensor,
} from './workspace.js';

const python = await ensurePython({ log: say });
const { folder, remove } = await runFolder();
const checkpoints = await makeCheckpoints(python, [
  'upscaler-x2:1:sd-x2-latent-upscaler',
  'upscaler-x4:2:x4-upscaler',
]);
await exportCheckpointPrograms(python, Object.values(checkpoints));

const prompt = 'a red fox asleep on a green hill';
const image = (name: string, width: number, height: number, phase = 0) =>
  saveImage(folder, name, initImage(width, height, phase));
const small = await image('small', 24, 16);
const square = await image('square', 17, 16, 2);
const odd = await image('odd', 21, 30, 1);
const latents = await saveTensor(folder, 'small-latents', [1, 4, 12, 8]);

const two = caseOf('the x2 upscaler', {
  options: { prompt, numInferenceSteps: 4 },
  checkpoint: checkpoints['upscaler-x2:1:sd-x2-latent-upscaler'],
  pipeline: 'StableDiffusionLatentUpscalePipeline',
  image: { files: [small] },
  seeds: 5,
});
const embeddings = {
  promptEmbeds: await saveTensor(folder, 'embeds', [1, 77, 32]),
  pooledPromptEmbeds: await saveTensor(folder, 'pooled', [1, 32]),
  negativePromptEmbeds: await saveTensor(folder, 'negative-embeds', [1, 77, 32]),
  negativePooledPromptEmbeds: await saveTensor(folder, 'negative-pooled', [1, 32]),
};
const x2 = [
  two('', {}),
  two('guidance of 0 forgets the prompt', { guidanceScale: 0 }),
  two('guidance off', { guidanceScale: 1 }),
  two('a negative prompt', { negativePrompt: 'a dog' }),
  two('a square', {}, { image: { files: [square] } }),
  two('latents', {}, { image: { tensor: latents } }),
  two('two pictures', { prompt: [prompt, 'two cats'] }, { image: { files: [small, square] } }),
  two(
    'a generator each',
    { prompt: [prompt, 'x'] },
    { image: { files: [small, square] }, seeds: [1, 2] },
  ),
  two(
    'given noise',
    {},
    { tensors: { latents: await saveTensor(folder, 'x2-noise', [1, 4, 16, 24]) } },
  ),
  two('embeddings', { prompt: undefined }, { tensors: embeddings }),
  two('latents out', {}, { output: 'latent', differsFrom: undefined }),
];

const four = caseOf('the x4 upscaler', {
  options: { prompt, numInferenceSteps: 4 },
  checkpoint: checkpoints['upscaler-x4:2:x4-upscaler'],
  pipeline: 'StableDiffusionUpscalePipeline',
  image: { files: [small] },
  seeds: 6,
});
const x4 = [
  four('', {}),
  four('guidance off', { guidanceScale: 1 }),
  four('a negative prompt', { negativePrompt: 'a dog' }),
  four('no noise', { noiseLevel: 0 }),
  four('much noise', { noiseLevel: 350 }),
  four('an odd size', {}, { image: { files: [odd] } }),
  four(
    'two pictures each',
    { prompt: [prompt, 'two cats'], numImagesPerPrompt: 2 },
    {
      image: { files: [small, odd] },
    },
  ),
  four('a generator each', { numImagesPerPrompt: 2 }, { seeds: [3, 4] }),
  four('eta', { eta: 0.5 }),
  four('clip skip', { clipSkip: 1 }),
  four('ancestral noise', {}, { scheduler: { class: 'EulerAncestralDiscreteScheduler' } }),
];

describeSuite({ subject: 'upscaling', python, folder, cases: [...x2, ...x4], remove });
