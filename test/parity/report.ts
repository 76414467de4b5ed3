// The table at the end of the parity tests.
import type { ParityCase } from './case.js';
import type { Difference } from './compare.js';
import type { DiffusersResult } from './diffusers.js';

/** Prints the largest differences by scheduler and task, and the time that both sides took. */
export function printMaxima(
  differences: ReadonlyMap<ParityCase, Difference>,
  expected: ReadonlyMap<string, DiffusersResult>,
  drawing: number,
): void {
  const rows = new Map<string, { cases: number; picture: number; latents: number }>();
  for (const [one, { picture, latents }] of differences) {
    for (const key of [groupOf(one), 'all']) {
      const row = rows.get(key) ?? { cases: 0, picture: 0, latents: 0 };
      row.cases += 1;
      row.picture = Math.max(row.picture, picture);
      row.latents = Math.max(row.latents, latents);
      rows.set(key, row);
    }
  }
  const line = (cells: string[]) => console.log(cells[0]?.padEnd(52), ...cells.slice(1).map(pad));
  line(['largest differences', 'cases', 'picture', 'latents']);
  for (const [key, { cases, picture, latents }] of rows) {
    line([key, String(cases), exponent(picture), exponent(latents)]);
  }
  const closest = [...differences].sort(([, a], [, b]) => b.picture - a.picture).slice(0, 3);
  for (const [{ name }, { picture }] of closest) console.log(`${exponent(picture)} in "${name}"`);
  const theirs = [...expected.values()].reduce((sum, { seconds }) => sum + seconds, 0);
  console.log(
    `drawing took diffusers ${theirs.toFixed(0)} s and torchbrush ${drawing.toFixed(0)} s`,
  );
}

function groupOf({ scheduler, pipeline, name }: ParityCase): string {
  const task = pipeline === 'StableDiffusionPipeline' ? 'text-to-image' : 'image-to-image';
  if (!/^[a-z]+-[a-z]+ \d/.test(name) || scheduler === undefined) return `options, ${task}`;
  const guided = /guidance 1$/.test(name) ? 'guidance 1' : 'guidance 7.5';
  return `${scheduler.class.replace('Scheduler', '')}, ${task}, ${guided}`;
}

function exponent(value: number): string {
  return value.toExponential(1);
}

function pad(cell: string): string {
  return cell.padStart(9);
}
