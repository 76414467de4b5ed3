// Puts the files of run.sh together: node gather.mjs FOLDER COMMIT_FILE
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const [folder, commitFile] = process.argv.slice(2);

function json(name) {
  const file = join(folder, name);
  if (!existsSync(file)) return undefined;
  const text = readFileSync(file, 'utf8').trim();
  return text === '' ? undefined : JSON.parse(text);
}

function text(name) {
  const file = join(folder, name);
  return existsSync(file) ? readFileSync(file, 'utf8').trim().split('\n') : undefined;
}

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
  bench: json('bench.json'),
};
console.log(JSON.stringify(result, null, 2));
