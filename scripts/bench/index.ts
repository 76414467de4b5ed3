// The benchmarks in a checkout, where the peers and a checkpoint are made at need, under .cache/.
//   npx tsx scripts/bench/index.ts --scenario unet --check --write docs/benchmarks/NAME
import { join } from 'node:path';

import { Command } from 'commander';

import { defineBench } from '../../lib/cli/bench.js';
import { TorchbrushError } from '../../lib/errors.js';
import { packageRoot } from '../../lib/package-root.js';
import { ensurePython } from '../python.js';
import { makeCheckpoint } from './checkpoint.js';
import { installStableDiffusionCpp } from './peers/stable-diffusion-cpp.js';

const log = (line: string): void => console.error(line);

const command = defineBench(new Command('bench'), {
  python: () => ensurePython({ log }),
  model: makeCheckpoint,
  async sdcpp() {
    const folder = join(packageRoot, '.cache', 'bench', 'stable-diffusion-cpp');
    await installStableDiffusionCpp(folder);
    return folder;
  },
});
try {
  await command.parseAsync();
} catch (error) {
  if (!(error instanceof TorchbrushError)) throw error;
  console.error(`error: ${error.message} (${error.code})`);
  process.exitCode = 1;
}
