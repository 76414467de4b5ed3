import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { cpus, release, totalmem, type } from 'node:os';
import { join } from 'node:path';

import { libtorchInUse, native } from '../../lib/native.js';
import { packageRoot } from '../../lib/package-root.js';

export interface Machine {
  cpu: string;
  /** The model's numbers, where its name tells too little. */
  cores: number;
  gigabytes: number;
  system: string;
  /** Instructions that decide how fast matrix products are. */
  features: string[];
  node: string;
  torchbrush: string;
  libtorch: string;
  capability: string;
  threads: number;
  /** Name and driver of the GPU that was measured, and its compute capability, where one was. */
  gpu?: string;
}

const decisive =
  /^(avx2|fma|f16c|avx512f|avx512bw|avx512_bf16|avx512_fp16|avx512_vnni|avx_vnni|amx_.*|asimd|bf16|i8mm|sve2?)$/;

/** Loads libtorch. */
export function describeMachine(device: string): Machine {
  const { version } = JSON.parse(readFileSync(join(packageRoot, 'package.json'), 'utf8'));
  return {
    cpu: processorName(),
    cores: cpus().length,
    gigabytes: Math.round(totalmem() / 2 ** 30),
    system: `${type()} ${release().split('-')[0]} ${process.arch}`,
    features: features(),
    node: process.versions.node,
    torchbrush: version,
    libtorch: libtorchInUse().version,
    capability: native().cpuCapability(),
    threads: native().threads(),
    ...(device !== 'cpu' && { gpu: describeGpu(device) }),
  };
}

function describeGpu(device: string): string {
  const capability = native().cudaCapability(device);
  const companion =
    capability === 0 ? 'no CUDA companion' : `compute capability ${(capability / 10).toFixed(1)}`;
  const fields = ['--query-gpu=name,driver_version,memory.total', '--format=csv,noheader'];
  try {
    const told = execFileSync('nvidia-smi', [`--id=${device.slice(5)}`, ...fields], {
      encoding: 'utf8',
    });
    return `${told.trim()}, ${companion}`;
  } catch {
    // Not every machine has the tool.
    return `${device}, ${companion}`;
  }
}

function cpuinfo(): string {
  try {
    return readFileSync('/proc/cpuinfo', 'utf8');
  } catch {
    return '';
  }
}

/** Hypervisors cut the name to the brand: family and model then say which it is. */
function processorName(): string {
  const field = (name: string) => new RegExp(`^${name}\\s*: (.*)$`, 'm').exec(cpuinfo())?.[1];
  const name = cpus()[0]?.model.trim() ?? 'unknown processor';
  const family = field('cpu family');
  return family === undefined ? name : `${name} (family ${family}, model ${field('model')})`;
}

function features(): string[] {
  const flags = /^(?:flags|Features)\s*: (.*)$/m.exec(cpuinfo())?.[1]?.split(' ') ?? [];
  return flags.filter((flag) => decisive.test(flag));
}
