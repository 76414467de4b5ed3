// The benchmarks in a checkout, where Python and a checkpoint are made at need.
//   npx tsx scripts/bench/index.ts --scenario unet --check --write docs/benchmarks/NAME
import { Command } from 'commander';

import { defineBench } from '../../lib/cli/bench.js';
import { ensurePython } from '../python.js';

const log = (line: string): void => console.error(line);
const command = defineBench(new Command('bench'), { python: () => ensurePython({ log }) });
await command.parseAsync();
