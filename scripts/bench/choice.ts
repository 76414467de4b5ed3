// Which sides a device can have. What was asked for and cannot be is left out, with a line that says why.
import type { BenchDType } from './measure.js';
import { type DeviceKind, diffusersModes } from './peers/diffusers.js';

/** A way of running torchbrush. */
export interface OwnMode {
  name: string;
  dtype: BenchDType;
  /** After `compile()`: with CUDA graphs. */
  isCompiled: boolean;
}

export interface Choice {
  own: OwnMode[];
  peers: string[];
  leftOut: string[];
}

export const deviceKind = (device: string): DeviceKind => (device === 'cpu' ? 'cpu' : 'cuda');

export const allPeers: readonly string[] = [...Object.keys(diffusersModes), 'sdcpp'];

const devicesOf = (peer: string): readonly DeviceKind[] =>
  // Its package has other builds for the GPU.
  peer === 'sdcpp' ? ['cpu'] : (diffusersModes[peer]?.devices ?? ['cpu', 'cuda']);

/** Those that are compared with unless some are named. */
export function peersFor(device: string): string[] {
  return allPeers.filter((peer) => devicesOf(peer).includes(deviceKind(device)));
}

/** torchbrush's own dtypes unless some are named. */
export function dtypesFor(device: string): BenchDType[] {
  return deviceKind(device) === 'cpu' ? ['float32', 'bfloat16'] : ['float16'];
}

/** @param canCompile Whether there is a companion library for the device. */
export function chooseSides(
  { peers, dtypes, device }: Record<'peers' | 'dtypes', readonly string[]> & { device: string },
  canCompile: boolean,
): Choice {
  const kind = deviceKind(device);
  const leftOut: string[] = [];
  const fitting = peers.filter((peer) => devicesOf(peer).includes(kind));
  for (const peer of peers.filter((name) => !fitting.includes(name))) {
    leftOut.push(`${peer} is left out: it is for ${devicesOf(peer).join(' and ')}, not ${device}`);
  }
  const own: OwnMode[] = [];
  for (const dtype of dtypes as readonly BenchDType[]) {
    const name = `torchbrush ${dtype}`;
    if (kind === 'cpu' && dtype === 'float16') {
      leftOut.push(`${name} is left out: nothing computes in float16 on the CPU`);
      continue;
    }
    own.push({ name, dtype, isCompiled: false });
    if (kind === 'cuda' && canCompile) {
      own.push({ name: `${name}, compiled`, dtype, isCompiled: true });
    } else if (kind === 'cuda') {
      leftOut.push(`${name}, compiled is left out: there is no CUDA companion for ${device}`);
    }
  }
  return { own, peers: fitting, leftOut };
}
