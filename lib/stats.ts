import { native } from './native.js';

/** What this process (this worker) holds in native memory. */
export interface MemoryStats {
  /** Live tensors, forgotten ones that await garbage collection among them. */
  tensors: number;
  /** Bytes of the tensors that torchbrush made. */
  tensorBytes: number;
  /** Loaded networks: an autoencoder counts two, one each way. */
  networks: number;
  /** Bytes of their weights by device; absent where no network is loaded. */
  weightBytes?: Record<string, number>;
}

/** Counts that return to where they were once everything made is disposed. */
export function memoryStats(): MemoryStats {
  const { tensors, tensorBytes, networks, weightBytes } = native().counts();
  const used = Object.entries(weightBytes).filter(([, bytes]) => bytes > 0);
  const stats: MemoryStats = { tensors, tensorBytes, networks };
  if (used.length > 0) stats.weightBytes = Object.fromEntries(used);
  return stats;
}

/** A device that networks can run on. */
export interface DeviceInfo {
  /** What to pass as `device`. */
  name: string;
  /** Its kind. */
  type: 'cpu' | 'cuda';
}

/** The devices that can be used now: the CPU, and each GPU whose driver answers. */
export function devices(): DeviceInfo[] {
  const gpus = Array.from({ length: native().cudaCount() }, (_, index): DeviceInfo => {
    return { name: `cuda:${index}`, type: 'cuda' };
  });
  return [{ name: 'cpu', type: 'cpu' }, ...gpus];
}
