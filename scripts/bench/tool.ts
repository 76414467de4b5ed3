// What the command line takes of the benchmarks.
import { diffusersModes } from './peers/diffusers.js';

export { markdown } from './report.js';
export { runBench, scenarios } from './run.js';

export const allPeers: string[] = [...Object.keys(diffusersModes), 'sdcpp'];

export { runAsChild } from './scenarios/memory.js';
