// Blocks of code in README.md and docs/ that are not run elsewhere. ts: npm run types. cli.md: cli-docs.test.ts.
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import ts from 'typescript';

import { buildProgram } from '../lib/cli/program.js';
import { packageRoot } from '../lib/package-root.js';
import { type Block, blocksOf, programsOf, readPages } from '../scripts/docs/markdown.js';

const pages = await readPages();
const blocks = pages.flatMap(blocksOf);
const inLanguages = (...languages: string[]) =>
  blocks.filter(({ language }) => languages.includes(language));
const placeOf = ({ page, line }: Block) => `${page}:${line}`;

/** Commands, with lines that go on put together and without comments. */
function commandsOf({ code }: Block): string[] {
  const lines = code.replaceAll(/\\\n/g, ' ').split('\n');
  return lines.map((line) => line.replace(/(^|\s)#.*$/, '').trim()).filter((line) => line !== '');
}

test('every block is in a language that is checked', () => {
  // typescript: signatures in the API reference, which are taken from the sources.
  const known = ['ts', 'typescript', 'js', 'json', 'sh', 'console', 'python', 'dockerfile', ''];
  for (const block of blocks) {
    assert.ok(known.includes(block.language), `${placeOf(block)}: ${block.language}`);
    const isDrawing = block.language === '';
    if (isDrawing) assert.equal(block.page, join('docs', 'design.md'), placeOf(block));
    const isSignature = block.language === 'typescript';
    if (isSignature) assert.ok(block.page.startsWith(join('docs', 'api')), placeOf(block));
  }
});

test('js blocks are JavaScript and json blocks are JSON, or JSON lines', () => {
  for (const block of inLanguages('js')) {
    const { diagnostics = [] } = ts.transpileModule(block.code, { reportDiagnostics: true });
    assert.deepEqual(diagnostics, [], placeOf(block));
  }
  for (const block of inLanguages('json')) {
    const isWhole = isJson(block.code);
    const lines = block.code.trim().split('\n');
    assert.ok(isWhole || lines.every(isJson), placeOf(block));
  }
});

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

test('python blocks are Python', (context) => {
  if (spawnSync('python3', ['--version']).status !== 0) return context.skip('no python3');
  for (const block of inLanguages('python')) {
    const check = ['-c', 'import ast, sys; ast.parse(sys.stdin.read())'];
    execFileSync('python3', check, { input: block.code });
  }
});

test('sh and console blocks are shell', () => {
  for (const block of inLanguages('sh', 'console')) {
    const { status, stderr } = spawnSync('bash', ['-n'], { input: block.code, encoding: 'utf8' });
    assert.equal(status, 0, `${placeOf(block)}: ${stderr}`);
  }
});

test('every torchbrush command and option that is shown is one', () => {
  const options = new Map(
    buildProgram().commands.map((one) => [
      one.name(),
      ['--help', ...one.options.flatMap(({ long, short }) => [long, short])],
    ]),
  );
  let count = 0;
  for (const block of inLanguages('sh', 'console', 'dockerfile')) {
    for (const command of commandsOf(block)) {
      const [, name, rest = ''] = /(?:^|[\s|])torchbrush ([\w-]+)(.*)$/.exec(command) ?? [];
      if (name === undefined || /docker|npm install/.test(command)) continue;
      count += 1;
      const known = options.get(name);
      assert.ok(known !== undefined, `${placeOf(block)}: ${name}`);
      const flags = rest.replaceAll(/"[^"]*"|'[^']*'/g, '').match(/(?<=^|\s)--?[a-z][\w-]*/g);
      for (const flag of flags ?? []) assert.ok(known.includes(flag), `${placeOf(block)}: ${flag}`);
    }
  }
  assert.ok(count > 30);
});

test('every npm script and every file that a command names is there', () => {
  const manifest = JSON.parse(readFileSync(join(packageRoot, 'package.json'), 'utf8'));
  const mentions = pages.flatMap(({ path, text }) =>
    Array.from(text.matchAll(/npm run ([\w:]+)/g), ([, script]) => [path, script as string]),
  );
  assert.ok(mentions.length > 10);
  for (const [path, script] of mentions) {
    assert.ok(Object.hasOwn(manifest.scripts, script as string), `${path}: npm run ${script}`);
  }
  for (const block of inLanguages('sh', 'console')) {
    for (const command of commandsOf(block)) {
      for (const file of command.match(/(?<=^|\s)scripts\/[\w./-]+/g) ?? []) {
        assert.ok(existsSync(join(packageRoot, file)), `${placeOf(block)}: ${file}`);
      }
    }
  }
});

test('every variable of ours that a page names is read somewhere', () => {
  const grep = ['grep', '-rhoE', '--exclude-dir=node_modules', '\\bTORCHBRUSH_[A-Z_]+\\b'];
  const places = ['lib', 'native', 'scripts', 'test/parity', 'CMakeLists.txt'];
  const sources = execFileSync('/usr/bin/env', [...grep, ...places], {
    cwd: packageRoot,
    encoding: 'utf8',
  });
  const known = new Set(sources.split('\n'));
  for (const { path, text } of pages) {
    const warnings = text.split('\n').filter((line) => line.startsWith('| `TORCHBRUSH_'));
    const rest = path.endsWith('troubleshooting.md') ? removed(text, warnings) : text;
    for (const name of rest.match(/\bTORCHBRUSH_[A-Z_]+\b/g) ?? []) {
      assert.ok(known.has(name), `${path}: ${name}`);
    }
  }
});

function removed(text: string, lines: readonly string[]): string {
  return lines.reduce((rest, line) => rest.replace(line, ''), text);
}

test('a dockerfile begins with an image and has instructions only', () => {
  const instruction = /^(FROM|WORKDIR|COPY|RUN|ENV|USER|EXPOSE|HEALTHCHECK|CMD|ENTRYPOINT|ARG) \S/;
  const found = inLanguages('dockerfile');
  assert.ok(found.length > 0);
  for (const block of found) {
    const commands = commandsOf(block);
    assert.match(commands[0] ?? '', /^FROM \S+:\S+$/);
    for (const command of commands) assert.match(command, instruction, placeOf(block));
  }
});

test('programs are what stands under a heading or after a comment', () => {
  const page = [
    '# A\n```ts\nlet a;\n```\ntext\n```ts\na = 1;\n```',
    '```sh\n# no heading\n```',
    '<!-- ts\ndeclare const b: number;\n-->\n\n```ts\nb;\n```\n## C\n```ts\nlet c;\n```\n',
  ].join('\n');
  assert.deepEqual(programsOf(page), [
    '\n\nlet a;\n\n\n\na = 1;\n',
    `${'\n'.repeat(12)}declare const b: number;\n\n\n\nb;\n`,
    `${'\n'.repeat(20)}let c;\n`,
  ]);
  assert.throws(() => blocksOf({ path: 'a.md', text: 'text\n```ts\nlet a;\n' }), /a\.md:3/);
});
