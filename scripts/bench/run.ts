// Runs the scenarios that were asked for, one after the other.
import { configure } from '../../lib/native.js';
import { BenchContext, type BenchSettings, type ComparisonResult } from './context.js';
import { describeMachine } from './machine.js';
import type { BenchResult } from './report.js';
import { compareNetwork, decode, encode, guidedStep, textEncoder } from './scenarios/networks.js';

export interface Scenario {
  description: string;
  needsModel: boolean;
  run(context: BenchContext): AsyncIterable<ComparisonResult>;
}

export const scenarios: Record<string, Scenario> = {
  'text-encoder': {
    description: 'CLIP-L on one prompt',
    needsModel: true,
    async *run(context) {
      yield await compareNetwork(context, textEncoder());
    },
  },
  unet: {
    description: 'a guided step of the UNet',
    needsModel: true,
    async *run(context) {
      for (const side of context.settings.latents) {
        yield await compareNetwork(context, guidedStep(side));
      }
    },
  },
  vae: {
    description: 'decoding and encoding',
    needsModel: true,
    async *run(context) {
      for (const side of context.settings.latents) {
        yield await compareNetwork(context, decode(side));
        yield await compareNetwork(context, encode(side));
      }
    },
  },
};

export interface RunOptions {
  log: (line: string) => void;
  /** Called after each comparison with all that has been measured. */
  onResult?: (result: BenchResult) => void;
}

export async function runBench(
  names: readonly string[],
  settings: BenchSettings,
  { log, onResult = () => {} }: RunOptions,
): Promise<BenchResult> {
  configure({ threads: settings.threads });
  const context = new BenchContext(settings, log);
  const { python, sdcpp, ...shown } = settings;
  const result: BenchResult = {
    date: new Date().toISOString(),
    machine: describeMachine(),
    settings: shown,
    peers: context.versions,
    scenarios: {},
  };
  try {
    for (const name of names) {
      const scenario = scenarios[name];
      if (scenario === undefined) throw new Error(`There is no scenario ${name}.`);
      const found: ComparisonResult[] = [];
      result.scenarios[name] = found;
      for await (const comparison of scenario.run(context)) {
        found.push(comparison);
        onResult(result);
      }
    }
  } finally {
    await context.dispose();
  }
  return result;
}
