// The parts of the command line that need no process: names, patterns, values, bars, completion.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

import { findInputs, matches, perPrompt } from '../lib/cli/inputs.js';
import { outputNames } from '../lib/cli/output-names.js';
import { buildProgram } from '../lib/cli/program.js';
import { byteCount, clock, Progress } from '../lib/cli/progress.js';
import { scaledFiles, seeds, settings, tokenFiles } from '../lib/cli/values.js';
import { InvalidArgumentError } from '../lib/errors.js';
import { schedulerClass, schedulerNames } from '../lib/index.js';
import { temporaryFolder } from './helpers.js';

test('seeds are numbers, lists and ranges, also larger ones than a number holds', () => {
  assert.deepEqual(seeds('7'), [7n]);
  assert.deepEqual(seeds('1,2, 9'), [1n, 2n, 9n]);
  assert.deepEqual(seeds('3..5', [1n]), [1n, 3n, 4n, 5n]);
  assert.deepEqual(seeds('-1'), [-1n]);
  assert.deepEqual(seeds('18446744073709551615'), [2n ** 64n - 1n]);
  for (const text of ['', 'x', '1.5', '5..3', '1..', '0..99999', '1,']) {
    assert.throws(() => seeds(text), /Expected/, text);
  }
});

test('files are read with what stands beside them', () => {
  assert.deepEqual(scaledFiles('a.safetensors'), [{ path: 'a.safetensors', scale: 1 }]);
  assert.deepEqual(scaledFiles('org/name:0.5'), [{ path: 'org/name', scale: 0.5 }]);
  assert.deepEqual(scaledFiles('c:x.safetensors:-1'), [{ path: 'c:x.safetensors', scale: -1 }]);
  assert.deepEqual(tokenFiles('<cat>=cat.pt'), [{ path: 'cat.pt', token: '<cat>' }]);
  assert.deepEqual(tokenFiles('cat.pt'), [{ path: 'cat.pt', token: undefined }]);
  assert.deepEqual(settings('useKarrasSigmas=true', { a: 1 }), { a: 1, useKarrasSigmas: true });
  assert.deepEqual(settings('timestepSpacing=trailing'), { timestepSpacing: 'trailing' });
  assert.throws(() => settings('useKarrasSigmas'), /Expected name=value/);
});

test('patterns find files as a shell does, numbers in order', (context) => {
  const folder = temporaryFolder(context);
  mkdirSync(join(folder, 'deep', 'er'), { recursive: true });
  for (const name of ['a10.png', 'a2.png', 'b.jpg', '.hidden.png', 'x[1].png', 'deep/er/c.png']) {
    writeFileSync(join(folder, name), '');
  }
  symlinkSync('..', join(folder, 'deep', 'up'));
  const found = (pattern: string) =>
    matches(join(folder, pattern)).map((path) => path.slice(folder.length + 1));
  assert.deepEqual(found('*.png'), ['a2.png', 'a10.png', 'x[1].png']);
  assert.deepEqual(found('a?.png'), ['a2.png']);
  assert.deepEqual(found('[!a]*.*'), ['b.jpg', 'x[1].png']);
  // Without end, through the link that leads back.
  assert.deepEqual(found('**/*.png'), ['a2.png', 'a10.png', 'deep/er/c.png', 'x[1].png']);
  assert.deepEqual(found('d*/er/*'), ['deep/er/c.png']);
  assert.deepEqual(found('missing/*'), []);
  writeFileSync(join(folder, 'notes.txt'), '');
  const names = (value: string) => findInputs([join(folder, value)]).map(({ name }) => name);
  assert.deepEqual(names('.'), ['a2', 'a10', 'b', 'x[1]'], 'a folder means its pictures');
  assert.deepEqual(names('x[1].png'), ['x[1]'], 'a file that is there is no pattern');
  assert.throws(() => names('*.webp'), InvalidArgumentError);
  assert.deepEqual(findInputs(['https://example.org/p/house.png?x=1'])[0]?.name, 'house');
});

test('pictures get their names from the pattern, and a number where they would be the same', () => {
  const parts = (seed: bigint, name?: string, prompt = 'A fox, in the snow!') => ({
    seed,
    name,
    prompt,
  });
  assert.deepEqual(outputNames('o.png', [parts(1n)]), ['o.png']);
  assert.deepEqual(outputNames('o.png', [parts(1n), parts(1n)]), ['o-0.png', 'o-1.png']);
  const many = Array.from({ length: 11 }, () => parts(1n));
  assert.deepEqual(outputNames('d/o.png', many).slice(9), ['d/o-09.png', 'd/o-10.png']);
  assert.deepEqual(outputNames('{name}-{seed}.png', [parts(5n, 'cat'), parts(6n, 'cat')]), [
    'cat-5.png',
    'cat-6.png',
  ]);
  assert.deepEqual(outputNames('{index}-{prompt}.png', [parts(1n)]), ['0-a-fox-in-the-snow.png']);
  assert.deepEqual(outputNames('{name}.png', [parts(1n, 'a'), parts(1n, 'b'), parts(2n, 'a')]), [
    'a-0.png',
    'b.png',
    'a-1.png',
  ]);
  const [long = ''] = outputNames('{prompt}.png', [parts(1n, undefined, 'very '.repeat(40))]);
  assert.match(long, /^very-.{1,60}\.png$/);
  assert.throws(() => outputNames('{nam}.png', [parts(1n)]), /\{nam\}.*\{name\}/);
  assert.throws(() => outputNames('{name}.png', [parts(1n)]), /no input for \{name\}/);
  assert.throws(() => outputNames('a.png', [parts(1n)], ['./a.png']), /would replace the input/);
  assert.throws(() => outputNames('-', [parts(1n), parts(2n)]), /one picture/);
  const clash = [parts(1n, 'a'), parts(2n, 'a'), parts(1n, 'a-0')];
  assert.throws(() => outputNames('{name}.png', clash), /Two pictures would be called a-0\.png/);
});

