// The command line as a user meets it: a process of its own, judged by its exit code, what it prints
// and the files it leaves.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';

import {
  AutoPipelineForImage2Image,
  AutoPipelineForText2Image,
  configure,
  DDIMScheduler,
  EulerDiscreteScheduler,
  type Image,
  loadImage,
} from '../lib/index.js';
import { packageRoot } from '../lib/package-root.js';
import { type Outcome, run, start } from './cli-process.js';
import { demoModel, temporaryFolder, testImage } from './helpers.js';

// One thread here and there: sums in another order would change last bits.
configure({ threads: 1 });

const prompt = ['--prompt', 'a fox, 3d style'];
const model = ['--model', demoModel];
const small = ['--height', '32', '--width', '32'];

async function assertPicture(file: string, image: Image | undefined): Promise<void> {
  const drawn = await loadImage(file);
  assert.deepEqual([drawn.width, drawn.height], [image?.width, image?.height]);
  assert.deepEqual(Buffer.from(drawn.data), Buffer.from(image?.data ?? []));
}

test('img2img writes the picture that the library draws', async (context) => {
  const folder = temporaryFolder(context);
  const [input, output] = [join(folder, 'in.png'), join(folder, 'out.png')];
  await testImage(32, 32).save(input);
  writeFileSync(output, 'an older file');
  const { code, stdout, stderr } = await run([
    ...['img2img', ...model, ...prompt, '--negative-prompt', 'a house', '--image', input],
    ...['--strength', '0.7', '--guidance-scale', '5', '--steps', '4', '--seed', '7'],
    ...['--scheduler', 'EulerDiscreteScheduler', '--clip-skip', '1', '--output', output],
  ]);
  // No progress bar where the output is piped.
  assert.deepEqual({ code, stdout, stderr }, { code: 0, stdout: `${output}\n`, stderr: '' });
  assert.deepEqual(readdirSync(folder).sort(), ['in.png', 'out.png']);
  using pipe = await AutoPipelineForImage2Image.fromPretrained(demoModel);
  pipe.scheduler = EulerDiscreteScheduler.fromConfig(pipe.scheduler.config);
  const { images } = await pipe.generate({
    ...{ prompt: 'a fox, 3d style', negativePrompt: 'a house', image: input, strength: 0.7 },
    ...{ guidanceScale: 5, numInferenceSteps: 4, seed: 7, clipSkip: 1 },
  });
  await assertPicture(output, images[0]);
});

test('txt2img writes several pictures, numbered', async (context) => {
  const folder = temporaryFolder(context);
  const { code, stdout, stderr } = await run([
    ...['txt2img', ...model, ...prompt, ...small, '--steps', '2', '--seed', '3', '--eta', '0.5'],
    ...['--scheduler', 'DDIMScheduler', '--num-images', '2', '--output', join(folder, 'out.png')],
  ]);
  const files = [0, 1].map((i) => join(folder, `out-${i}.png`));
  assert.deepEqual(
    { code, stdout, stderr },
    { code: 0, stdout: `${files.join('\n')}\n`, stderr: '' },
  );
  assert.deepEqual(readdirSync(folder).sort(), ['out-0.png', 'out-1.png']);
  using pipe = await AutoPipelineForText2Image.fromPretrained(demoModel);
  pipe.scheduler = DDIMScheduler.fromConfig(pipe.scheduler.config);
  const { images } = await pipe.generate({
    ...{ prompt: 'a fox, 3d style', height: 32, width: 32, numInferenceSteps: 2, seed: 3 },
    ...{ eta: 0.5, numImagesPerPrompt: 2 },
  });
  for (const [i, file] of files.entries()) await assertPicture(file, images[i]);
});

test('wrong usage ends with 2, says what is wrong and leaves no file', async (context) => {
  const folder = temporaryFolder(context);
  const output = ['--output', join(folder, 'out.png')];
  const draw = ['txt2img', ...model, ...prompt];
  const cases: [string[], RegExp][] = [
    [[], /Usage: torchbrush/],
    [['img2im'], /unknown command 'img2im'\s+\(Did you mean img2img\?\)/],
    [['txt2img', ...prompt, ...output], /required option '-m, --model <checkpoint>' not specified/],
    [
      [...draw, ...output, '--steps', 'many'],
      /'-s, --steps <number>' argument 'many' is invalid.*Not a number/,
    ],
    [[...draw, ...output, '--steps', '0'], /^error: .* --steps .* 0 .*\(ERR_INVALID_ARGUMENT\)$/m],
    // Found out before anything is drawn.
    [[...draw, '--output', join(folder, 'out.gif')], /out\.gif.*ends in \.png, \.jpg/],
    [[...draw, '--output', join(folder, 'missing', 'out.png')], /There is no folder .*missing/],
  ];
  const outcomes = await Promise.all(cases.map(([args]) => run(args)));
  for (const [i, [args, says]] of cases.entries()) {
    const { code, stdout, stderr } = outcomes[i] as Outcome;
    assert.equal(code, 2, `${args.join(' ')}: ${stderr}`);
    assert.match(stderr, says);
    assert.equal(stdout, '');
  }
  assert.deepEqual(readdirSync(folder), []);
});

