// Links between README.md and the pages of docs/ lead somewhere.
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { describe, test } from 'node:test';

import { packageRoot } from '../lib/package-root.js';
import { anchorsOf, linksOf, readPages } from '../scripts/docs/markdown.js';

const pages = await readPages();
const anchors = new Map(pages.map((page) => [page.path, anchorsOf(page)]));

describe('links', () => {
  for (const page of pages) {
    test(`of ${page.path} lead to files and headings that are there`, () => {
      for (const link of linksOf(page)) {
        if (/^https?:\/\//.test(link)) continue;
        const [file = '', anchor] = link.split('#');
        const target = file === '' ? page.path : normalize(join(dirname(page.path), file));
        assert.ok(existsSync(join(packageRoot, target)), link);
        if (anchor === undefined) continue;
        assert.ok(anchors.get(target)?.has(anchor), link);
      }
    });
  }

  test('lead to every page from README.md, over others or not', () => {
    const reached = new Set(['README.md']);
    for (const path of reached) {
      const page = pages.find((one) => one.path === path);
      for (const link of page === undefined ? [] : linksOf(page)) {
        const [file = ''] = link.split('#');
        if (file.endsWith('.md')) reached.add(normalize(join(dirname(path), file)));
      }
    }
    assert.deepEqual(
      pages.filter(({ path }) => !reached.has(path)).map(({ path }) => path),
      [],
    );
  });

  test('are found outside of code, and headings as GitHub names them', () => {
    const text =
      '# A `b` (c)\n## A, b: c!\n## Ä_1\n```sh\n# d\n```\n[x](y.md) `[n](o.md)` ![p](q.png)\n# Ä_1\n';
    assert.deepEqual([...anchorsOf({ text })], ['a-b-c', 'a-b-c-1', 'ä_1', 'ä_1-1']);
    assert.deepEqual(linksOf({ text }), ['y.md', 'q.png']);
  });
});
