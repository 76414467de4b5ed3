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
const {
  'control:1': net,
  'control-xl:1': netXL,
  ...checkpoints
} = await makeCheckpoints(python, [
  'lcm:1',
  'xl-lcm:2',
  'turbo:3',
  'xl-turbo:1',
  'control:1',
  'control-xl:1',
]);
await exportCheckpointPrograms(python, Object.values(checkpoints), [net, netXL]);

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

// Stable Diffusion's own classes tell a distilled UNet the scale, too; image-to-image with
// ControlNets does not.
const told = caseOf('LCM in other pipelines', {
  checkpoint: checkpoints['lcm:1'],
  pipeline: 'StableDiffusionPipeline',
  options: { prompt, ...size, numInferenceSteps: 3 },
  seeds: 7,
});
const again = { pipeline: 'StableDiffusionImg2ImgPipeline', image: start } as const;
const resize = { height: undefined, width: undefined };
const control = { controlnet: net, controlImage: odd };
const controlXL = { checkpoint: checkpoints['xl-lcm:2'], controlnet: netXL };
const others = [
  told('', {}),
  told('a negative prompt is not asked', { negativePrompt: 'x' }, { differsFrom: undefined }),
  told('TCD', { eta: 0.3 }, { scheduler: { class: 'TCDScheduler' } }),
  told('image-to-image', resize, again),
  told('ControlNet', resize, { ...control, pipeline: 'StableDiffusionControlNetPipeline' }),
  told('ControlNet, image-to-image', size, {
    ...control,
    image: start,
    pipeline: 'StableDiffusionControlNetImg2ImgPipeline',
  }),
  told('XL', {}, { checkpoint: controlXL.checkpoint, pipeline: 'StableDiffusionXLPipeline' }),
  told('XL ControlNet, image-to-image', size, {
    ...controlXL,
    controlImage: odd,
    image: start,
    pipeline: 'StableDiffusionXLControlNetImg2ImgPipeline',
  }),
];

// Turbo checkpoints are drawn without guidance.
const turbo = caseOf('Turbo', {
  checkpoint: checkpoints['turbo:3'],
  pipeline: 'StableDiffusionPipeline',
  options: { prompt, height: 40, width: 24, guidanceScale: 0, numInferenceSteps: 1 },
  seeds: 8,
});
const xl = {
  checkpoint: checkpoints['xl-turbo:1'],
  pipeline: 'StableDiffusionXLPipeline',
} as const;
const xlAgain = { ...xl, pipeline: 'StableDiffusionXLImg2ImgPipeline', image: odd } as const;
const half = { ...resize, numInferenceSteps: 2, strength: 0.5 };
const tcd = { scheduler: { class: 'TCDScheduler' } };
const lcm = { scheduler: { class: 'LCMScheduler' } };
const turbos = [
  turbo('', {}),
  turbo('image-to-image', half, { ...again, image: odd }),
  turbo('TCD', { numInferenceSteps: 4, eta: 0.3 }, tcd),
  turbo('TCD, image-to-image', { ...half, numInferenceSteps: 5 }, { ...again, ...tcd }),
  turbo('XL', {}, xl),
  turbo('XL, four steps', { numInferenceSteps: 4, prompt: prompts }, xl),
  turbo('XL, image-to-image', half, xlAgain),
  turbo('XL, TCD', { numInferenceSteps: 3, eta: 1 }, { ...xl, ...tcd, seeds: [9] }),
  turbo('XL, LCM with a little guidance', { ...half, guidanceScale: 1.5 }, { ...xlAgain, ...lcm }),
];

describeSuite({
  subject: 'few-step checkpoints',
  python,
  folder,
  cases: [...textToImage, ...imageToImage, ...others, ...turbos],
  remove,
});