test('what fails ends with 1, one line and a code', async (context) => {
  const folder = temporaryFolder(context);
  const output = ['--output', join(folder, 'out.png')];
  const missing = join(folder, 'missing');
  const cases: [string[], RegExp, NodeJS.ProcessEnv?][] = [
    [
      ['txt2img', '--model', missing, ...prompt, ...output],
      /no checkpoint folder .*missing.* \(ERR_CHECKPOINT\)\n$/,
    ],
    [
      ['img2img', ...model, ...prompt, '--image', missing, ...output],
      /missing: there is no such file.* \(ERR_IMAGE\)\n$/,
    ],
    [
      ['doctor'],
      /libtorch was not found.*TORCHBRUSH_LIBTORCH.*\(ERR_LIBTORCH_NOT_FOUND\)\n$/s,
      { TORCHBRUSH_LIBTORCH: missing },
    ],
  ];
  const outcomes = await Promise.all(cases.map(([args, , env]) => run(args, { env })));
  for (const [i, [, says]] of cases.entries()) {
    const { code, stderr } = outcomes[i] as Outcome;
    assert.equal(code, 1, stderr);
    assert.match(stderr, /^error: /);
    assert.match(stderr, says);
    assert.doesNotMatch(stderr, /\n {4}at /, 'a stack is for developers');
  }
  assert.deepEqual(readdirSync(folder), []);
});

test('Ctrl-C in mid-run ends with 130 and leaves no file', async (context) => {
  const folder = temporaryFolder(context);
  const { child, ended } = start([
    ...['txt2img', ...model, ...prompt, '--steps', '999', '--output', join(folder, 'out.png')],
  ]);
  await mapped(child.pid, 'libtorch_cpu');
  await wait(500);
  child.kill('SIGINT');
  const { code, stdout, stderr } = await ended;
  assert.deepEqual({ code, stdout, stderr }, { code: 130, stdout: '', stderr: 'interrupted\n' });
  assert.deepEqual(readdirSync(folder), []);
});

test('a second Ctrl-C ends a process that does not stop', async () => {
  const interrupt = join(packageRoot, 'lib', 'cli', 'interrupt.ts');
  const program = `
    const { signal } = await import(${JSON.stringify(interrupt)});
    signal.addEventListener('abort', () => console.log('stopping'));
    setInterval(() => {}, 1000);
    console.log('busy');`;
  const args = ['--import', 'tsx', '--input-type=module', '-e', program];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  let said = '';
  for await (const chunk of child.stdout) {
    said += chunk;
    // Once for each of the two lines.
    child.kill('SIGINT');
  }
  const [code, killedBy] =
    child.exitCode === null && child.signalCode === null
      ? await once(child, 'exit')
      : [child.exitCode, child.signalCode];
  assert.deepEqual([said, code, killedBy], ['busy\nstopping\n', null, 'SIGINT']);
});

/** Waits until a process has opened a library: from then on it is at work. */
async function mapped(pid: number | undefined, library: string): Promise<void> {
  for (let tries = 0; tries < 600; tries += 1) {
    if (readFileSync(`/proc/${pid}/maps`, 'utf8').includes(library)) return;
    await wait(50);
  }
  assert.fail(`process ${pid} never opened ${library}`);
}

test('--help ends with 0', async () => {
  const [help, command] = await Promise.all([run(['--help']), run(['img2img', '--help'])]);
  assert.deepEqual([help.code, help.stderr], [0, '']);
  for (const command of [
    ...[
      'img2img',
      'txt2img',
      'upscale',
      'inspect',
      'convert',
      'export',
      'doctor',
      'bench',
      'completion',
    ],
  ]) {
    assert.match(help.stdout, new RegExp(`^  ${command}\\b`, 'm'));
  }
  assert.equal(command.code, 0);
  assert.match(command.stdout, /--strength <number>[^-]*0\.8/);
});

test('export makes nothing where the programs are there already', async () => {
  const { code, stdout, stderr } = await run(['export', demoModel, '--python', '/missing/python']);
  assert.deepEqual([code, stderr], [0, '']);
  for (const name of ['unet', 'vae', 'text_encoder']) {
    assert.match(stdout, new RegExp(`^${name}: [0-9a-f]{16} is in .* already$`, 'm'));
  }
});

test('export takes the folder of a single component', async (context) => {
  const folder = temporaryFolder(context);
  const config = { _class_name: 'ControlNetModel', cross_attention_dim: 768 };
  writeFileSync(join(folder, 'config.json'), JSON.stringify(config));
  const { code, stdout } = await run(['export', folder, '--python', '/missing/python']);
  assert.equal(code, 0);
  assert.match(stdout, /^[\w-]+: [0-9a-f]{16} is in .* already\n$/);
});

test('export without a Python that starts names the interpreter', async (context) => {
  const folder = temporaryFolder(context);
  const args = ['export', join(demoModel, 'vae'), '--force', '--python', '/missing/python'];
  const { code, stderr } = await run(args, { env: { TORCHBRUSH_PROGRAMS: folder } });
  assert.equal(code, 1);
  assert.match(stderr, /\/missing\/python could not be started.*\(ERR_EXPORT_PYTHON\)\n$/);
  assert.deepEqual(readdirSync(folder), []);
});
