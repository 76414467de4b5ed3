// The pipeline class that a checkpoint's model_index.json asks for.
import { openCheckpointFolder } from '../checkpoints/folder.js';
import {
  type AnyComponents,
  chosen,
  type ImageToImagePipeline,
  type TextToImagePipeline,
  tasksOfClass,
  tasksOfPipe,
} from './auto-classes.js';
import { accessOf, type FromPipeOptions, type FromPretrainedOptions } from './loading.js';
import { loadPipeline } from './make-pipeline.js';
import type { DiffusionPipeline } from './pipeline.js';

/** Text-to-image with whatever pipeline the checkpoint is made for. */
export class AutoPipelineForText2Image {
  private constructor() {}

  /**
   * Loads a folder, or a repository on the hub; the class of the pipeline follows from
   * `model_index.json`, and from `controlnet` where it is given.
   *
   * @throws CheckpointError for a checkpoint of an unknown class; HubError
   */
  static async fromPretrained(
    path: string,
    options: FromPretrainedOptions<AnyComponents> = {},
  ): Promise<TextToImagePipeline> {
    const checkpoint = await openCheckpointFolder(path, accessOf(options));
    const { tasks: found, rest } = chosen(tasksOfClass(checkpoint.className, path), options);
    return await loadPipeline(found.textToImage, rest, async () => checkpoint);
  }

  /**
   * A pipeline for this task on another one's components, as far as both have them. Each is disposed
   * on its own.
   *
   * @throws InvalidArgumentError where a component is missing or does not fit
   */
  static async fromPipe(
    pipe: DiffusionPipeline,
    overrides: FromPipeOptions<AnyComponents> = {},
  ): Promise<TextToImagePipeline> {
    const { tasks: found, rest } = chosen(tasksOfPipe(pipe), overrides);
    return found.textToImage.fromPipe(pipe, rest);
  }
}

/** Image-to-image with whatever pipeline the checkpoint is made for. */
export class AutoPipelineForImage2Image {
  private constructor() {}

  /**
   * Loads a folder, or a repository on the hub; the class of the pipeline follows from
   * `model_index.json`, and from `controlnet` where it is given.
   *
   * @throws CheckpointError for a checkpoint of an unknown class; HubError
   */
  static async fromPretrained(
    path: string,
    options: FromPretrainedOptions<AnyComponents> = {},
  ): Promise<ImageToImagePipeline> {
    const checkpoint = await openCheckpointFolder(path, accessOf(options));
    const { tasks: found, rest } = chosen(tasksOfClass(checkpoint.className, path), options);
    return await loadPipeline(found.imageToImage, rest, async () => checkpoint);
  }

  /**
   * A pipeline for this task on another one's components, as far as both have them. Each is disposed
   * on its own.
   *
   * @throws InvalidArgumentError where a component is missing or does not fit
   */
  static async fromPipe(
    pipe: DiffusionPipeline,
    overrides: FromPipeOptions<AnyComponents> = {},
  ): Promise<ImageToImagePipeline> {
    const { tasks: found, rest } = chosen(tasksOfPipe(pipe), overrides);
    return found.imageToImage.fromPipe(pipe, rest);
  }
}
