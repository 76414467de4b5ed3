// What `npm pack` would put into the tarball: all that is needed at run time, and nothing else.
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { test } from 'node:test';

import { packageRoot } from '../lib/package-root.js';
import { linksOf, readPages } from '../scripts/docs/markdown.js';

interface PackedFile {
  path: string;
  size: number;
}

/** Each kind of file that may be in the tarball, and the bytes that all files of that kind may take. */
const kinds: readonly [RegExp, number][] = [
  [/^(package\.json|README\.md|LICENSE)$/, 50e3],
  [/^dist\/(index\.js|index\.cjs|index\.d\.ts|index\.d\.cts|cli\.js|cli\/[\w-]+\.js)$/, 4e6],
  [/^prebuilds\/linux-x64\/torchbrush(-core-\d+\.\d+\.so|\.node)$/, 10e6],
  [/^programs\/([\w.-]+\.pt\.br|manifest\.json)$/, 1e6],
  [/^models\/demo\/[\w/.-]+\.(json|txt|safetensors|md)$/, 13e6],
  [/^models\/demo\/inputs\/[\w-]+\.png$/, 0.2e6],
  [/^docs\/([\w/-]+\.md|benchmarks\/[\w-]+\.json)$/, 0.6e6],
  [/^docs\/images\/[\w-]+\.(png|webp)$/, 2.5e6],
  [/^scripts\/export\/([\w]+\.py|requirements\.txt)$/, 0.2e6],
  [/^scripts\/bench\/peers\/\w+\.(py|cjs)$/, 0.1e6],
];

const packed = listPacked();
const isPacked = (path: string): boolean => packed.some((file) => file.path === path);

function listPacked(): PackedFile[] {
  const args = ['pack', '--dry-run', '--json', '--ignore-scripts'];
  const listed: unknown = JSON.parse(
    execFileSync('npm', args, {
      cwd: packageRoot,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    }),
  );
  const [entry] = listed as { files: PackedFile[] }[];
  return entry?.files ?? [];
}

test('every packed file is of a kind that belongs there, and no kind takes more than its share', () => {
  const strays = packed.filter(({ path }) => !kinds.some(([pattern]) => pattern.test(path)));
  assert.deepEqual(strays, []);
  for (const [pattern, limit] of kinds) {
    const sizes = packed.filter(({ path }) => pattern.test(path)).map(({ size }) => size);
    const total = sizes.reduce((sum, size) => sum + size, 0);
    assert.ok(total <= limit, `${pattern}: ${total} bytes, more than ${limit}`);
  }
});

test('what is not built is under version control', (context) => {
  const listed = spawnSync('git', ['ls-files', '-z'], { cwd: packageRoot, encoding: 'utf8' });
  if (listed.status !== 0) return context.skip('git knows nothing of this folder');
  const tracked = new Set(listed.stdout.split('\0'));
  const sources = packed.filter(({ path }) => !/^(dist|prebuilds)\//.test(path));
  assert.deepEqual(
    sources.filter(({ path }) => !tracked.has(path)),
    [],
  );
});

test('all that is needed at run time is packed', () => {
  const manifest = readFileSync(join(packageRoot, 'programs', 'manifest.json'), 'utf8');
  const programs = [...new Set(manifest.match(/[\w.-]+\.pt\.br/g))];
  assert.ok(programs.length > 20);
  const model = execFileSync('find', ['models/demo', '-type', 'f'], {
    cwd: packageRoot,
    encoding: 'utf8',
  });
  const wanted = [
    'LICENSE',
    'README.md',
    'scripts/export/export.py',
    'scripts/export/requirements.txt',
    ...programs.map((name) => `programs/${name}`),
    ...model.trim().split('\n'),
  ];
  assert.deepEqual(
    wanted.filter((path) => !isPacked(path)),
    [],
  );
});

test('pages have what they link to', async () => {
  for (const page of await readPages()) {
    assert.ok(isPacked(page.path), page.path);
    for (const link of linksOf(page)) {
      if (/^(https?:\/\/|#)/.test(link)) continue;
      const [file = ''] = link.split('#');
      assert.ok(isPacked(normalize(join(dirname(page.path), file))), `${page.path}: ${link}`);
    }
  }
});

test('the exporter has every module that it imports', () => {
  const scripts = packed.filter(({ path }) => path.endsWith('.py'));
  for (const { path } of scripts) {
    const text = readFileSync(join(packageRoot, path), 'utf8');
    for (const [, name] of text.matchAll(/^\s*(?:from|import) (\w+)/gm)) {
      const module = `scripts/export/${name}.py`;
      if (existsSync(join(packageRoot, module))) assert.ok(isPacked(module), `${path}: ${module}`);
    }
  }
});

test('installing runs nothing', () => {
  const { scripts, gypfile } = JSON.parse(readFileSync(join(packageRoot, 'package.json'), 'utf8'));
  // With a binding.gyp, npm would run node-gyp unless told otherwise.
  assert.equal(gypfile, false);
  for (const name of ['preinstall', 'install', 'postinstall', 'prepare']) {
    assert.equal(scripts[name], undefined, name);
  }
});
