import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The folder of torchbrush's package.json, from lib/ in a checkout and from dist/ in a package. */
export const packageRoot = outsideArchive(findPackageRoot());

/**
 * Folder of the embedded checkpoint: 12 MB, draws small emoji-like pictures of 64×64 pixels. For trying
 * out and for tests; `inputs/` has pictures to start from.
 */
export const demoModel = join(packageRoot, 'models', 'demo');

/**
 * Electron puts apps into an archive, app.asar, which JavaScript reads as if it were a folder and native
 * code cannot: the copy of a package beside the archive, in app.asar.unpacked, if there is one.
 */
export function outsideArchive(folder: string): string {
  const outside = folder.replace(/\.asar(?=[\\/])/, '.asar.unpacked');
  return existsSync(join(outside, 'package.json')) ? outside : folder;
}

function findPackageRoot(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, 'package.json'))) {
    const parent = dirname(folder);
    if (parent === folder) throw new Error('The package.json of torchbrush is missing.');
    folder = parent;
  }
  return folder;
}
