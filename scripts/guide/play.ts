// Runs sections of the guide in a folder where every name in them leads to something small.
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { loadImage } from '../../lib/index.js';
import { demoModel, packageRoot } from '../../lib/package-root.js';
import { fileOf, type Section, writeSections } from './sections.js';

export interface StandIns {
  /** The folder of each checkpoint, by the name that the guide has for it. */
  checkpoints: Readonly<Record<string, string>>;
  /** Sides in pixels of the pictures that the examples read. */
  side: number;
}

const childProgram = join(dirname(fileURLToPath(import.meta.url)), 'child.ts');
/** What the examples read, and where it comes from. */
const inputs = join(demoModel, 'inputs');
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
    await writeSections(sections, folder);
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
    // Its paths lead from the package's name to lib/.
    env: { ...process.env, TSX_TSCONFIG_PATH: join(packageRoot, 'tsconfig.json') },
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
