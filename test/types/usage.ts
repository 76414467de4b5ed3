// Compiled, never run: against the sources by `npm run types`, and against the packed tarball as an ES
// module and as CommonJS, in every way of resolving modules, by `npm run package:check`.
import {
  AutoPipelineForImage2Image,
  AutoPipelineForText2Image,
  ControlNetModel,
  type chain,
  configure,
  type DeviceInfo,
  demoModel,
  devices,
  EulerDiscreteScheduler,
  Generator,
  HubError,
  type Image,
  type ImageToImagePipeline,
  loadImage,
  type MemoryStats,
  memoryStats,
  PNDMScheduler,
  type StableDiffusionImg2ImgPipeline,
  StableDiffusionXLPipeline,
  type StepEvent,
  Tensor,
  TorchbrushError,
} from 'torchbrush';

type IsAny<Type> = 0 extends 1 & Type ? true : false;
type Same<A, B> =
  (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
/** Fails to compile unless its argument is `true`. */
const holds = <_Claim extends true>(): void => {};

export async function imageToImage(): Promise<void> {
  configure({ threads: 2, batching: false });
  // @ts-expect-error there is no such setting
  configure({ thread: 2 });

  const pipe = await AutoPipelineForImage2Image.fromPretrained(demoModel, {
    dtype: 'float32',
    device: 'cuda:1',
    onProgress: () => {},
    signal: new AbortController().signal,
  });
  holds<Same<typeof pipe, ImageToImagePipeline>>();
  // @ts-expect-error int8 is no dtype to compute in
  await AutoPipelineForImage2Image.fromPretrained(demoModel, { dtype: 'int8' });

  const result = await pipe.generate({
    prompt: 'a castle',
    image: new Uint8Array(3),
    strength: 0.5,
    seed: 7n,
    onStep: async (event) => {
      holds<Same<typeof event, StepEvent>>();
      const [picture] = await event.preview();
      holds<Same<typeof picture, Image | undefined>>();
    },
  });
  const [image] = result.images;
  holds<Same<typeof image, Image>>();
  // @ts-expect-error there is no such option
  await pipe.generate({ prompt: 'a castle', image: 'a.png', strenght: 0.5 });
  // @ts-expect-error image-to-image needs a picture
  await (pipe as StableDiffusionImg2ImgPipeline).generate({ prompt: 'a castle' });

  const text = await AutoPipelineForText2Image.fromPipe(pipe);
  text.scheduler = EulerDiscreteScheduler.fromConfig(text.scheduler.config, {
    useKarrasSigmas: true,
  });
  pipe.dispose();
  pipe[Symbol.dispose]();
}

export async function parts(): Promise<void> {
  const image = await loadImage(new URL('https://example.org/a.png'));
  holds<Same<typeof image, Image>>();
  const bytes = await image.resize(64, 64, { filter: 'lanczos' }).toBuffer('webp', { quality: 80 });
  holds<Same<typeof bytes, Buffer>>();
  holds<Same<IsAny<ReturnType<typeof image.toSharp>>, false>>();
  // @ts-expect-error written as PNG, JPEG or WebP only
  await image.toBuffer('bmp');

  const tensor = Tensor.fromArray(new Float32Array(4), [1, 4]);
  const values = await tensor.toFloat32Array();
  holds<Same<IsAny<typeof values>, false>>();
  values satisfies Float32Array;
  tensor.shape satisfies readonly number[];

  const run = PNDMScheduler.fromConfig({ beta_schedule: 'linear' }).start({
    numInferenceSteps: 4,
  });
  run.timesteps satisfies readonly number[];
  holds<Same<IsAny<(typeof run.timesteps)[number]>, false>>();
  new Generator().manualSeed(1) satisfies Generator;

  devices() satisfies DeviceInfo[];
  memoryStats() satisfies MemoryStats;
  const controlnet = await ControlNetModel.fromPretrained('folder');
  await StableDiffusionXLPipeline.fromPretrained('folder', { variant: 'fp16' });
  await AutoPipelineForImage2Image.fromPretrained('folder', { controlnet });
  holds<Same<IsAny<ReturnType<typeof chain>>, false>>();
}

export function errors(error: unknown): string {
  if (error instanceof HubError && error.code === 'ERR_HUB_ACCESS') return error.message;
  if (error instanceof TorchbrushError) {
    holds<Same<typeof error.code, string>>();
    return error.code;
  }
  return '';
}
