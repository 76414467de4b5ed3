// What is told of recorded runs.
import type { GraphStatus, NativeNetwork } from '../core.js';

export function sumOfGraphs(statuses: readonly GraphStatus[]): GraphStatus {
  const sum = (pick: (status: GraphStatus) => number) =>
    statuses.reduce((total, status) => total + pick(status), 0);
  return {
    held: sum(({ held }) => held),
    recorded: sum(({ recorded }) => recorded),
    replayed: sum(({ replayed }) => replayed),
    eager: sum(({ eager }) => eager),
    fault: statuses.find(({ fault }) => fault !== '')?.fault ?? '',
  };
}

/** To be called after runs: warns once, when a recording has failed. */
export function warnOfFault(className: string, native: NativeNetwork): () => void {
  let warned = false;
  return () => {
    if (warned) return;
    let fault = '';
    try {
      ({ fault } = native.graphStatus());
    } catch {
      // Disposed while the last run was on its way.
    }
    if (fault === '') return;
    warned = true;
    process.emitWarning(
      `A run of the ${className} could not be recorded as a graph, so runs of its shapes stay as slow as before compile(): ${fault}`,
      { code: 'TORCHBRUSH_GRAPH_FAILED' },
    );
  };
}
