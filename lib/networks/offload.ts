// Weights that are not always on the device. The native side moves them; here stands when they go.
import type { NativeNetwork, OffloadMode } from '../core.js';
import { callAsync } from '../native.js';

let isSimulated = false;

/** @internal For tests: from now on networks treat the CPU as an accelerator with memory of its own. */
export function simulateAccelerator(on: boolean): void {
  isSimulated = on;
}

export function isSimulatingAccelerator(): boolean {
  return isSimulated;
}

/** Whether there is a host to offload to that is not the device itself. */
export function canOffload(device: string): boolean {
  return isSimulated || device !== 'cpu';
}

/**
 * Networks in groups that are on the device at the same time: before one runs, those of other groups
 * leave. Requests are carried out in the order in which they are made, so this holds for any number of
 * generations at the same time.
 */
export class OffloadStages {
  readonly #stages: readonly (readonly Residence[])[];

  constructor(stages: readonly (readonly Residence[])[]) {
    this.#stages = stages;
  }

  makeRoomFor(residence: Residence): void {
    for (const stage of this.#stages) {
      if (stage.includes(residence)) continue;
      for (const other of stage) other.leave();
    }
  }

  leave(): void {
    for (const residence of this.#stages.flat()) residence.leave();
  }
}

/** Where one network's weights are, after all that has been asked for so far. */
export class Residence {
  readonly #natives: () => Iterable<NativeNetwork>;
  #mode: OffloadMode;
  #isHere: boolean;
  #stages: OffloadStages | undefined;
  #fault: { error: unknown } | undefined;

  constructor(natives: () => Iterable<NativeNetwork>, mode: OffloadMode) {
    this.#natives = natives;
    this.#mode = mode;
    this.#isHere = mode === 'none';
  }

  get mode(): OffloadMode {
    return this.#mode;
  }

  /** Takes its turn among the runs. What goes wrong is thrown by the next run. */
  offload(mode: OffloadMode, stages?: OffloadStages): void {
    this.#stages = mode === 'model' ? stages : undefined;
    this.#fault = undefined;
    if (mode === this.#mode) return;
    this.#mode = mode;
    this.#isHere = mode === 'none';
    for (const native of this.#natives()) {
      callAsync(() => native.setOffload(mode)).catch((error: unknown) => {
        this.#fault = { error };
      });
    }
  }

  /** To be called right before a run is asked for. @throws what an earlier offload ran into */
  beforeRun(): void {
    if (this.#fault !== undefined) throw this.#fault.error;
    if (this.#mode !== 'model') return;
    this.#stages?.makeRoomFor(this);
    this.#isHere = true;
  }

  leave(): void {
    if (this.#mode !== 'model' || !this.#isHere) return;
    this.#isHere = false;
    // It can fail only where the process is leaving, too.
    for (const native of this.#natives()) callAsync(() => native.leave()).catch(() => {});
  }
}
