import { createHash } from 'node:crypto';
import { CheckpointError } from '../errors.js';
import { autoencoderKL, autoencoderTiny } from './architecture-autoencoder.js';
import { clipTextModel, clipTextModelWithProjection } from './architecture-clip.js';

import { controlNetModel } from './architecture-controlnet.js';
import { priorTransformer } from './architecture-prior.js';
import {
  type ArchitectureRule,
  type Config,
  canonicalJson,
  completeConfig,
  dropDefaults,
} from './architecture-rule.js';
import { unet2DConditionModel } from './architecture-unet.js';
import {
  clipVisionModelWithProjection,
  stableDiffusionSafetyChecker,
} from './architecture-vision.js';
import { vqModel } from './architecture-vq.js';

/** A network architecture in the one form that all configs of it share. */
export interface Architecture {
  /** The diffusers or transformers class. */
  className: string;
  /** The fields that shape the network, those with the class default left out where possible. */
  config: Record<string, unknown>;
  /** Sixteen hexadecimal digits; equal for equal architectures. */
  key: string;
}

const rules: Readonly<Record<string, ArchitectureRule>> = {
  UNet2DConditionModel: unet2DConditionModel,
  ControlNetModel: controlNetModel,
  AutoencoderKL: autoencoderKL,
  CLIPTextModel: clipTextModel,
  CLIPTextModelWithProjection: clipTextModelWithProjection,
  AutoencoderTiny: autoencoderTiny,
  CLIPVisionModelWithProjection: clipVisionModelWithProjection,
  PriorTransformer: priorTransformer,
  StableDiffusionSafetyChecker: stableDiffusionSafetyChecker,
  VQModel: vqModel,
};

/** The classes whose configs {@link canonicalArchitecture} knows. */
export const architectureClasses: readonly string[] = Object.keys(rules);

/**
 * Brings a component's `config.json` to its canonical form, so that an old folder, a new one and a
 * fine-tune of one architecture find the same program.
 *
 * Missing fields get the class defaults of diffusers and transformers, fields without influence on
 * the traced graph are dropped, and spellings that mean the same become one. A field with a value
 * that no exporter supports stays in the result, so no bundled program can match by accident.
 *
 * @param className the class as `model_index.json` or `_class_name` gives it
 * @param config the parsed `config.json`
 * @throws {CheckpointError} ERR_CHECKPOINT for an unknown class or a field of the wrong type
 */
export function canonicalArchitecture(
  className: string,
  config: Record<string, unknown>,
): Architecture {
  const rule = Object.hasOwn(rules, className) ? rules[className] : undefined;
  if (rule === undefined) {
    throw new CheckpointError(
      `No network architecture is known for the class ${className}. ` +
        `Known are: ${architectureClasses.join(', ')}.`,
    );
  }
  const source = rule.prepare?.(config as Config) ?? (config as Config);
  const complete = completeConfig(className, rule, source);
  const canonical = dropDefaults(rule, rule.normalize?.(complete) ?? complete);
  return { className, config: { ...canonical }, key: architectureKey(className, canonical) };
}

function architectureKey(className: string, config: Config): string {
  const text = canonicalJson({ className, config });
  return createHash('sha256').update(text).digest('hex').slice(0, 16);
}
