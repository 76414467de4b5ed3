// Runs the scenarios that were asked for, one after the other.
import { basename } from 'node:path';

import { checkDevice } from '../../lib/devices.js';
import { configure, native } from '../../lib/native.js';
import { chooseSides } from './choice.js';
import { BenchContext, type BenchSettings, type ComparisonResult } from './context.js';
import { describeMachine } from './machine.js';
import type { BenchResult } from './report.js';
import { scenarios } from './scenarios.js';

export interface RunOptions {
  log: (line: string) => void;
  /** Called after each comparison with all that has been measured. */
  onResult?: (result: BenchResult) => Promise<void>;
}

export async function runBench(
  names: readonly string[],
  settings: BenchSettings,
  { log, onResult = async () => {} }: RunOptions,
): Promise<BenchResult> {
  configure({ threads: settings.threads });
  const device = checkDevice(settings.device);
  const choice = chooseSides(settings, device !== 'cpu' && native().cudaCapability(device) > 0);
  for (const line of choice.leftOut) log(line);
  const context = new BenchContext({ ...settings, device }, choice, log);
  // Without this machine's paths: results are published.
  const { python, sdcpp, model, other, ...rest } = context.settings;
  const named = (path: string | undefined) => path && basename(path);
  const shown = { ...rest, model: named(model), other: named(other) };
  const result: BenchResult = {
    date: new Date().toISOString(),
    machine: describeMachine(device),
    settings: shown,
    peers: context.versions,
    ...(choice.leftOut.length > 0 && { leftOut: choice.leftOut }),
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
        await onResult(result);
      }
    }
  } finally {
    await context.dispose();
  }
  return result;
}
