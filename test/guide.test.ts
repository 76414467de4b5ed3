// The examples of docs/guide.md that the embedded model can run; the others: test/parity.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { embeddedStandIns, splitSections } from '../scripts/guide/checkpoints.js';
import {
  largestPictureDifference,
  pictureDifference,
  shownPictures,
} from '../scripts/guide/pictures.js';
import { inWorkFolder, play } from '../scripts/guide/play.js';
import { readSections, sectionsOf } from '../scripts/guide/sections.js';

const { embedded } = splitSections(await readSections());
const names = await shownPictures();
const { outcomes, differences } = await inWorkFolder(
  embeddedStandIns,
  embedded,
  async (folder) => ({
    outcomes: await play(embedded, folder),
    differences: await Promise.all(names.map((name) => pictureDifference(name, folder))),
  }),
);

describe('the guide', () => {
  for (const { section, error } of outcomes) {
    test(`runs the example of ${section.title}, which leaves nothing behind`, () => {
      assert.equal(error, undefined);
    });
  }

  for (const [index, name] of names.entries()) {
    test(`shows in guide-${name}.webp what its example draws`, () => {
      const difference = differences[index] as number;
      assert.ok(
        difference <= largestPictureDifference,
        `${difference} of 255 on average: redraw it with npm run guide -- --pictures`,
      );
    });
  }

  test('has its examples at the lines where they stand', () => {
    const markdown = '# A\n```ts\nlet a;\n```\n```sh\nls\n```\n## B\n## C\n```ts\nlet c;\n```\n';
    assert.deepEqual(sectionsOf(markdown), [
      { title: 'A', code: '\n\nlet a;\n' },
      { title: 'C', code: '\n\n\n\n\n\n\n\n\n\nlet c;\n' },
    ]);
    assert.throws(() => sectionsOf('# A\n```ts\nlet a;\n'), /not closed/);
    assert.throws(() => sectionsOf('# A\n```ts\na;\n```\n# A\n```ts\nb;\n```\n'), /same title/);
  });
});
