// Full-size Stable Diffusion 1.4 and 1.5 folders in the published form, with random weights. Needs
// 7 GB of disk, 12 GB of memory and a few minutes, so it runs only where it is asked for.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { promisify } from 'node:util';

import { packageRoot } from '../../lib/package-root.js';
import { ensurePython } from '../../scripts/python.js';
import type { ParityCase } from './case.js';
import { checkExpected, compare } from './compare.js';
import { type DiffusersResult, runDiffusers } from './diffusers.js';
import { TorchbrushRunner } from './torchbrush.js';
import { initImage, pythonEnvironment, pythonScripts, runFolder, saveImage } from './workspace.js';

const run = promisify(execFile);

// The published configuration files are no part of this repository.
const configs =
  process.env.TORCHBRUSH_CONFIGS ?? join(packageRoot, '..', 'shared', 'spec', 'configs');

function reasonToSkip(): string | false {
  if (process.env.TORCHBRUSH_FULL_SIZE !== '1') return 'set TORCHBRUSH_FULL_SIZE=1 to run it';
  if (!existsSync(join(configs, 'weights.json'))) {
    return `${configs} has no published configurations; name their folder in TORCHBRUSH_CONFIGS`;
  }
  return false;
}

describe('full-size Stable Diffusion', { skip: reasonToSkip(), timeout: 3_600_000 }, () => {
  for (const form of ['sd14', 'sd15'] as const) {
    test(`a folder as ${form} was published draws what diffusers draws from it`, async (context) => {
      const say = (line: string) => context.diagnostic(line);
      const python = await ensurePython({ log: say });
      const { folder, remove } = await runFolder();
      const checkpoint = join(packageRoot, '.cache', 'checkpoints', `full-size-${form}`);
      const runner = new TorchbrushRunner();
      context.after(async () => {
        runner.dispose();
        await remove();
        if (process.env.TORCHBRUSH_KEEP_FULL_SIZE !== '1') {
          await rm(checkpoint, { recursive: true, force: true });
        }
      });
      if (!existsSync(checkpoint)) await make(python, form, checkpoint);
      const image = await saveImage(folder, 'init', initImage(96, 128));
      const cases = makeCases(checkpoint, image);
      const expected = await runDiffusers(python, cases, folder);
      for (const one of cases) {
        await context.test(one.name, async (subtest) => {
          await checkExpected(one, expected);
          const ours = await runner.run(one);
          const theirs = expected.get(one.name) as DiffusersResult;
          const { picture, latents } = await compare(one, theirs, ours);
          subtest.diagnostic(`largest differences: picture ${picture}, latents ${latents}`);
        });
      }
    });
  }
});

async function make(python: string, form: string, checkpoint: string): Promise<void> {
  const script = join(pythonScripts, 'make_checkpoint.py');
  const where = ['--form', form, '--configs', configs, '--output', checkpoint];
  await run(python, [script, 'full-size', ...where], { env: pythonEnvironment });
  assert.ok(existsSync(join(checkpoint, 'model_index.json')));
}

/** Both tasks from the plain files and from the fp16 ones, with few steps and small pictures. */
function makeCases(checkpoint: string, image: string): ParityCase[] {
  const options = { prompt: 'a red fox asleep on a green hill', negativePrompt: 'blurry' };
  return ([undefined, 'fp16'] as const).flatMap((variant): ParityCase[] => {
    const files = variant === undefined ? 'plain files' : `${variant} variant`;
    const shared = { checkpoint, ...(variant && { variant }), seeds: 3 };
    return [
      {
        ...shared,
        name: `text-to-image from the ${files}`,
        pipeline: 'StableDiffusionPipeline',
        options: { ...options, numInferenceSteps: 2, height: 64, width: 96 },
      },
      {
        ...shared,
        name: `image-to-image from the ${files}`,
        pipeline: 'StableDiffusionImg2ImgPipeline',
        options: { ...options, numInferenceSteps: 4, strength: 0.5 },
        image: { files: [image] },
      },
    ];
  });
}
