// docs/cli.md: what it shows in sh blocks is run, and every command it shows is one.
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

test('every option that is shown is one', () => {
  const program = buildProgram();
  const known = new Map(
    program.commands.map((one) => [
      one.name(),
      one.options.flatMap(({ long, short }) => [long, short]),
    ]),
  );
  const lines = blocks.flatMap(({ code }) => code.replaceAll(/\\\n/g, ' ').split('\n'));
  const calls = lines.flatMap((line) => /torchbrush (\w+) (.*)$/.exec(line)?.slice(1, 3) ?? []);
  assert.ok(calls.length > 20);
  for (let i = 0; i < calls.length; i += 2) {
    const [name = '', rest = ''] = calls.slice(i, i + 2);
    const flags = rest.replaceAll(/"[^"]*"|'[^']*'/g, '').match(/(?<=^|\s)--?[a-z][\w-]*/g) ?? [];
    for (const flag of flags) assert.ok(known.get(name)?.includes(flag), `${name} ${flag}`);
  }
  const flagsInText = markdown.replaceAll(/^```[\s\S]*?^```$/gm, '').match(/`--[a-z][\w-]*/g) ?? [];
  const all = [...known.values()].flat();
  for (const flag of flagsInText) {
    assert.ok(all.includes(flag.slice(1)) || flag === '`--help', flag);
  }
});
