// torchbrush doctor: what was found, and whether it works.
import { existsSync } from 'node:fs';
import { availableParallelism, cpus, freemem, totalmem } from 'node:os';

import type { Command } from 'commander';

import { Image } from '../image.js';
import { libtorchInUse, native } from '../native.js';
import { bundledProgramFolder, programCacheFolder } from '../networks/programs.js';
import { demoModel } from '../package-root.js';
import { AutoPipelineForImage2Image } from '../pipelines/auto.js';
import { devices } from '../stats.js';

export function addDoctor(program: Command): void {
  program
    .command('doctor')
    .description('Shows what libtorch, devices and programs were found, and draws a test picture.')
    .action(async () => {
      console.log(`node       ${process.version} on ${process.platform}-${process.arch}`);
      const [cpu] = cpus();
      const gigabytes = (bytes: number): string => (bytes / 2 ** 30).toFixed(1);
      console.log(`cpu        ${cpu?.model ?? 'unknown'}, ${availableParallelism()} threads`);
      console.log(`memory     ${gigabytes(freemem())} of ${gigabytes(totalmem())} GiB free`);
      const libtorch = libtorchInUse();
      console.log(`libtorch   ${libtorch.version} in ${libtorch.folder} (${libtorch.source})`);
      console.log(`core       ${libtorch.core}`);
      console.log(
        `kernels    ${native().cpuCapability()}, ${native().threads()} threads per operator`,
      );
      console.log(
        `devices    ${devices()
          .map(({ name }) => name)
          .join(', ')}`,
      );
      console.log(`programs   ${bundledProgramFolder}, ${programCacheFolder()}`);
      console.log(`self-test  ${await selfTest()}`);
    });
}

/** Two steps of the embedded model. */
async function selfTest(): Promise<string> {
  if (!existsSync(demoModel)) return 'left out: the embedded model is not installed';
  const began = performance.now();
  using pipe = await AutoPipelineForImage2Image.fromPretrained(demoModel);
  const image = Image.fromRaw(new Uint8Array(64 * 64 * 3).fill(200), 64, 64);
  const { images } = await pipe.generate({
    prompt: 'a test',
    image,
    numInferenceSteps: 2,
    strength: 1,
    seed: 0,
  });
  const fine =
    images[0]?.width === 64 && images[0].data.some((value) => value !== images[0]?.data[0]);
  if (!fine) throw new Error('The self-test drew an empty picture.');
  return `ok, a picture on ${pipe.device} in ${((performance.now() - began) / 1000).toFixed(1)} s`;
}
