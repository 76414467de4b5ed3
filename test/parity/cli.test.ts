// The command line on small random checkpoints of every kind: it draws what the library draws, and
// what it converts is a checkpoint for diffusers, too.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import {
  ControlNetModel,
  configure,
  type Image,
  loadImage,
  StableDiffusionControlNetImg2ImgPipeline,
  StableDiffusionLatentUpscalePipeline,
  StableDiffusionUpscalePipeline,
  StableDiffusionXLImg2ImgPipeline,
  StableDiffusionXLPipeline,
} from '../../lib/index.js';
import { ensurePython } from '../../scripts/python.js';
import { jsonLines, run } from '../cli-process.js';
import { caseOf } from './case.js';
import { describeSuite, say } from './suite.js';
import {
  exportCheckpointPrograms,
  initImage,
  makeCheckpoints,
  pythonEnvironment,
  runFolder,
  saveImage,
} from './workspace.js';

configure({ threads: 1 });

const python = await ensurePython({ log: say });
const { folder, remove } = await runFolder();
const checkpoints = await makeCheckpoints(python, [
  ...(['two-levels:1', 'three-levels:3', 'xl-base:1', 'xl-refiner:3'] as const),
  ...(['upscaler-x2:1:sd-x2-latent-upscaler', 'upscaler-x4:2:x4-upscaler'] as const),
]);
const nets = await makeCheckpoints(python, ['control:1', 'control:2:controlnet-sd15-canny']);
const plain = checkpoints['three-levels:3'];
const script = fileURLToPath(new URL('files/write_files.py', import.meta.url));
await promisify(execFile)(python, [script, plain, folder], { env: pythonEnvironment });
await exportCheckpointPrograms(python, Object.values(checkpoints), Object.values(nets));

const prompt = 'a red fox asleep on a green hill';
const small = await saveImage(folder, 'small', initImage(24, 16));
const start = await saveImage(folder, 'start', initImage(24, 32, 2));
const edges = await saveImage(folder, 'edges', initImage(24, 32));
const pose = await saveImage(folder, 'pose', initImage(24, 32, 1));

/** Runs a command and gives the one picture that it has written. */
async function drawn(name: string, args: string[]): Promise<Image> {
  const file = join(folder, `${name}.png`);
  const outcome = await run([...args, '-p', prompt, '--seed', '5', '--steps', '4', '-o', file]);
  assert.deepEqual([outcome.code, outcome.stderr, outcome.stdout], [0, '', `${file}\n`]);
  return await loadImage(file);
}

function assertSame(one: Image, other: Image): void {
  assert.deepEqual([one.width, one.height], [other.width, other.height]);
  assert.deepEqual(Buffer.from(one.data), Buffer.from(other.data));
}

const common = { prompt, seed: 5, numInferenceSteps: 4 };

describe('the command line draws what the library draws', () => {
  test('upscale, twice', async () => {
    const model = checkpoints['upscaler-x2:1:sd-x2-latent-upscaler'];
    const picture = await drawn('x2', ['upscale', '-m', model, '-i', small, '-g', '0']);
    assert.deepEqual([picture.width, picture.height], [48, 32]);
    using pipe = await StableDiffusionLatentUpscalePipeline.fromPretrained(model);
    const { images } = await pipe.generate({ ...common, image: small, guidanceScale: 0 });
    assertSame(picture, images[0]);
  });

  test('upscale, four times', async () => {
    const model = checkpoints['upscaler-x4:2:x4-upscaler'];
    const picture = await drawn('x4', [
      ...['upscale', '-m', model, '-i', small, '--noise-level', '30', '-n', 'a dog'],
    ]);
    assert.deepEqual([picture.width, picture.height], [96, 64]);
    using pipe = await StableDiffusionUpscalePipeline.fromPretrained(model);
    const options = { ...common, image: small, noiseLevel: 30, negativePrompt: 'a dog' };
    const { images } = await pipe.generate(options);
    assertSame(picture, images[0]);
  });

  test('the x2 upscaler takes no noise level', async () => {
    const outcome = await run([
      ...['upscale', '-m', checkpoints['upscaler-x2:1:sd-x2-latent-upscaler'], '-i', small],
      ...['--noise-level', '3', '-o', join(folder, 'none.png')],
    ]);
    assert.equal(outcome.code, 2);
    assert.match(outcome.stderr, /takes no --noise-level/);
  });

  test('img2img with two ControlNets', async () => {
    const controls = Object.values(nets);
    const model = checkpoints['two-levels:1'];
    const picture = await drawn('control', [
      ...['img2img', '-m', model, '-i', start, '--controlnet-scale', '0.9,0.4'],
      ...['--control-image', edges, '--control-image', pose, '--control-end', '0.6,1'],
      ...controls.flatMap((path) => ['--controlnet', path]),
    ]);
    const options = { dtype: 'float32', device: 'cpu' } as const;
    const controlnet: ControlNetModel[] = [];
    for (const path of controls) {
      controlnet.push(await ControlNetModel.fromPretrained(path, options));
    }
    using pipe = await StableDiffusionControlNetImg2ImgPipeline.fromPretrained(model, {
      controlnet,
    });
    const { images } = await pipe.generate({
      ...{ ...common, image: start, controlImage: [edges, pose] },
      ...{ controlnetConditioningScale: [0.9, 0.4], controlGuidanceEnd: [0.6, 1] },
    });
    for (const net of controlnet) net.dispose();
    assertSame(picture, images[0]);
  });

  test('txt2img with a refiner for the last steps', async () => {
    const [base, refiner] = [checkpoints['xl-base:1'], checkpoints['xl-refiner:3']];
    const picture = await drawn('refined', [
      ...['txt2img', '-m', base, '--refiner', refiner, '--refiner-start', '0.5'],
      ...['--height', '32', '--width', '32', '--prompt-2', 'a hill'],
    ]);
    using first = await StableDiffusionXLPipeline.fromPretrained(base);
    using second = await StableDiffusionXLImg2ImgPipeline.fromPretrained(refiner);
    const size = { height: 32, width: 32, prompt2: 'a hill', denoisingEnd: 0.5 };
    const { images: half } = await first.generate({ ...common, ...size, outputType: 'latent' });
    using latents = half;
    const { images } = await second.generate({ ...common, image: latents, denoisingStart: 0.5 });
    assertSame(picture, images[0]);
  });

  test('txt2img from a single file', async () => {
    const size = ['--height', '24', '--width', '32'];
    const file = join(folder, 'single', 'clip.safetensors');
    const picture = await drawn('file', ['txt2img', '-m', file, '--config', plain, ...size]);
    assertSame(picture, await drawn('plain', ['txt2img', '-m', plain, ...size]));
  });
});

