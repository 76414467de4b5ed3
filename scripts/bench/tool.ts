// What the command line takes of the benchmarks.
export { allPeers, dtypesFor, peersFor } from './choice.js';
export { markdown } from './report.js';
export { runBench } from './run.js';
export { runAsChild } from './scenarios/memory.js';
export { scenarios } from './scenarios.js';
