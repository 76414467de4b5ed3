// Puts the files of run.sh together: node gather.mjs FOLDER COMMIT_FILE
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const [folder, commitFile] = process.argv.slice(2);

function json(name) {
  const file = join(folder, name);
  if (!existsSync(file)) return undefined;
  try {
    return JSON.parse(readFileSync(file, 'utf8'));
  } catch {
    // A part that ran out of time may have left half a file.
    return undefined;
  }
}

function text(name) {
  const file = join(folder, name);
  return existsSync(file) ? readFileSync(file, 'utf8').trim().split('\n') : undefined;
}

/** What scripts/bench wrote: by part, in the order of their names. */
const benchmarks = readdirSync(folder)
  .filter(
    (name) => name.endsWith('.json') && existsSync(join(folder, name.replace('.json', '.md'))),
  )
  .map((name) => [name.slice(0, -'.json'.length), json(name)]);

const result = {
  date: new Date().toISOString(),
  commit: existsSync(commitFile) ? readFileSync(commitFile, 'utf8').trim() : undefined,
  machine: json('machine.json'),
  parts: readdirSync(folder)
    .filter((name) => name.endsWith('.part.json'))
    .map(json),
  kernels: text('check.log'),
  tests: json('tests.json'),
  fullSizeTests: json('full.json'),
  bench: Object.fromEntries(benchmarks),
};
console.log(JSON.stringify(result, null, 2));
