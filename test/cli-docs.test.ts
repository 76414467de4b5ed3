// docs/cli.md: what it shows in sh blocks is run. Commands and options of all pages: docs-blocks.test.ts.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';

import { buildProgram } from '../lib/cli/program.js';
import { loadImage } from '../lib/index.js';
import { packageRoot } from '../lib/package-root.js';
import { command } from './cli-process.js';
import { temporaryFolder } from './helpers.js';

const markdown = readFileSync(join(packageRoot, 'docs', 'cli.md'), 'utf8');
const blocks = [...markdown.matchAll(/^```(sh|console)\n([\s\S]*?)^```$/gm)].map(
  ([, language, code = '']) => ({ language, code }),
);

test('the examples run', async (context) => {
  const folder = temporaryFolder(context);
  const words = command.map((word) => `'${word}'`).join(' ');
  mkdirSync(join(folder, 'node_modules'));
  symlinkSync(packageRoot, join(folder, 'node_modules', 'torchbrush'));
  const program = blocks.filter(({ language }) => language === 'sh').map(({ code }) => code);
  const script = join(folder, 'examples.sh');
  writeFileSync(script, `torchbrush() { ${words} "$@"; }\n${program.join('\n')}`);
  await promisify(execFile)('bash', ['-euo', 'pipefail', script], { cwd: folder });
  for (const name of ['castle', 'out/house-1', 'out/an-owl', 'fox', 'now', 'json', 'half']) {
    assert.equal((await loadImage(join(folder, `${name}.png`))).width, 64, name);
  }
});

test('every command has a row in the table', () => {
  for (const name of buildProgram().commands.map((one) => one.name())) {
    assert.ok(markdown.includes(`\n| [\`${name}\`](`), name);
  }
});

test('every option that the text names is one', () => {
  const all = buildProgram().commands.flatMap(({ options }) => options.map(({ long }) => long));
  const flags = markdown.replaceAll(/^```[\s\S]*?^```$/gm, '').match(/(?<=`)--[a-z][\w-]*/g) ?? [];
  assert.ok(flags.length > 10);
  for (const flag of flags) assert.ok(all.includes(flag) || flag === '--help', flag);
});
