// How a checkpoint's README.md names a second checkpoint.
import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

import { frontMatterEntry, openConnectedCheckpoint } from '../lib/checkpoints/connected.js';
import { openCheckpointFolder } from '../lib/checkpoints/folder.js';
import { temporaryFolder } from './helpers.js';

test('the front matter of a README.md names a prior in any usual form', () => {
  const readme = (yaml: string) => `---\nlicense: mit\n${yaml}\ntags:\n- other\n---\n\nprior: no\n`;
  const forms = [
    'prior: a/b',
    'prior: "a/b"',
    "prior: 'a/b' # the first half",
    'prior: [a/b, c/d]',
    'prior: ["a/b"]',
    'prior:\n- a/b\n- c/d',
    'prior:\n  # half of it\n  -   "a/b"',
  ];
  for (const form of forms) assert.equal(frontMatterEntry(readme(form), 'prior'), 'a/b', form);
  const windows = readme('prior:\n- a/b').replaceAll('\n', '\r\n');
  assert.equal(frontMatterEntry(windows, 'prior'), 'a/b');
  const none = ['', 'prior: a/b', '---\nprior: a/b\n', '# Title\n---\nprior: a/b\n---\n'];
  for (const text of [...none, readme('priors: a/b'), readme('prior:'), readme('  prior: a/b')]) {
    assert.equal(frontMatterEntry(text, 'prior'), undefined, text);
  }
});

test('a prior is found by option, as a path, or beside the checkpoint, or asked for', async (context) => {
  const root = temporaryFolder(context);
  const make = (...path: string[]) => {
    const folder = join(root, ...path);
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, 'model_index.json'), JSON.stringify({ _class_name: path.at(-1) }));
    return folder;
  };
  const decoder = make('decoder');
  make('beside');
  make('elsewhere', 'far');
  const checkpoint = await openCheckpointFolder(decoder);
  const find = async (named: string | undefined, given?: string) => {
    if (named !== undefined) {
      writeFileSync(join(decoder, 'README.md'), `---\nprior:\n- ${named}\n---\n`);
    }
    const access = { localFilesOnly: true, cacheDir: join(root, 'cache') };
    return (await openConnectedCheckpoint(checkpoint, 'prior', given, access)).className;
  };
  await assert.rejects(
    find(undefined),
    /no README\.md in it names one.*\{ prior: 'FOLDER or org\/name' \}/s,
  );
  assert.equal(await find('someone/beside'), 'beside');
  assert.equal(await find('../elsewhere/far'), 'far');
  assert.equal(await find(join(root, 'elsewhere', 'far')), 'far');
  assert.equal(await find('someone/beside', join(root, 'elsewhere', 'far')), 'far');
  await assert.rejects(find('someone/gone'), {
    code: 'ERR_HUB_NOT_CACHED',
    message: /names the prior someone\/gone.*localFilesOnly.*\{ prior: 'FOLDER or org\/name' \}/s,
  });
  await assert.rejects(find('../gone'), {
    code: 'ERR_CHECKPOINT',
    message: /the prior \.\.\/gone/,
  });
  await assert.rejects(find('someone/beside', join(root, 'gone')), /no checkpoint folder/);
});
