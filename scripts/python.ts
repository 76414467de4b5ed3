import { execFile, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, open, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);
const repository = dirname(dirname(fileURLToPath(import.meta.url)));

/** Where the project-private environment lives: nothing outside the repository is touched. */
export const environmentFolder = join(repository, '.cache', 'python');

/** The pinned packages of the exporter, the training scripts and the parity tests. */
export const defaultRequirements = join(repository, 'scripts', 'python', 'requirements.txt');

export interface EnsurePythonOptions {
  /**
   * Path of a requirements file; `scripts/python/requirements.txt` unless given. Packages in a
   * `…-no-deps.txt` beside it are installed without what they ask for.
   */
  requirements?: string;
  /** Receives one line for each thing that is about to be done; silent unless given. */
  log?: (line: string) => void;
}

/**
 * Path of a Python interpreter that has the pinned requirements.
 *
 * `TORCHBRUSH_PYTHON` wins and is returned as it is: who names an interpreter looks after its
 * packages. Otherwise the environment `.cache/python` is made on first use and filled with pip; a
 * stamp with the requirements' hash makes later calls instant. Safe to call from several processes.
 */
export async function ensurePython(options: EnsurePythonOptions = {}): Promise<string> {
  const { requirements = defaultRequirements, log = () => {} } = options;
  const named = process.env.TORCHBRUSH_PYTHON;
  if (named !== undefined && named !== '') return named;

  const text = await readFile(requirements, 'utf8');
  const alone = requirements.replace(/\.txt$/, '-no-deps.txt');
  const aloneText = existsSync(alone) ? await readFile(alone, 'utf8') : '';
  const hash = createHash('sha256').update(text).update(aloneText).digest('hex').slice(0, 16);
  const stamp = join(environmentFolder, '.installed', hash);
  const python = interpreterOf(environmentFolder);
  if (existsSync(stamp) && existsSync(python)) return python;

  await withLock(`${environmentFolder}.lock`, log, async () => {
    if (existsSync(stamp) && existsSync(python)) return;
    await ensureEnvironment(python, log);
    await install(python, requirements, text, log);
    if (aloneText !== '') {
      log(`Installing the packages of ${alone}`);
      await stream(python, [...pipInstall, '--no-deps', '-r', alone], log);
    }
    await mkdir(dirname(stamp), { recursive: true });
    await writeFile(stamp, text);
  });
  return python;
}

function interpreterOf(folder: string): string {
  return process.platform === 'win32'
    ? join(folder, 'Scripts', 'python.exe')
    : join(folder, 'bin', 'python');
}

async function ensureEnvironment(python: string, log: (line: string) => void): Promise<void> {
  if (await answers(python, ['-m', 'pip', '--version'])) return;
  const base = await findBasePython();
  log(`Creating a Python environment in ${environmentFolder} (from ${base})`);
  await rm(environmentFolder, { recursive: true, force: true });
  try {
    await stream(base, ['-m', 'venv', environmentFolder], log);
  } catch (error) {
    throw new Error(
      `Could not create a Python environment with "${base} -m venv ${environmentFolder}". ` +
        'On Debian and Ubuntu install the package python3-venv, ' +
        'or set TORCHBRUSH_PYTHON to an interpreter that has the packages of ' +
        `${defaultRequirements}.`,
      { cause: error },
    );
  }
}

async function findBasePython(): Promise<string> {
  const check = 'import sys; sys.exit(0 if sys.version_info >= (3, 10) else 1)';
  for (const candidate of ['python3', 'python', 'python3.13', 'python3.12', 'python3.11']) {
    if (await answers(candidate, ['-c', check])) return candidate;
  }
  throw new Error(
    'No Python 3.10 or newer was found on PATH. Install one (Debian: python3 and python3-venv), ' +
      'or set TORCHBRUSH_PYTHON to an interpreter.',
  );
}

const pipInstall = [
  '-m',
  'pip',
  'install',
  '--disable-pip-version-check',
  '--progress-bar',
  'off',
  '-q',
];

/** torch goes in first and alone: resolved together with the rest, pip may pick another torch. */
async function install(
  python: string,
  requirements: string,
  text: string,
  log: (line: string) => void,
): Promise<void> {
  const torch = text.split(/\r?\n/).find((line) => /^torch\s*==/.test(line));
  if (torch !== undefined) {
    log(`Installing ${torch} with pip (a large download, once)`);
    await stream(python, [...pipInstall, torch.trim()], log);
  }
  log(`Installing the packages of ${requirements}`);
  await stream(python, [...pipInstall, '-r', requirements], log);
}

async function answers(command: string, args: string[]): Promise<boolean> {
  try {
    await run(command, args);
    return true;
  } catch {
    return false;
  }
}

/** Runs a command with its output shown line by line; rejects with the output's end. */
function stream(command: string, args: string[], log: (line: string) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    let tail = '';
    const take = (chunk: Buffer) => {
      const text = chunk.toString('utf8');
      tail = (tail + text).slice(-4000);
      for (const line of text.split(/\r?\n/)) if (line.trim() !== '') log(`  ${line}`);
    };
    child.stdout.on('data', take);
    child.stderr.on('data', take);
    child.on('error', reject);
    child.on('close', (code) => {
      if (code === 0) resolve();
      else reject(new Error(`"${command} ${args.join(' ')}" failed (${code}):\n${tail}`));
    });
  });
}

/** One process at a time; a lock whose owner is gone is taken over. */
async function withLock(
  path: string,
  log: (line: string) => void,
  action: () => Promise<void>,
): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  for (let announced = false; ; announced = true) {
    try {
      const handle = await open(path, 'wx');
      await handle.writeFile(String(process.pid));
      await handle.close();
      break;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
    if (!announced) log('Waiting for another process that is preparing the Python environment');
    await sleep(500);
    const owner = Number(await readFile(path, 'utf8').catch(() => 'gone'));
    if (owner > 0 && !isAlive(owner)) await rm(path, { force: true });
  }
  try {
    await action();
  } finally {
    await rm(path, { force: true });
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const path = await ensurePython({ log: (line) => console.error(line) });
  console.log(path);
}
