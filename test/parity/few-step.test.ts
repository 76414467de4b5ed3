// Checkpoints distilled to a few steps against diffusers: latent consistency models and Turbo.
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
const checkpoints = await makeCheckpoints(python, ['lcm:1']);
await exportCheckpointPrograms(python, Object.values(checkpoints));

const prompt = 'a red fox asleep on a green hill';
const prompts = [prompt, 'two cats'];
const picture = async (name: string, width: number, height: number, phase = 0) => ({
  files: [await saveImage(folder, name, initImage(width, height, phase))],
});
const start = await picture('start', 24, 32, 2);
const odd = await picture('odd', 41, 30, 1);
const latents = await saveTensor(folder, 'latents', [1, 4, 16, 12]);
const promptEmbeds = await saveTensor(folder, 'embeds', [1, 77, 32]);
const size = { height: 32, width: 24 };

const draw = caseOf('LCM: text-to-image', {
  checkpoint: checkpoints['lcm:1'],
  pipeline: 'LatentConsistencyModelPipeline',
  options: { prompt, ...size },
  seeds: 5,
});
const textToImage = [
  draw('', {}),
  draw('its own width', { width: undefined }),
  draw('told another scale', { guidanceScale: 2.5 }),
  draw('told the scale 1', { guidanceScale: 1 }),
  draw('one step', { numInferenceSteps: 1 }),
  draw('of 20 timesteps', { numInferenceSteps: 3, originalInferenceSteps: 20 }),
  draw('timesteps of its own', { timesteps: [999, 640, 259], numInferenceSteps: undefined }),
  draw('two prompts, a generator each', { prompt: prompts }, { seeds: [1, 2] }),
  draw('two pictures each', { prompt: prompts, numImagesPerPrompt: 2 }),
  draw('given noise', {}, { tensors: { latents } }),
  draw('embeddings', { prompt: undefined }, { tensors: { promptEmbeds } }),
  draw('clip skip', { clipSkip: 1 }),
  draw('latents out', {}, { output: 'latent', differsFrom: undefined }),
];

const redraw = caseOf('LCM: image-to-image', {
  checkpoint: checkpoints['lcm:1'],
  pipeline: 'LatentConsistencyModelImg2ImgPipeline',
  image: start,
  options: { prompt },
  seeds: 6,
});
const imageToImage = [
  redraw('', {}),
  redraw('a strength of 0.58 of 50', { strength: 0.58, numInferenceSteps: 3 }),
  redraw('of 100 timesteps', { strength: 0.3, originalInferenceSteps: 100 }),
  redraw('an odd picture', {}, { image: odd }),
  redraw('latents of another', {}, { image: { latentsOf: 'LCM: text-to-image, latents out' } }),
  redraw(
    'two pictures for each image, a generator each',
    { prompt: prompts, numImagesPerPrompt: 2 },
    { image: { files: [...start.files, ...odd.files] }, seeds: [1, 2, 3, 4] },
  ),
  redraw('given latents', {}, { tensors: { latents } }),
];

describeSuite({
  subject: 'few-step checkpoints',
  python,
  folder,
  cases: [...textToImage, ...imageToImage],
  remove,
});
