// Results as a Markdown table and as JSON.
import type { ComparisonResult } from './context.js';
import type { Machine } from './machine.js';
import type { SideResult } from './measure.js';

export interface BenchResult {
  date: string;
  machine: Machine;
  settings: Record<string, unknown>;
  /** What each peer said of itself. */
  peers: Record<string, unknown>;
  /** Why sides that were asked for are not there. */
  leftOut?: string[];
  scenarios: Record<string, ComparisonResult[]>;
}

export function markdown(result: BenchResult): string {
  const parts = Object.values(result.scenarios).flat().map(section);
  return [describe(result), ...parts].join('\n\n');
}

function describe({ machine, date, peers, settings, leftOut = [] }: BenchResult): string {
  const lines = [
    `- ${date.slice(0, 10)}: ${machine.cpu}, ${machine.cores} cores, ${machine.gigabytes} GiB, ${machine.system}`,
    ...(machine.gpu === undefined ? [] : [`- GPU: ${machine.gpu}`]),
    `- Processor's features that matter: ${machine.features.join(', ') || 'none'}`,
    `- torchbrush ${machine.torchbrush}, libtorch ${machine.libtorch}, ${machine.capability} kernels, ${machine.threads} threads, Node ${machine.node}`,
    ...describePeers(peers),
    ...leftOut.map((line) => `- ${line}`),
    `- ${settings.rounds} rounds, each side once per round in turn, after warming up; medians, with the smallest and the largest in brackets`,
  ];
  return lines.join('\n');
}

/** Peers that say the same of themselves share a line. */
function describePeers(peers: BenchResult['peers']): string[] {
  const named = new Map<string, string[]>();
  for (const [name, said] of Object.entries(peers)) {
    const fields = Object.entries(said as Record<string, unknown>);
    const shown = fields.map(([key, value]) => `${key} ${value}`).join(', ');
    named.set(shown, [...(named.get(shown) ?? []), name]);
  }
  return [...named].map(([shown, names]) => `- ${names.join('; ')}: ${shown}`);
}

function section(comparison: ComparisonResult): string {
  const { sides, title, unit, notes } = comparison;
  const ours = sides.filter(({ isOurs }) => isOurs);
  const isTime = unit !== 'MB' && sides.some(({ isOurs }) => !isOurs);
  const hasErrors = sides.some(({ maxAbsError }) => maxAbsError !== undefined);
  const head = ['side', `${unit}, median (min–max)`];
  if (isTime) head.push(...ours.map(({ name }) => `${name} is faster by`));
  if (comparison.flop !== undefined) head.push('GFLOP/s (of peak)');
  if (hasErrors) head.push('max. error');
  const rows = sides.map((side) => {
    const row = [side.name, show(side)];
    if (isTime) row.push(...ours.map((own) => ratio(own, side)));
    if (comparison.flop !== undefined) row.push(rate(side, comparison));
    if (hasErrors) row.push(side.maxAbsError?.toExponential(1) ?? '–');
    return row;
  });
  const table = [head, head.map(() => '---'), ...rows].map((row) => `| ${row.join(' | ')} |`);
  const said = [...roofline(comparison), ...notes].map((line) => `- ${line}`);
  return [`### ${title}`, table.join('\n'), said.join('\n')].filter(Boolean).join('\n\n');
}

function show({ median, min, max }: SideResult): string {
  return `${digits(median)} (${digits(min)}–${digits(max)})`;
}

function digits(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toPrecision(3);
}

function ratio(own: SideResult, side: SideResult): string {
  return own === side ? '–' : `${(side.median / own.median).toFixed(2)}×`;
}

function rate(side: SideResult, { flop = 0, peaks = {} }: ComparisonResult): string {
  const perSecond = flop / side.median;
  const peak = peaks[side.dtype];
  const share = peak === undefined ? '' : ` (${((100 * perSecond) / peak.median).toFixed(0)} %)`;
  return `${(perSecond / 1e9).toFixed(0)}${share}`;
}

function roofline({ flop, peaks = {}, outputScale }: ComparisonResult): string[] {
  const lines: string[] = [];
  if (flop !== undefined) {
    const giga = (rate: number) => (rate / 1e9).toFixed(0);
    const rates = Object.entries(peaks).map(
      ([dtype, { median, min, max }]) => `${dtype} ${giga(median)} (${giga(min)}–${giga(max)})`,
    );
    const peak = rates.length > 0 ? `; oneDNN's matrix product, GFLOP/s: ${rates.join(', ')}` : '';
    lines.push(`${(flop / 1e9).toFixed(0)} GFLOP a run${peak}`);
  }
  if (outputScale !== undefined) {
    const scale = outputScale.toPrecision(3);
    lines.push(`errors are against diffusers in float32, whose largest output is ${scale}`);
  }
  return lines;
}
