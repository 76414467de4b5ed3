// What stands in for the checkpoints that the guide names.
import { basename } from 'node:path';

import { demoModel } from '../../lib/package-root.js';
import {
  exportCheckpointPrograms,
  makeCheckpoints,
  makeKandinskyCheckpoints,
} from '../../test/parity/workspace.js';
import type { StandIns } from './play.js';
import { checkpointsOf, type Section } from './sections.js';

const baseModel = 'stable-diffusion-v1-5/stable-diffusion-v1-5';

/** The embedded model, for Stable Diffusion and its fine-tunes. */
export const embeddedStandIns: StandIns = {
  checkpoints: {
    [baseModel]: demoModel,
    'ogkalu/Comic-Diffusion': demoModel,
    'kohbanye/pixel-art-style': demoModel,
  },
  side: 64,
};

/** Tiny checkpoints with random weights, made with Python, by the names of their makers. */
const random = {
  [baseModel]: 'two-levels:1',
  'nitrosocke/elden-ring-diffusion': 'two-levels:1',
  'stabilityai/stable-diffusion-xl-base-1.0': 'xl-base:1',
  'stabilityai/stable-diffusion-xl-refiner-1.0': 'xl-refiner:3',
  'stabilityai/sd-x2-latent-upscaler': 'upscaler-x2:1',
  'stabilityai/stable-diffusion-x4-upscaler': 'upscaler-x4:2',
} as const;
const randomControlNets = {
  'lllyasviel/control_v11f1p_sd15_depth': 'control:1',
  'lllyasviel/control_v11p_sd15_canny': 'control:2',
} as const;
const randomKandinsky = 'four-levels:1';

/** The sections that the embedded model can run, and the others. */
export function splitSections(
  sections: readonly Section[],
): Record<'embedded' | 'others', Section[]> {
  const isEmbedded = (section: Section) =>
    checkpointsOf(section).every((name) => name in embeddedStandIns.checkpoints);
  return {
    embedded: sections.filter(isEmbedded),
    others: sections.filter((section) => !isEmbedded(section)),
  };
}

/** Makes tiny checkpoints, and the programs of their architectures. */
export async function randomStandIns(python: string): Promise<StandIns> {
  const makers = [...Object.values(random), ...Object.values(randomControlNets)];
  const made = await makeCheckpoints(python, [...new Set(makers)]);
  const { [randomKandinsky]: kandinsky } = await makeKandinskyCheckpoints(python, [
    randomKandinsky,
  ]);
  const { prior, decoder } = kandinsky;
  const pipelines = mapValues(random, (maker) => made[maker]);
  const controlnets = mapValues(randomControlNets, (maker) => made[maker]);
  await exportCheckpointPrograms(
    python,
    [...Object.values(pipelines), prior, decoder],
    Object.values(controlnets),
  );
  return {
    checkpoints: {
      ...pipelines,
      ...controlnets,
      'kandinsky-community/kandinsky-2-2-decoder': decoder,
      // As the decoder's README.md names it.
      [`kandinsky-community/${basename(prior)}`]: prior,
    },
    side: 16,
  };
}

function mapValues<Value>(
  record: Readonly<Record<string, Value>>,
  change: (value: Value) => string,
): Record<string, string> {
  return Object.fromEntries(Object.entries(record).map(([key, value]) => [key, change(value)]));
}
