// Writes the ts blocks of all pages to out/docs, where `npm run types` looks at them.
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { packageRoot } from '../../lib/package-root.js';
import { programsOf, readPages } from './markdown.js';

const folder = join(packageRoot, 'out', 'docs');
await rm(folder, { recursive: true, force: true });
for (const { path, text } of await readPages()) {
  const place = join(folder, path.replace(/\.md$/, ''));
  for (const [index, code] of programsOf(text).entries()) {
    await mkdir(place, { recursive: true });
    // Blocks without imports are modules, too: their names are their own.
    await writeFile(join(place, `${index}.mts`), `${code}export {};\n`);
  }
}
