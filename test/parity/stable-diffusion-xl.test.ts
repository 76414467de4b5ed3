// Stable Diffusion XL, base and refiner, against diffusers.
import { ensurePython } from '../../scripts/python.js';
import { describeSuite, say } from './suite.js';
import {
  exportCheckpointPrograms,
  initImage,
  makeCheckpoints,
  runFolder,
  saveImage,
  saveTensor,
} from './workspace.js';
import { xlCases } from './xl-cases.js';

const python = await ensurePython({ log: say });
const { folder, remove } = await runFolder();
const checkpoints = await makeCheckpoints(python, [
  'xl-base:1',
  'xl-base:2:sdxl-base',
  'xl-base:2:sdxl-turbo',
  'xl-refiner:3:sdxl-refiner',
]);
await exportCheckpointPrograms(python, Object.values(checkpoints));

const image = (name: string, width: number, height: number, phase = 0) =>
  saveImage(folder, name, initImage(width, height, phase));
const cases = xlCases({
  base: checkpoints['xl-base:1'],
  other: checkpoints['xl-base:2:sdxl-base'],
  half: checkpoints['xl-base:2:sdxl-turbo'],
  refiner: checkpoints['xl-refiner:3:sdxl-refiner'],
  images: [await image('small', 24, 32), await image('second', 41, 30, 1)],
  promptEmbeds: await saveTensor(folder, 'xl-embeddings', [2, 77, 80]),
  negativePromptEmbeds: await saveTensor(folder, 'xl-negative', [2, 77, 80]),
  pooledPromptEmbeds: await saveTensor(folder, 'xl-pooled', [2, 24]),
  negativePooledPromptEmbeds: await saveTensor(folder, 'xl-negative-pooled', [2, 24]),
  latents: await saveTensor(folder, 'xl-latents', [1, 4, 16, 12]),
});

describeSuite({ subject: 'Stable Diffusion XL', python, folder, cases, remove });
