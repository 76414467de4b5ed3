// Runs sections of the guide in a folder where every name in them leads to something small.
import { execFile, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { loadImage } from '../../lib/index.js';
import { packageRoot } from '../../lib/package-root.js';
import type { Section } from './sections.js';

export interface StandIns {
  /** The folder of each checkpoint, by the name that the guide has for it. */
  checkpoints: Readonly<Record<string, string>>;
  /** Sides in pixels of the pictures that the examples read. */
  side: number;
}

const childProgram = join(dirname(fileURLToPath(import.meta.url)), 'child.ts');
/** What the examples read, and where it comes from. */
const inputs = join(packageRoot, 'models', 'demo', 'inputs');
const pictures = {
  'house.png': 'house-noto-64.png',
  'apple.png': 'apple-3d-64.png',
  'cat.png': 'cat-flat-64.png',
  'depth.png': 'house-noto-64.png',
} as const;

/** Calls `action` with a folder for the sections to run in, which is gone afterwards. */
export async function inWorkFolder<Result>(
  standIns: StandIns,
  sections: readonly Section[],
  action: (folder: string) => Promise<Result>,
): Promise<Result> {
  const folder = await mkdtemp(join(tmpdir(), 'torchbrush-guide-'));
  try {
    await furnish(folder, standIns);
    for (const section of sections) await writeFile(join(folder, fileOf(section)), section.code);
    return await action(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function furnish(folder: string, { checkpoints, side }: StandIns): Promise<void> {
  for (const [name, file] of Object.entries(pictures)) {
    const image = await loadImage(join(inputs, file));
    await image.resize(side, side).save(join(folder, name));
  }
  for (const [name, target] of Object.entries(checkpoints)) {
    await mkdir(join(folder, dirname(name)), { recursive: true });
    await symlink(target, join(folder, name), 'dir');
  }
  await writeFile(join(folder, 'tsconfig.json'), JSON.stringify(tsconfig));
}

/** The package's own settings, with the package in place of an installed one. */
const tsconfig = {
  extends: join(packageRoot, 'tsconfig.json'),
  compilerOptions: {
    paths: { torchbrush: [join(packageRoot, 'lib', 'index.ts')] },
    typeRoots: [join(packageRoot, 'node_modules', '@types')],
  },
  include: ['*.mts'],
};

function fileOf({ title }: Section): string {
  return `${title.toLowerCase().replaceAll(/[^\w]+/g, '-')}.mts`;
}

/** What the compiler says of the sections in a folder, with the lines of the guide; '' if nothing. */
export async function typeErrors(folder: string): Promise<string> {
  const tsc = createRequire(import.meta.url).resolve('typescript/bin/tsc');
  return await new Promise((resolve, reject) => {
    execFile(process.execPath, [tsc, '-p', folder], { cwd: folder }, (error, stdout, stderr) => {
      if (error !== null && stdout === '') reject(new Error(stderr, { cause: error }));
      else resolve(stdout);
    });
  });
}

export interface Outcome {
  section: Section;
  seconds: number;
  /** Why it failed; undefined if it ran to its end and left no tensor and no network behind. */
  error: string | undefined;
}

/** Runs the sections in a folder, one after the other in one process. */
export async function play(
  sections: readonly Section[],
  folder: string,
  onOutcome: (outcome: Outcome) => void = () => {},
): Promise<Outcome[]> {
  const outcomes: Outcome[] = [];
  const child = fork(childProgram, [folder, ...sections.map(fileOf)], {
    cwd: packageRoot,
    execArgv: ['--import', 'tsx'],
    env: { ...process.env, TSX_TSCONFIG_PATH: join(folder, 'tsconfig.json') },
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
  const tell = (result: Pick<Outcome, 'seconds' | 'error'>) => {
    const outcome = { ...result, section: sections[outcomes.length] as Section };
    outcomes.push(outcome);
    onOutcome(outcome);
  };
  child.on('message', (message) => tell(message as Pick<Outcome, 'seconds' | 'error'>));
  const [code, signal] = await once(child, 'close');
  while (outcomes.length < sections.length) {
    tell({ seconds: 0, error: `The process ended before it was done (${signal ?? code}).` });
  }
  return outcomes;
}
