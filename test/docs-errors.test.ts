// docs/troubleshooting.md has an entry for each error code, and none for codes that do not exist.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

import { packageRoot } from '../lib/package-root.js';

const page = readFileSync(join(packageRoot, 'docs', 'troubleshooting.md'), 'utf8');

/** All that matches in the sources of lib/ and native/. */
function inSources(pattern: RegExp): Set<string> {
  const found = new Set<string>();
  for (const folder of ['lib', 'native']) {
    const root = join(packageRoot, folder);
    for (const name of readdirSync(root, { recursive: true, encoding: 'utf8' })) {
      if (!/\.(ts|cc|h|cu|cuh)$/.test(name)) continue;
      const text = readFileSync(join(root, name), 'utf8');
      for (const match of text.matchAll(pattern)) found.add(match[1] as string);
    }
  }
  return found;
}

test('every error code has an entry, and every entry is one of a code', () => {
  const codes = inSources(/\b(ERR_[A-Z]+(?:_[A-Z]+)*)\b/g);
  assert.ok(codes.size > 25);
  const entries = Array.from(page.matchAll(/^### (ERR_[A-Z_]+)$/gm), ([, code]) => code as string);
  assert.deepEqual([...entries].sort(), [...codes].sort());
});

test('every warning is explained', () => {
  const codes = inSources(/code: '(TORCHBRUSH_[A-Z_]+)'/g);
  assert.ok(codes.size > 2);
  for (const code of codes) assert.ok(page.includes(`\n| \`${code}\` |`), code);
});

test('the table in api.md has codes that exist only', () => {
  const overview = readFileSync(join(packageRoot, 'docs', 'api.md'), 'utf8');
  const codes = inSources(/\b(ERR_[A-Z]+(?:_[A-Z]+)*)\b/g);
  const listed = Array.from(
    overview.matchAll(/^\| `(ERR_[A-Z_]+)`/gm),
    ([, code]) => code as string,
  );
  assert.ok(listed.length > 15);
  assert.deepEqual(
    listed.filter((code) => !codes.has(code)),
    [],
  );
});
