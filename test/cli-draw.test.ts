// What the drawing commands can do besides one picture: many of them, adapters, previews, reports.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';

import {
  AutoPipelineForImage2Image,
  AutoPipelineForText2Image,
  configure,
  DDIMScheduler,
  type Image,
  loadImage,
} from '../lib/index.js';
import { array, someLayers, write } from './adapter-files.js';
import { jsonLines, type Outcome, run, start } from './cli-process.js';
import { demoModel, temporaryFolder, testImage } from './helpers.js';

// One thread here and there: sums in another order would change last bits.
configure({ threads: 1 });

const text = ['txt2img', '--model', 'demo', '--height', '32', '--width', '32', '--steps', '2'];
const image = ['img2img', '--model', 'demo', '--steps', '4'];

async function assertPicture(file: string, expected: Image | undefined): Promise<void> {
  const { width, height, data } = await loadImage(file);
  assert.deepEqual([width, height], [expected?.width, expected?.height]);
  assert.deepEqual(Buffer.from(data), Buffer.from(expected?.data ?? []), file);
}

function assertDone({ code, stderr }: Outcome): void {
  assert.deepEqual([code, stderr], [0, '']);
}

describe('several pictures in one load', () => {
  test('every input of a pattern is drawn as if it were alone', async (context) => {
    const folder = temporaryFolder(context);
    for (const [i, side] of [32, 48].entries()) {
      await testImage(side, 32).save(join(folder, `in${i}.png`));
    }
    const outcome = await run([
      ...[...image, '-i', join(folder, 'in*.png'), '-p', 'a fox', '--seed', '5,9', '--json'],
      ...['--batch', '2', '-o', join(folder, '{name}-{seed}.webp'), '--quality', '80'],
    ]);
    assertDone(outcome);
    const lines = jsonLines(outcome);
    const pictures = lines.filter(({ type }) => type === 'image');
    assert.deepEqual(
      pictures.map(({ file }) => file).sort(),
      ['in0-5', 'in0-9', 'in1-5', 'in1-9'].map((name) => join(folder, `${name}.webp`)),
    );
    const done = lines.at(-1) ?? {};
    assert.deepEqual(
      [done.type, done.images, done.failed, done.pipeline, done.scheduler, done.dtype],
      ['done', 4, 0, 'StableDiffusionImg2ImgPipeline', 'DDIMScheduler', 'float32'],
    );
    using pipe = await AutoPipelineForImage2Image.fromPretrained(demoModel);
    const { images } = await pipe.generate({
      ...{ prompt: 'a fox', image: join(folder, 'in1.png'), seed: 9, numInferenceSteps: 4 },
    });
    // As bytes: two drawn at the same time may differ in their last bits.
    const drawn = await loadImage(join(folder, 'in1-9.webp'));
    const expected = await loadImage(await images[0].toBuffer('webp', { quality: 80 }));
    const differences = drawn.data.map((value, i) => Math.abs(value - (expected.data[i] ?? 0)));
    assert.ok(Math.max(...differences) <= 8, `${Math.max(...differences)}`);
  });

  test('an input that is no picture is told, and the others are drawn', async (context) => {
    const folder = temporaryFolder(context);
    writeFileSync(join(folder, 'a.png'), 'no picture');
    await testImage(32, 32).save(join(folder, 'b.png'));
    const outcome = await run([
      ...[...image, '-i', folder, '-p', 'a fox', '--json', '-o', join(folder, 'new-{name}.png')],
    ]);
    assert.equal(outcome.code, 1);
    assert.match(outcome.stderr, /^error: .*a\.png.*\(ERR_IMAGE\)\n1 of 2 pictures failed\n$/);
    assert.deepEqual(
      jsonLines(outcome).map(({ type, code, images }) => [type, code ?? images]),
      [
        ['error', 'ERR_IMAGE'],
        ['image', undefined],
        ['done', 1],
      ],
    );
    assert.deepEqual(readdirSync(folder).sort(), ['a.png', 'b.png', 'new-b.png']);
  });

  test('prompts come from standard input, negative ones beside them', async (context) => {
    const folder = temporaryFolder(context);
    const outcome = await run(
      [
        ...[...text, '--prompt-file', '-', '-n', 'red', '-n', 'green', '--seed', '3'],
        ...['--scheduler', 'DDIMScheduler', '--scheduler-config', 'timestepSpacing=trailing'],
        ...['-o', join(folder, '{prompt}.png')],
      ],
      { input: '# animals\na fox\n\n  an owl \n' },
    );
    assertDone(outcome);
    const file = join(folder, 'an-owl.png');
    assert.equal(outcome.stdout, `${join(folder, 'a-fox.png')}\n${file}\n`);
    using pipe = await AutoPipelineForText2Image.fromPretrained(demoModel);
    const overrides = { timestepSpacing: 'trailing' } as const;
    pipe.scheduler = DDIMScheduler.fromConfig(pipe.scheduler.config, overrides);
    const { images } = await pipe.generate({
      ...{ prompt: 'an owl', negativePrompt: 'green', seed: 3, numInferenceSteps: 2 },
      ...{ height: 32, width: 32 },
    });
    await assertPicture(file, images[0]);
  });

  test('what is there already is left out, and the rest is as before', async (context) => {
    const folder = temporaryFolder(context);
    const args = [...text, '-p', 'a fox', '--seed', '1..2', '-o', join(folder, '{seed}.png')];
    writeFileSync(join(folder, '1.png'), 'kept');
    const outcome = await run([...args, '--skip-existing']);
    assertDone(outcome);
    assert.equal(outcome.stdout, `${join(folder, '2.png')}\n`);
    assert.equal(readFileSync(join(folder, '1.png'), 'utf8'), 'kept');
  });

  test('a random seed is told, and draws the same picture again', async (context) => {
    const folder = temporaryFolder(context);
    const first = await run([...text, '-p', 'a fox', '--json', '-o', join(folder, 'a.png')]);
    const [line = {}] = jsonLines(first);
    const again = [...text, '-p', 'a fox', '--seed', `${line.seed}`, '-o', join(folder, 'b.png')];
    assertDone(await run(again));
    await assertPicture(join(folder, 'b.png'), await loadImage(join(folder, 'a.png')));
  });
});

