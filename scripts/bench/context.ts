// What all scenarios of a run share: its settings, the peers' processes, and where results go.
import { existsSync } from 'node:fs';
import { readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import type { Choice, OwnMode } from './choice.js';
import type { BenchDType } from './measure.js';
import { interleave, type Side, type SideResult, type Spread, spreadOf } from './measure.js';
import { peakFlop, peakSide } from './peak.js';
import { type DiffusersMode, diffusersModes, startDiffusers } from './peers/diffusers.js';
import type { PeerProcess } from './peers/process.js';

export interface BenchSettings {
  /** Folder of a full-size Stable Diffusion checkpoint; scenarios that need one are left out without. */
  model?: string;
  /** Weight files of a variant, such as `'fp16'`, in that folder. */
  variant?: string;
  rounds: number;
  threads: number;
  /** `'cpu'`, `'cuda'` or `'cuda:1'` */
  device: string;
  /** Of torchbrush's sides. */
  dtypes: readonly BenchDType[];
  /** Sides of square latents. */
  latents: readonly number[];
  /** Names in `diffusersModes`, and `'sdcpp'`. */
  peers: readonly string[];
  /** Interpreter with torch, diffusers and transformers; no such peers without. */
  python?: string;
  /** Folder whose node_modules has `bare` and `@qvac/diffusion-cpp`; no such peer without. */
  sdcpp?: string;
  /** A second checkpoint to load beside the first: the same in another format, say. */
  other?: string;
  /** Whether outputs are compared with those of diffusers in float32. */
  check: boolean;
  /** Seconds that a peer may take for one answer; for ever unless given. */
  peerLimit?: number;
}

export interface ComparisonResult {
  title: string;
  unit: 's' | 'ms' | 'MB';
  sides: SideResult[];
  /** Multiplications and additions of one run. */
  flop?: number;
  /** FLOP/s in the same run, by dtype. Far apart, they tell that the machine was busy with other things. */
  peaks?: Record<string, Spread>;
  /** The largest magnitude in the output that errors are measured against. */
  outputScale?: number;
  notes: string[];
}

export interface CompareOptions {
  /** Seconds unless given. */
  unit?: ComparisonResult['unit'];
  /** Multiplications and additions of one run: gives rates, and measures the machine's peak beside. */
  flop?: number;
  warmups?: number;
  /** Instead of the settings'. */
  rounds?: number;
  /** Whether the sides have outputs that can be compared. */
  check?: boolean;
}

export class BenchContext {
  readonly settings: BenchSettings;
  /** The ways of running torchbrush. */
  readonly own: readonly OwnMode[];
  readonly log: (line: string) => void;
  readonly #peers = new Map<string, Promise<PeerProcess>>();
  readonly versions: Record<string, unknown> = {};

  constructor(settings: BenchSettings, { own, peers }: Choice, log: (line: string) => void) {
    const dtypes = [...new Set(own.map(({ dtype }) => dtype))];
    this.settings = { ...settings, dtypes, peers };
    this.own = own;
    this.log = log;
  }

  /** The modes of diffusers that were asked for. */
  get modes(): DiffusersMode[] {
    if (this.settings.python === undefined) return [];
    return Object.entries(diffusersModes)
      .filter(([key]) => this.settings.peers.includes(key))
      .map(([, mode]) => mode);
  }

  /** The process of that name, started at the first call, for the whole run. */
  peer(name: string, start: () => Promise<PeerProcess>): Promise<PeerProcess> {
    let peer = this.#peers.get(name);
    if (peer === undefined) {
      this.log(`  starting ${name}`);
      peer = start();
      this.#peers.set(name, peer);
      peer.then(
        ({ versions }) => {
          this.versions[name] = versions;
        },
        () => {},
      );
    }
    return peer;
  }

  diffusers({ name }: Pick<DiffusersMode, 'name'>): Promise<PeerProcess> {
    return this.peer(name, () => this.startDiffusers(name));
  }

  /** A process of its own, which the caller stops. */
  startDiffusers(name: string): Promise<PeerProcess> {
    const { python, threads, device, peerLimit: limit } = this.settings;
    if (python === undefined) throw new Error('There is no Python to run diffusers in.');
    return startDiffusers(python, name, { threads, device, limit });
  }

  /**
   * A side of diffusers. `prepare` is asked before its first run: where that fails, the side is left
   * out, and nothing else.
   */
  diffusersSide(
    mode: DiffusersMode,
    prepare: (peer: PeerProcess) => Promise<unknown>,
    run: (peer: PeerProcess) => Promise<number>,
  ): Side & { peer(): Promise<PeerProcess> } {
    let prepared: Promise<PeerProcess> | undefined;
    const start = async () => {
      const peer = await this.diffusers(mode);
      await prepare(peer);
      return peer;
    };
    const peer = () => {
      prepared ??= start();
      return prepared;
    };
    const { name, dtype } = mode;
    return { name, dtype, isOurs: false, peer, run: async () => run(await peer()) };
  }

  /** Peers give back what they hold. */
  async closeDiffusers(): Promise<void> {
    for (const { name } of this.modes) {
      // A peer that cannot has been left out already.
      await this.#peers
        .get(name)
        ?.then((peer) => peer.ask('close'))
        .catch(() => {});
    }
  }

  /** Runs the sides in turn; with `roofline`, oneDNN's matrix product among them. */
  async compare(
    title: string,
    sides: Side[],
    options: CompareOptions = {},
  ): Promise<ComparisonResult> {
    const { device, dtypes } = this.settings;
    // On a GPU graphs are recorded at the second run.
    const { unit = 's', flop, warmups = device === 'cpu' ? 1 : 3, check = false } = options;
    const { rounds = this.settings.rounds } = options;
    this.log(title);
    const onCpu = device === 'cpu' && unit === 's' && flop !== undefined;
    const measured = onCpu ? [...new Set([...dtypes, ...sides.map(({ dtype }) => dtype)])] : [];
    const peaks = measured.flatMap((dtype) => (dtype === 'float16' ? [] : (peakSide(dtype) ?? [])));
    const taken = { rounds, warmups, log: this.log };
    const { results, notes } = await interleave([...sides, ...peaks], taken);
    const comparison: ComparisonResult = {
      title,
      unit,
      sides: results.filter(({ name }) => !peaks.some((peak) => peak.name === name)),
      notes,
    };
    if (flop !== undefined) comparison.flop = flop;
    if (peaks.length > 0) {
      const found = results.filter(({ name }) => peaks.some((peak) => peak.name === name));
      comparison.peaks = Object.fromEntries(
        found.map(({ dtype, values }) => [dtype, spreadOf(values.map((took) => peakFlop / took))]),
      );
    }
    if (check && this.settings.check) await this.#compareOutputs(comparison, sides);
    for (const side of [...sides, ...peaks]) side.dispose?.();
    return comparison;
  }

  async #compareOutputs(comparison: ComparisonResult, sides: readonly Side[]): Promise<void> {
    const measured = (side: Side) => comparison.sides.find(({ name }) => name === side.name);
    const reference = sides.find(({ isOurs, dtype }) => !isOurs && dtype === 'float32');
    const measuredReference = reference === undefined ? undefined : measured(reference);
    const expected = measuredReference && (await reference?.output?.());
    if (expected === undefined) {
      comparison.notes.push('Outputs were not compared: there was no diffusers in float32.');
      return;
    }
    comparison.outputScale = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    for (const side of sides) {
      const result = measured(side);
      if (side === reference || side.output === undefined || result === undefined) continue;
      const actual = await side.output();
      if (actual.length !== expected.length) throw new Error(`${side.name} has another shape.`);
      result.maxAbsError = actual.reduce(
        (most, value, i) => Math.max(most, Math.abs(value - (expected[i] as number))),
        0,
      );
    }
  }

  async dispose(): Promise<void> {
    for (const peer of this.#peers.values()) {
      await peer.then(
        (started) => started.stop(),
        () => {},
      );
    }
  }
}

/** Reads and removes what a peer saved: 32-bit floats in a row. */
export async function savedOutput(ask: (path: string) => Promise<unknown>): Promise<Float32Array> {
  const path = join(
    tmpdir(),
    `torchbrush-bench-${process.pid}-${Math.random().toString(36).slice(2)}`,
  );
  try {
    await ask(path);
    const bytes = await readFile(path);
    return new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
  } finally {
    if (existsSync(path)) await rm(path);
  }
}
