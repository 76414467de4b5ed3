// compile(): what makes later runs faster at the cost of the first ones.
import type { GraphStatus } from '../core.js';
import { sumOfGraphs } from '../networks/graphs.js';
import type { Network } from '../networks/network.js';
import { checkChoice, checkKnownOptions } from '../options.js';
import { networksOf } from './components.js';

const compileModes = ['reduce-overhead'] as const;

/** A mode of {@link CompileOptions}. */
export type CompileMode = (typeof compileModes)[number];

/** What `compile()` takes. */
export interface CompileOptions {
  /**
   * `'reduce-overhead'` (default): on CUDA, runs are recorded as CUDA graphs, one for each set of input
   * shapes, and convolutions try their algorithms for each new shape.
   */
  mode?: CompileMode;
}

/** Graphs of a network's program at most: sizes and batches that come back. */
const mostGraphs = 8;

/** @throws InvalidArgumentError */
export function checkCompileOptions(options: CompileOptions): CompileMode {
  checkKnownOptions(options, ['mode'], 'compile');
  return checkChoice(options.mode ?? 'reduce-overhead', 'mode', compileModes);
}

export async function compileNetworks(networks: readonly Network[]): Promise<void> {
  const lacking: string[] = [];
  for (const network of networks) {
    // On the CPU a program's operators were resolved when it was loaded; nothing is left to do.
    if (network.device === 'cpu' && process.env.TORCHBRUSH_COMPANION === undefined) continue;
    const can = await network.useGraphs(isAutoencoder(network) ? 0 : mostGraphs);
    if (!can) lacking.push(network.className);
  }
  if (lacking.length === 0) return;
  process.emitWarning(
    `torchbrush has no CUDA companion here, so compile() changes nothing for ${lacking.join(', ')}. In a checkout, "npm run build:addon" makes it where nvcc and a torch for CUDA are.`,
    { code: 'TORCHBRUSH_NO_GRAPHS' },
  );
}

/** The graphs of each component that is a network. */
export function graphsOf(components: object): Record<string, GraphStatus> {
  return Object.fromEntries(
    Object.entries(components)
      .map(([name, part]) => ({ name, networks: networksOf([part]) }))
      .filter(({ networks }) => networks.length > 0)
      .map(({ name, networks }) => [name, sumOfGraphs(networks.map(({ graphs }) => graphs))]),
  );
}

/** Few and large runs: a graph would save nothing and keep their memory. */
function isAutoencoder({ className }: Network): boolean {
  return ['AutoencoderKL', 'AutoencoderTiny', 'VQModel'].includes(className);
}
