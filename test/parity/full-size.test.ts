// Full-size folders in the published forms, with random weights. A group needs up to 20 GB of disk,
// 16 GB of memory and a quarter of an hour, so they run only where they are asked for.
import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';

import { AutoPipelineForImage2Image, StableDiffusionImg2ImgPipeline } from '../../lib/index.js';
import { ensurePython } from '../../scripts/python.js';
import type { ParityCase } from './case.js';
import { checkExpected, compare } from './compare.js';
import { type DiffusersResult, runDiffusers } from './diffusers.js';
import {
  assertNothingLeft,
  folderOf,
  makeFolders,
  makeInputs,
  reasonToSkip,
  removeFolders,
} from './full-size-folder.js';
import { type FormGroup, formGroups } from './full-size-forms.js';
import { drawKandinsky } from './full-size-kandinsky.js';
import { say } from './suite.js';
import { TorchbrushRunner } from './torchbrush.js';
import { runFolder } from './workspace.js';

describe('full-size folders in their published forms', { timeout: 7_200_000 }, () => {
  for (const group of formGroups) {
    test(
      `${group.name} draws what diffusers draws`,
      {
        skip: reasonToSkip(group.name),
      },
      (context) => drawGroup(group, context),
    );
  }

  test(
    'kandinsky22 draws what diffusers draws',
    {
      skip: reasonToSkip('kandinsky22'),
    },
    drawKandinsky,
  );

  const inpainting = 'sd15-inpainting';
  test(`${inpainting} is refused, for its UNet takes nine channels`, {
    skip: reasonToSkip(inpainting),
  }, async (context) => {
    const folders = [{ form: inpainting }];
    context.after(() => removeFolders(folders));
    await makeFolders(await ensurePython({ log: say }), folders);
    const loads = [
      () => StableDiffusionImg2ImgPipeline.fromPretrained(folderOf(inpainting)),
      () => AutoPipelineForImage2Image.fromPretrained(folderOf(inpainting)),
    ];
    for (const load of loads) {
      await assert.rejects(load(), {
        code: 'ERR_CHECKPOINT',
        message: /the unet takes 9 channels and the vae makes 4/,
      });
    }
  });
});

async function drawGroup(group: FormGroup, context: TestContext): Promise<void> {
  const python = await ensurePython({ log: say });
  const { folder, remove } = await runFolder();
  const runner = new TorchbrushRunner();
  context.after(async () => {
    runner.dispose();
    await remove();
    await removeFolders(group.folders);
  });
  await makeFolders(python, group.folders);
  const cases = group.cases(await makeInputs(folder));
  const expected = await runDiffusers(python, cases, folder);
  let last: ParityCase['controlnet'];
  for (const one of cases) {
    await context.test(one.name, async (subtest) => {
      await checkExpected(one, expected);
      // A checkpoint with its text encoders and a ControlNet may be more than the memory.
      if (one.controlnet !== last) runner.dispose();
      last = one.controlnet;
      const theirs = expected.get(one.name) as DiffusersResult;
      const { picture, latents } = await compare(one, theirs, await runner.run(one));
      subtest.diagnostic(
        `largest differences: picture ${picture.toExponential(1)}, ` +
          `latents ${latents.toExponential(1)}; spread ${theirs.spread}, clipped ${theirs.saturated}`,
      );
    });
  }
  runner.dispose();
  assertNothingLeft();
}