test('a text serves all prompts, or there is one for each', () => {
  assert.deepEqual(perPrompt(['x'], ['a', 'b'], '--n'), ['x', 'x']);
  assert.deepEqual(perPrompt(['x', 'y'], ['a', 'b'], '--n'), ['x', 'y']);
  assert.deepEqual(perPrompt(undefined, ['a'], '--n'), [undefined]);
  assert.throws(() => perPrompt(['x', 'y'], ['a', 'b', 'c'], '--n'), /one --n, or 3/);
});

class Screen {
  written = '';
  constructor(
    readonly isTTY: boolean,
    readonly columns = 80,
  ) {}
  write(text: string): boolean {
    this.written += text;
    return true;
  }
}

test('the bar shows steps, speed and the time that is left, and goes away', () => {
  const stream = new Screen(true, 200);
  let now = 0;
  const bar = new Progress('drawing', { stream, now: () => now });
  for (let step = 1; step <= 10; step += 1) {
    now += 500;
    bar.update(step, 40, 'picture 1 of 2');
  }
  const last = stream.written.split('\r').at(-1) ?? '';
  assert.match(last, /^drawing █{6}░{18} 10\/40 {2}2\.0 it\/s {2}0:15 left {2}picture 1 of 2/);
  bar.stop();
  assert.ok(stream.written.endsWith('\r\x1b[K'));
});

test('the bar fits the terminal and is not drawn more often than eyes see', () => {
  const stream = new Screen(true, 30);
  let now = 0;
  const bar = new Progress('drawing', { stream, now: () => now });
  for (let step = 1; step <= 1000; step += 1) {
    now += 1;
    bar.update(step, 2000);
  }
  bar.stop();
  const drawn = stream.written.split('\r').filter((line) => line.startsWith('drawing'));
  assert.ok(drawn.length <= 11, `${drawn.length} times`);
  for (const line of drawn) assert.ok(line.replace('\x1b[K', '').length < 30, line);
});

test('where standard error is no terminal, a plain line comes every ten seconds', () => {
  const stream = new Screen(false);
  let now = 0;
  const bar = new Progress('drawing', { stream, now: () => now });
  for (let step = 1; step <= 25; step += 1) {
    now += 1000;
    bar.update(step, 40);
  }
  bar.stop();
  assert.equal(
    stream.written,
    'drawing: 10/40, 1.0 it/s, 0:30 left\ndrawing: 20/40, 1.0 it/s, 0:20 left\n',
  );
  const quiet = new Screen(true);
  new Progress('drawing', { stream: quiet, quiet: true }).update(1, 2);
  assert.equal(quiet.written, '');
});

test('amounts and times read well', () => {
  assert.deepEqual([0, 999, 1200, 99_960, 4.27e9].map(byteCount), [
    '0 B',
    '999 B',
    '1.2 kB',
    '100 kB',
    '4.3 GB',
  ]);
  assert.deepEqual([0.2, 61, 3723].map(clock), ['0:01', '1:01', '1:02:03']);
});

test('the names of schedulers are those of the classes', () => {
  assert.deepEqual([...schedulerNames], [...schedulerNames].sort());
  for (const name of schedulerNames) assert.equal(schedulerClass(name).className, name);
});

function completion(shell: string): string {
  let script = '';
  const { write } = process.stdout;
  process.stdout.write = ((text: string) => {
    script += text;
    return true;
  }) as typeof write;
  try {
    buildProgram().parse(['completion', shell], { from: 'user' });
  } finally {
    process.stdout.write = write;
  }
  return script;
}

test('bash completes commands, flags, choices and files', (context) => {
  const folder = temporaryFolder(context);
  writeFileSync(join(folder, 'house.png'), '');
  writeFileSync(join(folder, 'completion.bash'), completion('bash'));
  const complete = (...words: string[]): string[] => {
    const line = words.map((word) => `'${word}'`).join(' ');
    const program = `. ./completion.bash; COMP_WORDS=(torchbrush ${line}); COMP_CWORD=${words.length}; _torchbrush; printf '%s\\n' "\${COMPREPLY[@]}"`;
    const output = execFileSync('bash', ['-euo', 'pipefail', '-c', program], { cwd: folder });
    return output
      .toString()
      .split('\n')
      .filter((word) => word !== '');
  };
  assert.deepEqual(complete('img'), ['img2img']);
  assert.deepEqual(complete('img2img', '--contr'), [
    ...[
      '--controlnet',
      '--control-image',
      '--controlnet-scale',
      '--control-start',
      '--control-end',
    ],
  ]);
  assert.deepEqual(complete('txt2img', '--scheduler', 'Euler'), [
    'EulerAncestralDiscreteScheduler',
    'EulerDiscreteScheduler',
  ]);
  assert.deepEqual(complete('img2img', '-i', 'ho'), ['house.png']);
  assert.deepEqual(complete('inspect', 'ho'), ['house.png']);
  assert.deepEqual(complete('completion', ''), ['bash', 'zsh', 'fish']);
});

test('scripts for zsh and fish name every command and flag', () => {
  const program = buildProgram();
  for (const shell of ['zsh', 'fish']) {
    const script = completion(shell);
    for (const command of program.commands) {
      assert.ok(script.includes(command.name()), `${shell}: ${command.name()}`);
      for (const { long, hidden } of command.options) {
        const name = shell === 'fish' ? `-l ${long?.slice(2)} ` : `*${long}[`;
        assert.equal(script.includes(name), !hidden, `${shell}: ${long}`);
      }
    }
  }
});