test('adapters and weighted prompts go into the picture', async (context) => {
  const folder = temporaryFolder(context);
  const lora = write(folder, 'lora', someLayers(1));
  const word = write(folder, 'word', { '<x>': array([2, 128], 3, 0.05) });
  const outcome = await run([
    ...[...text, '-p', 'a (<y>)1.3', '--weighting', 'compel', '--seed', '3'],
    ...['--lora', `${lora}:0.5`, '--lora', lora, '--textual-inversion', `<y>=${word}`],
    ...['-o', join(folder, 'o.png')],
  ]);
  assertDone(outcome);
  using pipe = await AutoPipelineForText2Image.fromPretrained(demoModel);
  const options = { prompt: 'a (<y>)1.3', weighting: 'compel', seed: 3 } as const;
  const size = { height: 32, width: 32, numInferenceSteps: 2 };
  const { images: plain } = await pipe.generate({ ...options, ...size });
  await pipe.loadLoraWeights(lora, { adapterName: 'a' });
  await pipe.loadLoraWeights(lora, { adapterName: 'b' });
  await pipe.setAdapters(['a', 'b'], [0.5, 1]);
  await pipe.loadTextualInversion(word, { token: '<y>' });
  const { images } = await pipe.generate({ ...options, ...size });
  assert.notDeepEqual(images[0].data, plain[0].data);
  await assertPicture(join(folder, 'o.png'), images[0]);
});

test('pictures are resized before they are redrawn', async (context) => {
  const folder = temporaryFolder(context);
  await testImage(96, 48).save(join(folder, 'in.png'));
  const args = [...image, '-i', join(folder, 'in.png'), '-p', 'a fox', '--height', '32'];
  const outcome = await run([...args, '-o', join(folder, 'out.png')]);
  assertDone(outcome);
  const { width, height } = await loadImage(join(folder, 'out.png'));
  assert.deepEqual([width, height], [64, 32]);
});