describe('inspect knows', () => {
  const cases: [path: string, args: string[], report: Record<string, unknown>][] = [
    [
      join(folder, 'single', 'clip.safetensors'),
      ['--config', plain],
      { kind: 'checkpoint', form: 'file', className: 'StableDiffusionPipeline', ready: true },
    ],
    [nets['control:1'], [], { kind: 'network', className: 'ControlNetModel', ready: true }],
    [
      checkpoints['upscaler-x4:2:x4-upscaler'],
      [],
      { className: 'StableDiffusionUpscalePipeline', commands: ['upscale'], ready: true },
    ],
    [join(folder, 'bin'), [], { kind: 'checkpoint', form: 'folder', ready: true }],
  ];
  for (const [path, args, expected] of cases) {
    test(`${expected.className ?? 'a folder with .bin files'} ${expected.form ?? ''}`, async () => {
      const { code, stdout, stderr } = await run(['inspect', path, ...args, '--json']);
      assert.deepEqual([code, stderr], [0, '']);
      const report = JSON.parse(stdout) as Record<string, unknown>;
      for (const [name, value] of Object.entries(expected)) assert.deepEqual(report[name], value);
    });
  }
});

const converted = {
  file: ['single/clip.safetensors', '--config', plain],
  pickled: ['single/clip-pickled.ckpt', '--config', plain],
  openClip: ['single/open-clip.safetensors', '--config', plain],
  bin: ['bin'],
  shards: ['shards'],
  half: ['bin', '--dtype', 'float16'],
};
const folders = new Map<string, string>();
for (const [name, [source = '', ...args]] of Object.entries(converted)) {
  const target = join(folder, `converted-${name}`);
  const outcome = await run(['convert', join(folder, source), target, ...args, '--json']);
  if (outcome.code !== 0) throw new Error(outcome.stderr);
  const [line] = jsonLines(outcome);
  assert.equal(line?.folder, target);
  folders.set(name, target);
}

describe('converted folders', () => {
  test('hold one safetensors file for each network, and no other weights', () => {
    for (const target of folders.values()) {
      assert.deepEqual(readdirSync(join(target, 'unet')).sort(), [
        'config.json',
        'diffusion_pytorch_model.safetensors',
      ]);
      assert.deepEqual(readdirSync(join(target, 'text_encoder')).sort(), [
        'config.json',
        'model.safetensors',
      ]);
      assert.ok(existsSync(join(target, 'tokenizer')));
    }
    const temporary = readdirSync(folder).filter((name) => name.endsWith('.tmp'));
    assert.deepEqual(temporary, []);
  });

  test('draw the same picture', async () => {
    const size = ['--height', '24', '--width', '32'];
    const expected = await drawn('expected', ['txt2img', '-m', plain, ...size]);
    for (const [name, target] of folders) {
      if (name === 'half') continue;
      assertSame(await drawn(name, ['txt2img', '-m', target, ...size]), expected);
    }
  });

  test('a ControlNet in one file becomes the folder of a ControlNet', async () => {
    const target = join(folder, 'converted-control');
    const config = join(folder, 'single', 'controlnet-config', 'controlnet');
    const source = join(folder, 'single', 'controlnet.safetensors');
    const { code, stderr } = await run(['convert', source, target, '--config', config]);
    assert.deepEqual([code, stderr], [0, '']);
    const program = `
import sys
from diffusers import ControlNetModel
a, b = (ControlNetModel.from_pretrained(path).state_dict() for path in sys.argv[1:])
assert a.keys() == b.keys() and all((a[k] == b[k]).all() for k in a)`;
    await promisify(execFile)(python, ['-c', program, target, config], { env: pythonEnvironment });
  });
});

const draw = caseOf('converted', {
  checkpoint: folders.get('file') as string,
  pipeline: 'StableDiffusionPipeline',
  options: { prompt, numInferenceSteps: 3, height: 24, width: 32 },
  seeds: 5,
});
describeSuite({
  subject: 'converted checkpoints',
  python,
  folder,
  cases: [...folders].map(([name, checkpoint]) => ({
    ...draw('', {}),
    name: `converted: ${name}`,
    checkpoint,
  })),
  remove,
});
