// ControlNets at work: what they add to the UNet at each step.
import type {
  ControlNetConditions,
  ControlNetModel,
  ControlResiduals,
} from '../networks/controlnet.js';
import { add, concat, full, linearCombination, narrow } from '../ops.js';
import type { Tensor } from '../tensor.js';
import { Conditions } from './conditions.js';

/** One ControlNet with what it is to follow, and how closely. */
export interface ControlPart {
  net: ControlNetModel;
  scale: number;
  /** Shares of the steps, 0 to 1, between which it counts. */
  start: number;
  end: number;
}

export interface ControlRequest {
  parts: readonly ControlPart[];
  /** Only the half with the prompt is steered, and the outer layers less than the inner ones. */
  guessMode: boolean;
}

/** What the UNet is about to be given. */
export interface ControlPass extends ControlNetConditions {
  /** [B,C,h,w] or, when guided, [2B,C,h,w] with the negative half first; the rest likewise. */
  sample: Tensor;
  timestep: number;
  promptEmbeds: Tensor;
}

/** Dispose it. */
export class ControlGuide {
  readonly #request: ControlRequest;
  readonly #pictures: readonly Conditions<'image'>[];
  readonly #steps: number;

  /**
   * @param pictures For each net [B,3,H,W] in 0..1, in its dtype and on its device; taken over.
   * @param steps Of the whole run.
   * @param guided Whether there are passes with a negative half.
   */
  constructor(
    request: ControlRequest,
    pictures: readonly Tensor[],
    steps: number,
    guided: boolean,
  ) {
    this.#request = request;
    this.#steps = steps;
    const isDoubled = guided && !request.guessMode;
    this.#pictures = pictures.map((image) =>
      Conditions.fromHalves({ image }, isDoubled ? { image: image.alias() } : undefined),
    );
  }

  /** The sum over all nets, each by its scale; undefined at steps where none counts. */
  async residuals(
    pass: ControlPass,
    guided: boolean,
    step: number,
  ): Promise<ControlResiduals | undefined> {
    const scales = this.#request.parts.map((part) => this.#scaleAt(part, step));
    if (scales.every((scale) => scale === 0)) return undefined;
    if (!guided || !this.#request.guessMode) return await this.#sum(pass, scales, guided);
    using sample = secondHalf(pass.sample);
    using promptEmbeds = secondHalf(pass.promptEmbeds);
    using textEmbeds = pass.textEmbeds && secondHalf(pass.textEmbeds);
    using timeIds = pass.timeIds && secondHalf(pass.timeIds);
    const half = { ...pass, sample, promptEmbeds, textEmbeds, timeIds };
    using conditional = await this.#sum(half, scales, false);
    return conditional.map(withZerosInFront);
  }

  #scaleAt({ scale, start, end }: ControlPart, step: number): number {
    const isOutside = step / this.#steps < start || (step + 1) / this.#steps > end;
    return isOutside ? 0 : scale;
  }

  async #sum(
    pass: ControlPass,
    scales: readonly number[],
    guided: boolean,
  ): Promise<ControlResiduals> {
    let sum: ControlResiduals | undefined;
    try {
      for (const [index, { net }] of this.#request.parts.entries()) {
        const scale = scales[index] as number;
        if (scale === 0) continue;
        const { image } = (this.#pictures[index] as Conditions<'image'>).of(guided);
        using raw = await net.predict(pass.sample, pass.timestep, pass.promptEmbeds, image, pass);
        const scaled = this.#scaled(raw, net, scale);
        if (sum === undefined) sum = scaled;
        else {
          using previous: ControlResiduals = sum;
          using next = scaled;
          sum = previous.map((tensor, i) => add(tensor, next.tensors[i] as Tensor));
        }
      }
      return sum as ControlResiduals;
    } catch (error) {
      sum?.[Symbol.dispose]();
      throw error;
    }
  }

  #scaled(raw: ControlResiduals, net: ControlNetModel, scale: number): ControlResiduals {
    const last = raw.tensors.length - 1;
    const isGraded = this.#request.guessMode && !net.globalPoolConditions;
    return raw.map((tensor, index) => {
      // From a tenth at the outermost layer to the whole in the middle, evenly in the logarithm.
      const grade = isGraded ? 10 ** (index / last - 1) : 1;
      return linearCombination([grade * scale], [tensor]);
    });
  }

  [Symbol.dispose](): void {
    for (const picture of this.#pictures) picture[Symbol.dispose]();
  }
}

function secondHalf(tensor: Tensor): Tensor {
  const half = (tensor.shape[0] as number) / 2;
  return narrow(tensor, 0, half, half);
}

function withZerosInFront(tensor: Tensor): Tensor {
  const { shape, dtype, device } = tensor;
  using zeros = full(shape, 0, { dtype, device });
  return concat([zeros, tensor]);
}
