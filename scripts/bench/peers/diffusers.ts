// The ways of running diffusers that torchbrush is compared with.
import { join } from 'node:path';

import { packageRoot } from '../../../lib/package-root.js';
import type { BenchDType } from '../measure.js';
import { PeerProcess } from './process.js';

export type DeviceKind = 'cpu' | 'cuda';

export interface DiffusersMode {
  name: string;
  dtype: BenchDType;
  /** Where people run it so. */
  devices: readonly DeviceKind[];
  channelsLast: boolean;
  /** A mode of torch.compile; null for eager. */
  compile: string | null;
}

const eager = { channelsLast: false, compile: null } as const;

export const diffusersModes: Record<string, DiffusersMode> = {
  // On CUDA, too: errors are measured against it.
  eager: {
    name: 'diffusers eager float32',
    dtype: 'float32',
    devices: ['cpu', 'cuda'],
    ...eager,
  },
  'eager-bf16': { name: 'diffusers eager bfloat16', dtype: 'bfloat16', devices: ['cpu'], ...eager },
  'eager-bf16-cl': {
    name: 'diffusers eager bfloat16 channels_last',
    dtype: 'bfloat16',
    devices: ['cpu'],
    channelsLast: true,
    compile: null,
  },
  'compile-bf16': {
    name: 'torch.compile with freezing, bfloat16 channels_last',
    dtype: 'bfloat16',
    devices: ['cpu'],
    channelsLast: true,
    compile: 'default',
  },
  'eager-fp16': { name: 'diffusers eager float16', dtype: 'float16', devices: ['cuda'], ...eager },
  // This mode tries kernels, and replays runs as CUDA graphs.
  'compile-fp16': {
    name: 'torch.compile max-autotune, float16 channels_last',
    dtype: 'float16',
    devices: ['cuda'],
    channelsLast: true,
    compile: 'max-autotune',
  },
};

export const diffusersScript = join(packageRoot, 'scripts', 'bench', 'peers', 'diffusers_peer.py');

export async function startDiffusers(
  python: string,
  name: string,
  { threads, device, limit }: { threads: number; device: string; limit?: number | undefined },
): Promise<PeerProcess> {
  const args = ['-W', 'ignore', diffusersScript, String(threads), device];
  return PeerProcess.start(name, python, args, { limit });
}
