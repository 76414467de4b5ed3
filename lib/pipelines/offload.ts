// Which networks of a pipeline share the device, and when a generation is over.

import type { OffloadMode } from '../core.js';
import { canOffload, OffloadStages } from '../networks/offload.js';
import { networksOf } from './components.js';

/** Parts that run in the same steps; every other part has the device for itself. */
const together = ['unet', 'controlnet'];

let hasWarned = false;

/** What comes of a wish to offload on a device: on the CPU nothing, which is said once. */
export function effectiveOffload(mode: OffloadMode, device: string): OffloadMode {
  if (mode === 'none' || canOffload(device)) return mode;
  if (!hasWarned) {
    process.emitWarning('Offloading does nothing on the CPU: weights are in its memory already.', {
      code: 'TORCHBRUSH_NO_OFFLOAD',
    });
  }
  hasWarned = true;
  return 'none';
}

interface Offloaded {
  readonly components: object;
  generate?: (options: never) => Promise<unknown>;
}

/** Sets the mode of a pipeline's networks, for all pipelines that share them. */
export function offloadPipeline(pipe: Offloaded, mode: OffloadMode): void {
  const { components } = pipe;
  const stages = new OffloadStages(stagesOf(components));
  for (const network of networksOf(components)) network.residence.offload(mode, stages);
  if (mode === 'model') leaveAfterGenerating(pipe, stages);
  else delete pipe.generate;
}

function stagesOf(components: object) {
  const stages = new Map<string, object>();
  for (const [name, part] of Object.entries(components)) {
    const stage = together.includes(name) ? 'denoising' : name;
    stages.set(stage, { ...stages.get(stage), [name]: part });
  }
  return [...stages.values()].map((parts) => networksOf(parts).map(({ residence }) => residence));
}

/**
 * When a pipeline's last generation ends, well or not, its networks leave. As the hooks that diffusers
 * puts on modules this belongs to one pipeline, whatever its class: so it is put over its method.
 */
function leaveAfterGenerating(pipe: Offloaded, stages: OffloadStages): void {
  const { generate } = Object.getPrototypeOf(pipe) as Required<Offloaded>;
  let running = 0;
  pipe.generate = async (options) => {
    running += 1;
    try {
      return await generate.call(pipe, options);
    } finally {
      running -= 1;
      if (running === 0) stages.leave();
    }
  };
}
