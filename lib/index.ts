export {
  CheckpointError,
  DisposedError,
  ImageError,
  InvalidArgumentError,
  LibtorchNotFoundError,
  OutOfMemoryError,
  ProgramNotFoundError,
  PromptSyntaxError,
  TorchbrushError,
  UntrustedFileError,
} from './errors.js';
export { Generator } from './generator.js';
export { Image, loadImage, makeImageGrid } from './image.js';
export { type ConfigureOptions, configure } from './native.js';
export { Autoencoder } from './networks/autoencoder.js';
export { TextEncoder } from './networks/text-encoder.js';
export { UNet } from './networks/unet.js';
export { defaults } from './options.js';
export {
  AutoPipelineForImage2Image,
  AutoPipelineForText2Image,
  type ImageToImagePipeline,
  type TextToImagePipeline,
} from './pipelines/auto.js';
export type {
  ComponentOverrides,
  ComponentSet,
  LoadProgress,
} from './pipelines/components.js';
export type { StepCallback, StepChanges, StepEvent } from './pipelines/denoise.js';
export type { GenerationOptions, Pictures, ScheduleOptions } from './pipelines/generation.js';
export type { InitImage } from './pipelines/init-image.js';
export {
  DiffusionPipeline,
  type FromPipeOptions,
  type FromPretrainedOptions,
} from './pipelines/pipeline.js';
export type {
  StableDiffusionComponents,
  StableDiffusionOptions,
} from './pipelines/stable-diffusion.js';
export {
  type ImageToImageOptions,
  StableDiffusionImg2ImgPipeline,
} from './pipelines/stable-diffusion-img2img.js';
export {
  StableDiffusionPipeline,
  type TextToImageOptions,
} from './pipelines/stable-diffusion-text2img.js';
export {
  Compel,
  type CompelEncodingOptions,
  type CompelOptions,
  type PooledEmbeddings,
} from './prompts/compel.js';
export type { DownweightMode } from './prompts/compel-embedding.js';
export type { CompelPrompt } from './prompts/compel-tree.js';
export type { ReturnedEmbeddingsType } from './prompts/row-encoder.js';
export * from './schedulers/index.js';
export { type DeviceInfo, devices, type MemoryStats, memoryStats } from './stats.js';
export { type DType, Tensor, type TensorData } from './tensor.js';
export { ClipTokenizer } from './tokenizer/index.js';
