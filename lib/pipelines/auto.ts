// The pipeline class that a checkpoint's model_index.json asks for.
import { openCheckpointFolder } from '../checkpoints/folder.js';
import { CheckpointError, expected } from '../errors.js';
import type { ComponentOverrides } from './components.js';
import type { DiffusionPipeline, FromPretrainedOptions } from './pipeline.js';
import { StableDiffusionImg2ImgPipeline } from './stable-diffusion-img2img.js';
import { StableDiffusionPipeline } from './stable-diffusion-text2img.js';

/** Each family's class per task; a checkpoint of either class loads as both. */
const families = {
  'stable-diffusion': {
    textToImage: StableDiffusionPipeline,
    imageToImage: StableDiffusionImg2ImgPipeline,
  },
} as const;

const familyOf: Record<string, keyof typeof families> = {
  StableDiffusionPipeline: 'stable-diffusion',
  StableDiffusionImg2ImgPipeline: 'stable-diffusion',
};

type Family = (typeof families)[keyof typeof families];

function familyOfClass(className: string, path: string): Family {
  const family = Object.hasOwn(familyOf, className) ? familyOf[className] : undefined;
  if (family !== undefined) return families[family];
  const known = Object.keys(familyOf).join(', ');
  throw new CheckpointError(
    `${path} is a ${className}, for which there is no pipeline. Known are: ${known}.`,
  );
}

function familyOfPipe(pipe: unknown): Family {
  // By class, not by its name: bundlers rename classes, and callers derive their own.
  const family = Object.values(families).find((tasks) =>
    Object.values(tasks).some((Class) => pipe instanceof Class),
  );
  if (family === undefined) throw expected('a pipeline', 'pipe', pipe);
  return family;
}

/** Text-to-image with whatever pipeline the checkpoint is made for. */
export class AutoPipelineForText2Image {
  private constructor() {}

  /** @throws CheckpointError for a checkpoint of an unknown class */
  static async fromPretrained(
    path: string,
    options: FromPretrainedOptions = {},
  ): Promise<StableDiffusionPipeline> {
    const { className } = await openCheckpointFolder(path);
    return familyOfClass(className, path).textToImage.fromPretrained(path, options);
  }

  static async fromPipe(
    pipe: DiffusionPipeline,
    overrides: ComponentOverrides = {},
  ): Promise<StableDiffusionPipeline> {
    return familyOfPipe(pipe).textToImage.fromPipe(pipe, overrides);
  }
}

/** Image-to-image with whatever pipeline the checkpoint is made for. */
export class AutoPipelineForImage2Image {
  private constructor() {}

  /** @throws CheckpointError for a checkpoint of an unknown class */
  static async fromPretrained(
    path: string,
    options: FromPretrainedOptions = {},
  ): Promise<StableDiffusionImg2ImgPipeline> {
    const { className } = await openCheckpointFolder(path);
    return familyOfClass(className, path).imageToImage.fromPretrained(path, options);
  }

  static async fromPipe(
    pipe: DiffusionPipeline,
    overrides: ComponentOverrides = {},
  ): Promise<StableDiffusionImg2ImgPipeline> {
    return familyOfPipe(pipe).imageToImage.fromPipe(pipe, overrides);
  }
}
