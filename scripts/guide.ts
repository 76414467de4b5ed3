// npm run guide: runs the examples in docs/guide.md and compares what they draw with the pictures
// there. (npm run types checks their types.)
//   --embedded   only what the embedded model can run, without Python
//   --pictures   the same, and puts what they draw into docs/images
import { parseArgs } from 'node:util';

import { embeddedStandIns, randomStandIns, splitSections } from './guide/checkpoints.js';
import {
  keepPicture,
  largestPictureDifference,
  pictureDifference,
  shownPictures,
} from './guide/pictures.js';
import { inWorkFolder, play } from './guide/play.js';
import { readSections, type Section } from './guide/sections.js';
import { ensurePython } from './python.js';

const { values } = parseArgs({
  options: { embedded: { type: 'boolean' }, pictures: { type: 'boolean' } },
});
const { embedded, others } = splitSections(await readSections());
await inWorkFolder(embeddedStandIns, embedded, async (folder) => {
  await run(embedded, folder);
  for (const name of await shownPictures()) await lookAfterPicture(name, folder);
});
if (!values.embedded && !values.pictures) {
  const python = await ensurePython({ log: (line) => console.log(line) });
  await inWorkFolder(await randomStandIns(python), others, (folder) => run(others, folder));
}

async function run(some: readonly Section[], folder: string): Promise<void> {
  await play(some, folder, ({ section, seconds, error }) =>
    say(`${section.title} (${seconds.toFixed(1)} s)`, error),
  );
}

async function lookAfterPicture(name: string, folder: string): Promise<void> {
  if (values.pictures) await keepPicture(name, folder);
  const difference = await pictureDifference(name, folder);
  const isSame = difference <= largestPictureDifference;
  say(`picture ${name}`, isSame ? undefined : 'out of date: npm run guide -- --pictures');
}

function say(what: string, error: string | undefined): void {
  console.log(error === undefined ? `ok      ${what}` : `FAILED  ${what}\n${error}`);
  if (error !== undefined) process.exitCode = 1;
}
