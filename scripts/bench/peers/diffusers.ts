// The ways of running diffusers that torchbrush is compared with.
import { join } from 'node:path';

import { packageRoot } from '../../../lib/package-root.js';
import type { BenchDType } from '../measure.js';
import { PeerProcess } from './process.js';

export interface DiffusersMode {
  name: string;
  dtype: BenchDType;
  channelsLast: boolean;
  /** A mode of torch.compile; null for eager. */
  compile: string | null;
}

const eager = { channelsLast: false, compile: null } as const;

export const diffusersModes: Record<string, DiffusersMode> = {
  eager: { name: 'diffusers eager float32', dtype: 'float32', ...eager },
  'eager-bf16': { name: 'diffusers eager bfloat16', dtype: 'bfloat16', ...eager },
  'eager-bf16-cl': {
    name: 'diffusers eager bfloat16 channels_last',
    dtype: 'bfloat16',
    channelsLast: true,
    compile: null,
  },
  'compile-bf16': {
    name: 'torch.compile with freezing, bfloat16 channels_last',
    dtype: 'bfloat16',
    channelsLast: true,
    compile: 'default',
  },
};

export const diffusersScript = join(packageRoot, 'scripts', 'bench', 'peers', 'diffusers_peer.py');

export async function startDiffusers(
  python: string,
  name: string,
  settings: { threads: number; device: string },
): Promise<PeerProcess> {
  const args = ['-W', 'ignore', diffusersScript, String(settings.threads), settings.device];
  return PeerProcess.start(name, python, args);
}
