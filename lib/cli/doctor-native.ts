// What doctor looks at with libtorch: the library itself, its core, devices and a test picture.
import { existsSync } from 'node:fs';

import { TorchbrushError } from '../errors.js';
import { Image } from '../image.js';
import { findLibtorch } from '../libtorch.js';
import { libtorchInUse, native } from '../native.js';
import { demoModel } from '../package-root.js';
import { AutoPipelineForImage2Image } from '../pipelines/auto.js';
import { devices } from '../stats.js';
import type { Check } from './doctor-checks.js';

/** Each check is handed on as soon as it is done: what comes after may end the process. */
export async function checkNative(
  report: (check: Check) => void,
  { selfTest }: { selfTest: boolean },
): Promise<void> {
  const isLoaded = guarded(report, 'libtorch', () => {
    const { version, folder, source } = libtorchInUse();
    const { tried } = findLibtorch(undefined);
    const before = tried.length === 0 ? '' : `; before that: ${tried.join('; ')}`;
    const found = `${version} in ${folder} (${source}${before})`;
    return { found, details: { version, folder, source, tried } };
  });
  if (!isLoaded) return;
  guarded(report, 'core', () => ({ found: libtorchInUse().core }));
  guarded(report, 'kernels', () => ({
    found: `${native().cpuCapability()}, ${native().threads()} threads for one operator`,
  }));
  guarded(report, 'devices', deviceCheck);
  if (!selfTest) return;
  try {
    report({ name: 'self-test', ...(await drawSomething()) });
  } catch (error) {
    report(failed('self-test', error, 'Please report this, with what torchbrush doctor prints.'));
  }
}

type Finding = Omit<Check, 'name' | 'status'> & Partial<Pick<Check, 'status'>>;

function guarded(report: (check: Check) => void, name: string, look: () => Finding): boolean {
  try {
    report({ name, status: 'ok', ...look() });
    return true;
  } catch (error) {
    report(failed(name, error));
    return false;
  }
}

/** Errors of the library say what to do themselves. */
function failed(name: string, error: unknown, cure?: string): Check {
  const found = error instanceof Error ? error.message : String(error);
  const code = error instanceof TorchbrushError ? error.code : 'ERR_UNKNOWN';
  return { name, status: 'failed', found, code, ...(cure !== undefined && { cure }) };
}

function deviceCheck(): Finding {
  const names = devices().map(({ name }) => name);
  const found = names.join(', ');
  const hasGpu = existsSync('/dev/nvidia0') || existsSync('/proc/driver/nvidia/version');
  if (!hasGpu || names.some((name) => name.startsWith('cuda'))) return { found };
  return {
    found: `${found}; there is an NVIDIA GPU that libtorch does not reach`,
    status: 'warning',
    cure: 'Point TORCHBRUSH_PYTHON or TORCHBRUSH_LIBTORCH at a torch that is built with CUDA, and check that nvidia-smi works.',
  };
}

/** Two steps of the embedded model. */
async function drawSomething(): Promise<Omit<Check, 'name'>> {
  if (!existsSync(demoModel)) {
    const found = 'left out: the embedded model is not installed';
    return { status: 'warning', found, cure: 'Reinstall torchbrush.' };
  }
  const began = performance.now();
  using pipe = await AutoPipelineForImage2Image.fromPretrained(demoModel);
  const image = Image.fromRaw(new Uint8Array(64 * 64 * 3).fill(200), 64, 64);
  const { images } = await pipe.generate({
    ...{ prompt: 'a test', image, numInferenceSteps: 2, strength: 1, seed: 0 },
  });
  const { width, data } = images[0];
  if (width !== 64 || data.every((value) => value === data[0])) {
    throw new Error('The self-test drew an empty picture.');
  }
  const seconds = (performance.now() - began) / 1000;
  return {
    status: 'ok',
    found: `ok, a picture on ${pipe.device} in ${seconds.toFixed(1)} s`,
    details: { device: pipe.device, seconds },
  };
}
