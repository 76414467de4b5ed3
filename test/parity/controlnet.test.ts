// ControlNets with Stable Diffusion and Stable Diffusion XL against diffusers.
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
  'two-levels:1',
  'two-levels:1:sd15',
  'xl-base:1',
  'xl-refiner:3',
]);
const nets = await makeCheckpoints(python, [
  'control:1',
  'control:1:controlnet-sd15-depth',
  'control:2:controlnet-sd15-canny',
  'control-bgr:1',
  'control-pool:3',
  'control-xl:1',
  'control-xl:2',
  'control-refiner:1',
]);
await exportCheckpointPrograms(python, Object.values(checkpoints), Object.values(nets));

const prompt = 'a red fox asleep on a green hill';
const prompts = [prompt, 'two cats'];
const picture = async (name: string, width: number, height: number, phase = 0) => ({
  files: [await saveImage(folder, name, initImage(width, height, phase))],
});
const start = await picture('start', 24, 32, 2);
const edges = await picture('edges', 24, 32);
const pose = await picture('pose', 24, 32, 1);
const odd = await picture('odd', 37, 29, 3);
const both = { files: [...edges.files, ...pose.files] };
const pixels = {
  file: (await saveTensor(folder, 'pixels', [2, 3, 32, 24], 0.2, 0.5)).file,
  shape: [2, 3, 32, 24],
};
const latents = await saveTensor(folder, 'latents', [1, 4, 16, 12]);

const several = {
  controlnet: [nets['control:1'], nets['control:2:controlnet-sd15-canny']],
  controlImage: [edges, pose],
};
const pooled = { controlnet: nets['control-pool:3'] };
const eachNet = {
  controlnetConditioningScale: [0.9, 0.4],
  controlGuidanceStart: [0, 0.5],
  controlGuidanceEnd: [0.6, 1],
};

const draw = caseOf('ControlNet: text-to-image', {
  checkpoint: checkpoints['two-levels:1'],
  pipeline: 'StableDiffusionControlNetPipeline',
  controlnet: nets['control:1'],
  controlImage: edges,
  options: { prompt, numInferenceSteps: 4 },
  seeds: 5,
});
const textToImage = [
  draw('', {}),
  draw('a scale of 0.4', { controlnetConditioningScale: 0.4 }),
  draw('a scale of 0', { controlnetConditioningScale: 0 }),
  draw('from a third on', { controlGuidanceStart: 0.35 }),
  draw('up to the middle', { controlGuidanceEnd: 0.5 }),
  draw('guess mode', { guessMode: true, guidanceScale: 3 }),
  draw('guess mode without guidance', { guessMode: true, guidanceScale: 1 }),
  draw('guidance off', { guidanceScale: 1 }),
  draw('pooled over the area', {}, pooled),
  draw('blue first', {}, { controlnet: nets['control-bgr:1'] }),
  draw('a size of its own', { height: 30, width: 21 }, { controlImage: odd }),
  draw('an odd picture', {}, { controlImage: odd }),
  draw(
    'two prompts, two pictures each',
    { prompt: prompts, negativePrompt: ['x', 'a dog'], numImagesPerPrompt: 2 },
    { controlImage: both },
  ),
  draw(
    'a tensor, a generator each',
    { prompt: prompts },
    { controlImage: { tensor: pixels }, seeds: [1, 2] },
  ),
  draw('given latents', {}, { tensors: { latents } }),
  draw(
    'fp16 variants',
    {},
    {
      checkpoint: checkpoints['two-levels:1:sd15'],
      controlnet: nets['control:1:controlnet-sd15-depth'],
      variant: 'fp16',
      differsFrom: undefined,
    },
  ),
  draw('two nets', {}, several),
  draw('two nets, each its own way', eachNet, several),
  draw('two nets, guess mode', { guessMode: true }, several),
  draw(
    'two nets, a pair for each prompt',
    { prompt: prompts },
    {
      ...several,
      controlImage: [
        { files: [...edges.files, ...pose.files] },
        { files: [...pose.files, ...start.files] },
      ],
    },
  ),
  draw(
    'one net in a list',
    { controlGuidanceEnd: [0.7] },
    {
      controlnet: [nets['control:2:controlnet-sd15-canny']],
      controlImage: [pose],
    },
  ),
  draw(
    'a pooled net second of two',
    {},
    {
      controlnet: [nets['control:1'], nets['control-pool:3']],
      controlImage: [edges, pose],
    },
  ),
];

