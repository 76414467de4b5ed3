#!/usr/bin/env node
// The command line. Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
import { reportFailure } from './output.js';
import { buildProgram } from './program.js';
import { writeLine } from './progress.js';

// Node's own form names the process, and breaks the bar.
process.removeAllListeners('warning');
process.on('warning', ({ message, ...rest }) => {
  const { code } = rest as { code?: string };
  writeLine(`warning: ${message}${code === undefined ? '' : ` (${code})`}`);
});

// Who reads standard output may have had enough, as head does.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0);
  throw error;
});

const words = process.argv.slice(2);
try {
  await buildProgram().parseAsync(words, { from: 'user' });
} catch (error) {
  process.exitCode = reportFailure(error, { json: words.includes('--json') });
}
