// docs/api/ is what `npm run docs` makes of the comments, and nothing public lacks one.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

import * as torchbrush from '../lib/index.js';
import { packageRoot } from '../lib/package-root.js';
import { makePages, undocumented } from '../scripts/docs/pages.js';
import { readReference } from '../scripts/docs/reference.js';

const entries = readReference();
const folder = join(packageRoot, 'docs', 'api');

test('the API reference is up to date', () => {
  const pages = makePages(entries);
  assert.deepEqual(readdirSync(folder).sort(), [...pages.keys()].sort());
  for (const [file, text] of pages) {
    const isSame = readFileSync(join(folder, file), 'utf8') === text;
    assert.ok(isSame, `docs/api/${file} is out of date: npm run docs`);
  }
});

test('everything exported has a comment, and so has every option and method', () => {
  assert.deepEqual(undocumented(entries), []);
});

test('the reference has every value that is exported', () => {
  const names = new Set(entries.map(({ name }) => name));
  assert.deepEqual(
    Object.keys(torchbrush).filter((name) => !names.has(name)),
    [],
  );
});

test('it has the options of a pipeline, with their comments', () => {
  const options = entries.find(({ name }) => name === 'ImageToImageOptions');
  const strength = options?.members.find(({ name }) => name === 'strength');
  assert.equal(strength?.type, 'number');
  assert.match(strength.doc.text, /0 to 1/);
  assert.deepEqual(options?.bases.includes('StableDiffusionOptions'), true);
});

test('what has no comment is found', () => {
  const doc = { text: '', parameters: [], returns: '', throws: [], examples: [] };
  const member = {
    name: 'side',
    signature: 'side: number',
    type: 'number',
    isOptional: false,
    doc,
  };
  const common = { kind: 'interface' as const, file: 'a.ts', signature: 'interface A', bases: [] };
  const entry = { ...common, name: 'A', doc, members: [member] };
  assert.deepEqual(undocumented([entry]), ['A', 'A.side']);
});
