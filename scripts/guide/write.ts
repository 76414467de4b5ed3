// Writes the examples of docs/guide.md to out/guide, where `npm run types` looks at them.
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';

import { packageRoot } from '../../lib/package-root.js';
import { readSections, writeSections } from './sections.js';

const folder = join(packageRoot, 'out', 'guide');
await rm(folder, { recursive: true, force: true });
await mkdir(folder, { recursive: true });
await writeSections(await readSections(), folder);