const redraw = caseOf('ControlNet: image-to-image', {
  checkpoint: checkpoints['two-levels:1'],
  pipeline: 'StableDiffusionControlNetImg2ImgPipeline',
  controlnet: nets['control:1'],
  controlImage: edges,
  image: start,
  options: { prompt, numInferenceSteps: 5 },
  seeds: 6,
});
const imageToImage = [
  redraw('', {}),
  redraw('a strength of 0.4', { strength: 0.4 }),
  redraw('a full scale, part of the time', {
    controlnetConditioningScale: 1,
    controlGuidanceStart: 0.2,
    controlGuidanceEnd: 0.8,
  }),
  redraw('guess mode', { guessMode: true }),
  redraw('resized', { height: 24, width: 40 }, { controlImage: odd }),
  redraw(
    'two nets, two pictures, a generator each',
    { ...eachNet, numImagesPerPrompt: 2 },
    {
      ...several,
      seeds: [3, 4],
    },
  ),
  redraw('given latents', {}, { tensors: { latents } }),
  redraw('ancestral noise', {}, { scheduler: { class: 'EulerAncestralDiscreteScheduler' } }),
];

const xl = caseOf('XL ControlNet: text-to-image', {
  checkpoint: checkpoints['xl-base:1'],
  pipeline: 'StableDiffusionXLControlNetPipeline',
  controlnet: nets['control-xl:1'],
  controlImage: edges,
  options: { prompt, numInferenceSteps: 4 },
  seeds: 7,
});
const severalXL = {
  controlnet: [nets['control-xl:1'], nets['control-xl:2']],
  controlImage: [edges, pose],
};
const negativeSizes = { negativeOriginalSize: [128, 64], negativeTargetSize: [512, 512] };
const xlTextToImage = [
  xl('', {}),
  xl('guess mode, rows in turn', { ...negativeSizes, guessMode: true, numImagesPerPrompt: 2 }),
  xl('sizes', { ...negativeSizes, originalSize: [512, 384], cropsCoordsTopLeft: [16, 8] }),
  xl('two nets, each its own way', eachNet, severalXL),
  xl('guidance off', { guidanceScale: 1 }),
  xl('stopped early', { denoisingEnd: 0.6, controlGuidanceEnd: 0.5 }, { output: 'latent' }),
  xl(
    'a solver, a negative prompt',
    { negativePrompt: 'a dog' },
    {
      scheduler: { class: 'DPMSolverMultistepScheduler' },
    },
  ),
];

const xlRedraw = caseOf('XL ControlNet: image-to-image', {
  checkpoint: checkpoints['xl-base:1'],
  pipeline: 'StableDiffusionXLControlNetImg2ImgPipeline',
  controlnet: nets['control-xl:1'],
  controlImage: edges,
  image: start,
  options: { prompt, numInferenceSteps: 5 },
  seeds: 8,
});
const xlImageToImage = [
  xlRedraw('', {}),
  xlRedraw('guess mode, sizes', { ...negativeSizes, guessMode: true, originalSize: [99, 77] }),
  xlRedraw('two nets, two pictures', { numImagesPerPrompt: 2 }, severalXL),
  xlRedraw('resized, other strength', { height: 24, width: 40, strength: 0.5 }),
  xlRedraw('given latents', {}, { tensors: { latents } }),
  // Without sizes diffusers trips over their type, where there are scores.
  xlRedraw(
    'the refiner',
    { originalSize: [32, 24], aestheticScore: 8, negativePrompt: 'a dog' },
    { checkpoint: checkpoints['xl-refiner:3'], controlnet: nets['control-refiner:1'] },
  ),
];

describeSuite({
  subject: 'ControlNets',
  python,
  folder,
  cases: [...textToImage, ...imageToImage, ...xlTextToImage, ...xlImageToImage],
  remove,
});
