// What doctor does: all checks, those with libtorch in a process of their own, and the cures.
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

import { TorchbrushError } from '../errors.js';
import type { DoctorFlags } from './doctor.js';
import { type Check, systemChecks } from './doctor-checks.js';
import { checkNative } from './doctor-native.js';
import { signal } from './interrupt.js';
import { printResult, reportFailure } from './output.js';

/** In the child: one line of JSON for each check. */
export async function nativeChecks(flags: DoctorFlags): Promise<void> {
  await checkNative((check) => process.stdout.write(`${JSON.stringify(check)}\n`), flags);
}

/** @throws TorchbrushError, the first failure, when all is told */
export async function doctor(flags: DoctorFlags): Promise<void> {
  const checks: Check[] = [];
  const tell = (check: Check) => {
    checks.push(check);
    if (flags.json !== true) printResult(inWords(check));
  };
  for (const check of await systemChecks()) tell(check);
  await inChild(flags, tell);
  const failures = checks.filter(({ status }) => status === 'failed');
  const ready = failures.length === 0;
  if (flags.json === true) printResult(JSON.stringify({ ready, checks }, undefined, 2));
  const [first] = failures;
  if (first === undefined) return;
  const message = `${first.name}: ${first.found}${first.cure === undefined ? '' : `\n${first.cure}`}`;
  const error = new TorchbrushError(message, { code: first.code ?? 'ERR_DOCTOR' });
  // The report is one value, and the failure is in it.
  if (flags.json === true) process.exitCode = reportFailure(error);
  else throw error;
}

async function inChild({ selfTest }: DoctorFlags, tell: (check: Check) => void): Promise<void> {
  const [, main = ''] = process.argv;
  const args = [main, 'doctor', '--native', ...(selfTest ? [] : ['--no-self-test'])];
  const child = spawn(process.execPath, [...process.execArgv, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    signal,
  });
  let errors = '';
  child.stderr.on('data', (chunk) => {
    errors += chunk;
  });
  const ended = new Promise<{ code: number | null; by: NodeJS.Signals | null }>(
    (resolve, reject) => {
      child.on('error', reject);
      child.on('close', (code, by) => resolve({ code, by }));
    },
  );
  for await (const line of createInterface(child.stdout)) {
    try {
      tell(JSON.parse(line) as Check);
    } catch {
      errors += `${line}\n`;
    }
  }
  const { code, by } = await ended;
  signal.throwIfAborted();
  if (code === 0) return;
  const end = by === null ? `ended with ${code}` : `was killed by ${by}`;
  const last = errors.trim().split('\n').at(-1) ?? '';
  const how = last === '' ? end : `${end}: ${last}`;
  tell({
    name: 'crash',
    status: 'failed',
    found: `The process that loads libtorch ${how}.`,
    code: 'ERR_DOCTOR_CRASH',
    cure:
      by === 'SIGILL'
        ? 'This libtorch uses instructions that this CPU lacks. Take another build of it.'
        : by === 'SIGKILL'
          ? 'Perhaps memory ran out: give the machine or the container more.'
          : 'Take another libtorch: pip install torch==2.13.0, or name one with TORCHBRUSH_LIBTORCH.',
  });
}

function inWords({ name, status, found, cure }: Check): string {
  const label = status === 'ok' ? '' : `${status.toUpperCase()}  `;
  const indent = ' '.repeat(11);
  const lines = `${label}${found}${cure === undefined ? '' : `\n→ ${cure}`}`.split('\n');
  return lines.map((line, i) => `${i === 0 ? name.padEnd(11) : indent}${line}`).join('\n');
}
