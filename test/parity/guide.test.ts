// The examples of docs/guide.md that need checkpoints made with Python: random weights, so that what
// they draw means nothing, but they run to their end and leave nothing behind.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { randomStandIns, splitSections } from '../../scripts/guide/checkpoints.js';
import { inWorkFolder, play } from '../../scripts/guide/play.js';
import { readSections } from '../../scripts/guide/sections.js';
import { ensurePython } from '../../scripts/python.js';
import { say } from './suite.js';

const { others } = splitSections(await readSections());
const standIns = await randomStandIns(await ensurePython({ log: say }));
const outcomes = await inWorkFolder(standIns, others, (folder) => play(others, folder));

describe('the guide', () => {
  for (const { section, error } of outcomes) {
    test(`runs the example of ${section.title}, which leaves nothing behind`, () => {
      assert.equal(error, undefined);
    });
  }
});