test('the preview is a whole picture at every moment, in the end the finished one', async (context) => {
  const folder = temporaryFolder(context);
  const preview = join(folder, 'now.png');
  const args = ['-p', 'a fox', '--steps', '40', '--seed', '1', '--preview', preview];
  const { ended } = start([
    ...['txt2img', '-m', 'demo', ...args, '--preview-every', '2', '-o', join(folder, 'out.png')],
  ]);
  const seen = new Set<string>();
  let isRunning = true;
  const outcome = ended.finally(() => {
    isRunning = false;
  });
  while (isRunning) {
    await wait(10);
    if (!readdirSync(folder).includes('now.png')) continue;
    const bytes = readFileSync(preview);
    await loadImage(bytes);
    seen.add(createHash('sha256').update(bytes).digest('hex'));
  }
  assertDone(await outcome);
  assert.ok(seen.size >= 3, `${seen.size} previews`);
  await assertPicture(preview, await loadImage(join(folder, 'out.png')));
});

test('a picture goes to standard output', async (context) => {
  const folder = temporaryFolder(context);
  const args = [...text, '-p', 'a fox', '--seed', '1'];
  assertDone(await run([...args, '-o', join(folder, 'o.png')]));
  const { child, ended } = start([...args, '-o', '-']);
  const chunks: Buffer[] = [];
  child.stdout?.on('data', (chunk: Buffer) => chunks.push(chunk));
  const { code, stderr } = await ended;
  assert.deepEqual([code, stderr], [0, '']);
  assert.deepEqual(Buffer.concat(chunks), readFileSync(join(folder, 'o.png')));
});

describe('wrong usage', () => {
  const cases: [what: string, args: string[], says: RegExp][] = [
    ['no prompt', [...text], /Expected --prompt or --prompt-file but received neither/],
    [
      'a pattern without files',
      [...image, '-p', 'x', '-i', 'none/*.png'],
      /none\/\*\.png holds none/,
    ],
    ['an unknown placeholder', [...text, '-p', 'x', '-o', '{nam}.png'], /\{nam\}/],
    [
      'an option of another family',
      [...text, '-p', 'x', '--prompt-2', 'y'],
      /no --prompt-2\. Leave/,
    ],
    ['a strength above 1', [...image, '-p', 'x', '-i', 'IN', '--strength', '2'], /for --strength/],
    [
      'a ControlNet without its picture',
      [...text, '-p', 'x', '--controlnet', 'c'],
      /--control-image/,
    ],
    [
      'an upscaler that is none',
      ['upscale', '-m', 'demo', '-i', 'IN'],
      /no upscaler.*sd-x2-latent/,
    ],
    [
      'a picture over its input',
      [...image, '-p', 'x', '-i', 'IN', '-o', 'IN'],
      /replace the input/,
    ],
  ];
  for (const [what, args, says] of cases) {
    test(`${what} is refused`, async (context) => {
      const input = join(temporaryFolder(context), 'in.png');
      await testImage(32, 32).save(input);
      const output = args.includes('-o') ? [] : ['-o', `${input}-out.png`];
      const words = args.map((word) => (word === 'IN' ? input : word));
      const outcome = await run([...words, ...output, '--json']);
      assert.equal(outcome.code, what.startsWith('an upscaler') ? 1 : 2, outcome.stderr);
      assert.match(outcome.stderr, /^error: /);
      assert.match(outcome.stderr, says);
      const [error = {}] = jsonLines(outcome);
      assert.equal(error.type, 'error');
      assert.match(String(error.code), /^ERR_/);
    });
  }
});

test('help and completion open neither libtorch nor sharp', async (context) => {
  const spy = join(temporaryFolder(context), 'spy.mjs');
  writeFileSync(
    spy,
    `process.on('exit', () => {
      const { sharedObjects } = process.report.getReport();
      console.error('opened', sharedObjects.filter((name) => /torch|sharp|vips/.test(name)).length);
    });`,
  );
  const env = { NODE_OPTIONS: `--import ${spy}` };
  for (const words of [['--help'], ['img2img', '--help'], ['completion', 'bash'], ['imgimg']]) {
    const { stderr } = await run(words, { env });
    assert.match(stderr, /^opened 0$/m, words.join(' '));
  }
  const output = join(temporaryFolder(context), 'out.png');
  const drawing = ['txt2img', '--model', 'demo', '-p', 'fox', '--steps', '1', '-o', output];
  const { stderr } = await run(drawing, { env });
  assert.match(stderr, /^opened [1-9]/m, 'what is asserted above can be told at all');
});
