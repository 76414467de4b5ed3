export type { AdapterWeight, FuseLoraOptions, LoadLoraOptions } from './adapters/lora.js';
export type { LoadTextualInversionOptions } from './adapters/textual-inversion.js';
export type { DownloadProgress, HubOptions } from './checkpoints/hub-settings.js';
export type { GraphStatus } from './core.js';
export {
  CheckpointError,
  DisposedError,
  HubError,
  type HubErrorCode,
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
export {
  type GridOptions,
  Image,
  type ImageFormat,
  type ImageSource,
  type LoadImageOptions,
  loadImage,
  makeImageGrid,
  type ResizeFilter,
  type ResizeOptions,
  type SaveOptions,
} from './image.js';
export {
  type ClipPreprocessor,
  clipPreprocessor,
  preprocessForClip,
  readPreprocessor,
} from './images/clip-preprocess.js';
export type { PreprocessedImages } from './images/preprocess.js';
export { type ConfigureOptions, configure } from './native.js';
export { Autoencoder } from './networks/autoencoder.js';
export { AutoencoderTiny } from './networks/autoencoder-tiny.js';
export {
  ControlNetModel,
  type LoadControlNetOptions,
  type SingleFileControlNetOptions,
} from './networks/controlnet.js';
export { MoVQ } from './networks/movq.js';
export { Prior, type PriorConditions } from './networks/prior.js';
export { type LoadSafetyCheckerOptions, SafetyChecker } from './networks/safety-checker.js';
export { TextEncoder } from './networks/text-encoder.js';
export { UNet, type UNetConditions } from './networks/unet.js';
export { VisionEncoder } from './networks/vision-encoder.js';
export { defaults, type OutputType } from './options.js';
export { demoModel } from './package-root.js';
export { AutoPipelineForImage2Image, AutoPipelineForText2Image } from './pipelines/auto.js';
export type { ImageToImagePipeline, TextToImagePipeline } from './pipelines/auto-classes.js';
export {
  type ChainOptions,
  type ChainStepEvent,
  chain,
  type Stage,
  type StageOptions,
} from './pipelines/chain.js';
export type { CompileMode, CompileOptions } from './pipelines/compile.js';
export type {
  ComponentOverrides,
  ComponentProgress,
  ComponentSet,
  LoadProgress,
} from './pipelines/components.js';
export type {
  ControlImages,
  ControlNetComponents,
  ControlNetOptions,
  ControlNets,
} from './pipelines/controlnet.js';
export type { ProgressCallback, StepChanges, StepProgress } from './pipelines/denoise.js';
export type {
  GenerationOptions,
  Pictures,
  ScheduleOptions,
  StepCallback,
  StepEvent,
} from './pipelines/generation.js';
export type { InitImage } from './pipelines/init-image.js';
export type { KandinskyCombinedOptions } from './pipelines/kandinsky-combined.js';
export {
  type KandinskyCombinedImageToImageOptions,
  KandinskyV22Img2ImgCombinedPipeline,
} from './pipelines/kandinsky-combined-img2img.js';
export { KandinskyV22CombinedPipeline } from './pipelines/kandinsky-combined-text2img.js';
export type {
  KandinskyCombinedComponents,
  KandinskyDecoderComponents,
  KandinskyPriorComponents,
} from './pipelines/kandinsky-components.js';
export type { KandinskyDecoderOptions } from './pipelines/kandinsky-decoder.js';
export type {
  KandinskyEmbeddings,
  KandinskyPriorOptions,
} from './pipelines/kandinsky-embeddings.js';
export {
  type KandinskyImageToImageOptions,
  type KandinskyInitOptions,
  KandinskyV22Img2ImgPipeline,
} from './pipelines/kandinsky-img2img.js';
export type {
  KandinskyIngredient,
  KandinskyInterpolationOptions,
} from './pipelines/kandinsky-interpolation.js';
export { KandinskyV22PriorPipeline } from './pipelines/kandinsky-prior.js';
export {
  type KandinskyTextToImageOptions,
  KandinskyV22Pipeline,
} from './pipelines/kandinsky-text2img.js';
export type { LatentConsistencyOptions } from './pipelines/latent-consistency.js';
export {
  type LatentConsistencyImageToImageOptions,
  LatentConsistencyModelImg2ImgPipeline,
} from './pipelines/latent-consistency-img2img.js';
export {
  LatentConsistencyModelPipeline,
  type LatentConsistencyTextToImageOptions,
} from './pipelines/latent-consistency-text2img.js';
export type { LatentDecoder } from './pipelines/latent-origin.js';
export {
  type LatentUpscaleComponents,
  type LatentUpscaleOptions,
  StableDiffusionLatentUpscalePipeline,
} from './pipelines/latent-upscale.js';
export type {
  ConfigOptions,
  FromPipeOptions,
  FromPretrainedOptions,
  FromSingleFileOptions,
  LoadingOptions,
} from './pipelines/loading.js';
export { DiffusionPipeline } from './pipelines/pipeline.js';
export type { StableDiffusionComponents } from './pipelines/stable-diffusion.js';
export {
  type ControlNetTextToImageOptions,
  type StableDiffusionControlNetComponents,
  StableDiffusionControlNetPipeline,
} from './pipelines/stable-diffusion-controlnet.js';
export {
  type ControlNetImageToImageOptions,
  StableDiffusionControlNetImg2ImgPipeline,
} from './pipelines/stable-diffusion-controlnet-img2img.js';
export {
  type ImageToImageOptions,
  StableDiffusionImg2ImgPipeline,
} from './pipelines/stable-diffusion-img2img.js';
export type { StableDiffusionOptions } from './pipelines/stable-diffusion-options.js';
export {
  StableDiffusionPipeline,
  type TextToImageOptions,
} from './pipelines/stable-diffusion-text2img.js';
export type { StableDiffusionXLComponents } from './pipelines/stable-diffusion-xl.js';
export {
  type StableDiffusionXLControlNetComponents,
  StableDiffusionXLControlNetPipeline,
  type XLControlNetTextToImageOptions,
} from './pipelines/stable-diffusion-xl-controlnet.js';
export {
  StableDiffusionXLControlNetImg2ImgPipeline,
  type XLControlNetImageToImageOptions,
} from './pipelines/stable-diffusion-xl-controlnet-img2img.js';
export {
  StableDiffusionXLImg2ImgPipeline,
  type XLImageToImageOptions,
} from './pipelines/stable-diffusion-xl-img2img.js';
export type { StableDiffusionXLOptions } from './pipelines/stable-diffusion-xl-options.js';
export {
  StableDiffusionXLPipeline,
  type XLTextToImageOptions,
} from './pipelines/stable-diffusion-xl-text2img.js';
export {
  StableDiffusionUpscalePipeline,
  type UpscaleComponents,
  type UpscaleOptions,
} from './pipelines/upscale.js';
export {
  Compel,
  type CompelEncodingOptions,
  type CompelOptions,
  type PooledEmbeddings,
} from './prompts/compel.js';
export type { DownweightMode } from './prompts/compel-embedding.js';
export type { CompelPrompt } from './prompts/compel-tree.js';
export type { ReturnedEmbeddingsType } from './prompts/row-encoder.js';
export type { Weighting } from './prompts/weighted-prompts.js';
export * from './schedulers/index.js';
export { type DeviceInfo, devices, type MemoryStats, memoryStats } from './stats.js';
export { type DType, Tensor, type TensorData } from './tensor.js';
export { ClipTokenizer, type EncodeOptions } from './tokenizer/index.js';
