// What both libraries are asked to draw. A case is data only: it is run here and in Python.

/** An array of float32 numbers in a file. */
export interface TensorFile {
  file: string;
  shape: number[];
}

/** Options of `generate` that JSON can hold, under their names here. */
export interface CaseOptions {
  prompt?: string | string[];
  negativePrompt?: string | string[];
  strength?: number;
  numInferenceSteps?: number;
  timesteps?: number[];
  sigmas?: number[];
  guidanceScale?: number;
  guidanceRescale?: number;
  numImagesPerPrompt?: number;
  eta?: number;
  clipSkip?: number;
  height?: number;
  width?: number;
}

/** The picture that image-to-image starts from. */
export type CaseImage =
  | { files: string[] }
  | { tensor: TensorFile }
  /** The latents that an earlier case with output 'latent' ended in. */
  | { latentsOf: string };

export interface ParityCase {
  /** Says what is drawn; unique. */
  name: string;
  /** Folder of the checkpoint. */
  checkpoint: string;
  variant?: 'fp16';
  pipeline: 'StableDiffusionPipeline' | 'StableDiffusionImg2ImgPipeline';
  /** Instead of the checkpoint's own scheduler, made from its configuration; camelCase fields. */
  scheduler?: { class: string; config?: Record<string, unknown> };
  options: CaseOptions;
  tensors?: Partial<Record<'latents' | 'promptEmbeds' | 'negativePromptEmbeds', TensorFile>>;
  image?: CaseImage;
  /** One generator for the batch, or one per picture. */
  seeds?: number | number[];
  /** What is asked of torchbrush; 'tensor' unless given. */
  output?: 'tensor' | 'latent' | 'image';
  /** Name of a case that must give another picture: what this case is about would do nothing else. */
  differsFrom?: string;
}

/** camelCase names to the ones that Python has. */
export function snakeCaseKeys(value: object): Record<string, unknown> {
  const snake = (key: string) => key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
  return Object.fromEntries(Object.entries(value).map(([key, entry]) => [snake(key), entry]));
}
