// What happens to the process around native work: leaving in the middle, errors, workers.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const inThisFolder = (file: string) => fileURLToPath(new URL(file, import.meta.url));

interface Outcome {
  code: number | null;
  signal: string | null;
  output: string;
}

function run(scenario: string): Promise<Outcome> {
  return start(inThisFolder('scenarios.ts'), scenario);
}

function start(...script: string[]): Promise<Outcome> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, ['--import', 'tsx', ...script], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let output = '';
    child.stdout.on('data', (chunk) => {
      output += chunk;
    });
    child.stderr.on('data', (chunk) => {
      output += chunk;
    });
    child.on('close', (code, signal) => resolve({ code, signal, output }));
  });
}

test('process.exit in the middle of a run ends with its own code, three times in a row', async () => {
  for (let i = 0; i < 3; i += 1) {
    const { code, signal, output } = await run('exit');
    assert.deepEqual({ code, signal }, { code: 7, signal: null }, output);
  }
});

test('process.exit while weights are streamed to the device ends with its own code', async () => {
  for (let i = 0; i < 3; i += 1) {
    const { code, signal, output } = await run('exit-streaming');
    assert.deepEqual({ code, signal }, { code: 7, signal: null }, output);
  }
});

test('an uncaught error in the middle of a run ends the process with code 1', async () => {
  const { code, signal, output } = await run('throw');
  assert.deepEqual({ code, signal }, { code: 1, signal: null }, output);
  assert.match(output, /thrown on purpose/);
});

test('a process whose work is done ends by itself', async () => {
  const { code, output } = await run('finish');
  assert.equal(code, 0, output);
  assert.match(output, /drawn/);
});

test('a pending run keeps the process alive until its picture is there', async () => {
  const { code, output } = await run('not-awaited');
  assert.equal(code, 0, output);
  assert.match(output, /drawn later/);
});

test('workers draw at the same time, each on its own, and the same picture', async () => {
  const { code, output } = await run('workers');
  assert.equal(code, 0, output);
  assert.match(output, /two equal pictures/);
});

test('terminating a worker in the middle of a run leaves the process unharmed', async () => {
  const { code, signal, output } = await run('terminate');
  assert.deepEqual({ code, signal }, { code: 0, signal: null }, output);
  assert.match(output, /still drawing after termination/);
});

test('workers may be terminated at any moment, inside a call into native code too', async () => {
  const { code, signal, output } = await start(inThisFolder('terminate.ts'));
  assert.deepEqual({ code, signal }, { code: 0, signal: null }, output);
  assert.match(output, /all terminated/);
});

test('weight files that become shorter while they are used are an error, in workers too', async () => {
  const { code, signal, output } = await run('shortened-files');
  assert.deepEqual({ code, signal }, { code: 0, signal: null }, output);
  assert.equal(
    output.match(/ERR_CHECKPOINT: .*has changed since it was loaded/g)?.length,
    2,
    output,
  );
  assert.match(output, /still drawing/);
});
