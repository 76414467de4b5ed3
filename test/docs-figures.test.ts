// Figures in README.md are those of the pages in docs/benchmarks/ that their rows name.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

import { packageRoot } from '../lib/package-root.js';

const readme = readFileSync(join(packageRoot, 'README.md'), 'utf8');
const rows = readme
  .split('\n')
  .filter((line) => /\]\(docs\/benchmarks\/[\w-]+\.md\) \|$/.test(line));

test('the table of figures has rows', () => assert.ok(rows.length >= 4));

for (const row of rows) {
  const [, what = '', ...cells] = row.split('|').map((cell) => cell.trim());
  test(`README.md: ${what}`, () => {
    const [, page = ''] = /\((docs\/benchmarks\/[\w-]+\.md)\)/.exec(row) ?? [];
    const measured = readFileSync(join(packageRoot, page), 'utf8').match(/\d+\.\d+/g) ?? [];
    const figures = cells.flatMap((cell) => /^(\d+\.\d+)(?: s|×)$/.exec(cell)?.slice(1) ?? []);
    assert.equal(figures.length, 3);
    for (const figure of figures) {
      const digits = figure.split('.')[1]?.length ?? 0;
      const isThere = measured.some((value) => Number(value).toFixed(digits) === figure);
      assert.ok(isThere, `${figure} is not on ${page}`);
    }
  });
}
