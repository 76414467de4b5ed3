// npm run docs: writes the API reference, docs/api/, from the comments in lib/.
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { packageRoot } from '../../lib/package-root.js';
import { makePages, undocumented } from './pages.js';
import { readReference } from './reference.js';

const entries = readReference();
const folder = join(packageRoot, 'docs', 'api');
await rm(folder, { recursive: true, force: true });
await mkdir(folder, { recursive: true });
for (const [file, text] of makePages(entries)) await writeFile(join(folder, file), text);
for (const name of undocumented(entries)) {
  console.log(`no comment: ${name}`);
  process.exitCode = 1;
}
