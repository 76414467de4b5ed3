// Which pipeline classes there are for which checkpoints, and what any of them takes.
import { CheckpointError, expected, InvalidArgumentError } from '../errors.js';
import type { Image } from '../image.js';
import type { Tensor } from '../tensor.js';
import type { ComponentSet } from './components.js';
import type { ControlNetComponents } from './controlnet.js';
import type { Pictures } from './generation.js';
import type { KandinskyCombinedOptions } from './kandinsky-combined.js';
import {
  type KandinskyCombinedImageToImageOptions,
  KandinskyV22Img2ImgCombinedPipeline,
} from './kandinsky-combined-img2img.js';
import { KandinskyV22CombinedPipeline } from './kandinsky-combined-text2img.js';
import type { KandinskyCombinedComponents } from './kandinsky-components.js';
import { KandinskyV22Img2ImgPipeline } from './kandinsky-img2img.js';
import { KandinskyV22Pipeline } from './kandinsky-text2img.js';
import {
  type LatentConsistencyImageToImageOptions,
  LatentConsistencyModelImg2ImgPipeline,
} from './latent-consistency-img2img.js';
import {
  LatentConsistencyModelPipeline,
  type LatentConsistencyTextToImageOptions,
} from './latent-consistency-text2img.js';
import type { FromPipeOptions, FromPretrainedOptions, PipelineClass } from './loading.js';
import { DiffusionPipeline } from './pipeline.js';
import type { StableDiffusionComponents } from './stable-diffusion.js';
import {
  type ControlNetTextToImageOptions,
  StableDiffusionControlNetPipeline,
} from './stable-diffusion-controlnet.js';
import {
  type ControlNetImageToImageOptions,
  StableDiffusionControlNetImg2ImgPipeline,
} from './stable-diffusion-controlnet-img2img.js';
import {
  type ImageToImageOptions,
  StableDiffusionImg2ImgPipeline,
} from './stable-diffusion-img2img.js';
import { StableDiffusionPipeline, type TextToImageOptions } from './stable-diffusion-text2img.js';
import type { StableDiffusionXLComponents } from './stable-diffusion-xl.js';
import { StableDiffusionXLControlNetPipeline } from './stable-diffusion-xl-controlnet.js';
import { StableDiffusionXLControlNetImg2ImgPipeline } from './stable-diffusion-xl-controlnet-img2img.js';
import {
  StableDiffusionXLImg2ImgPipeline,
  type XLImageToImageOptions,
} from './stable-diffusion-xl-img2img.js';
import {
  StableDiffusionXLPipeline,
  type XLTextToImageOptions,
} from './stable-diffusion-xl-text2img.js';

/** Options of every text-to-image class; the class at hand refuses those that are not its own. */
export type AnyTextToImageOptions = TextToImageOptions &
  XLTextToImageOptions &
  LatentConsistencyTextToImageOptions &
  Partial<KandinskyCombinedOptions> &
  Partial<ControlNetTextToImageOptions>;

/** Options of every image-to-image class; the class at hand refuses those that are not its own. */
export type AnyImageToImageOptions = ImageToImageOptions &
  XLImageToImageOptions &
  LatentConsistencyImageToImageOptions &
  Partial<KandinskyCombinedImageToImageOptions> &
  Partial<ControlNetImageToImageOptions>;

/** The parts of every family; which ones there are depends on the checkpoint. */
export type AnyComponents = ComponentSet &
  Partial<
    StableDiffusionComponents &
      StableDiffusionXLComponents &
      KandinskyCombinedComponents &
      ControlNetComponents
  >;

/** A pipeline of whichever class the checkpoint is made for. */
export interface AnyPipeline<Options> extends DiffusionPipeline<AnyComponents> {
  /**
   * Draws pictures.
   *
   * @throws InvalidArgumentError, also for options that the class behind it does not have; ImageError,
   * OutOfMemoryError, DisposedError
   */
  generate(options: Options & { outputType: 'tensor' | 'latent' }): Promise<Pictures<Tensor>>;
  generate(options: Options & { outputType?: 'image' }): Promise<Pictures<Image[]>>;
}

/** A pipeline that draws from text alone, of whatever class. */
export type TextToImagePipeline = AnyPipeline<AnyTextToImageOptions>;
/** A pipeline that redraws pictures, of whatever class. */
export type ImageToImagePipeline = AnyPipeline<AnyImageToImageOptions>;

type AnyClass<Pipeline> = PipelineClass<AnyComponents, Pipeline> & {
  fromPipe(pipe: DiffusionPipeline, overrides: FromPipeOptions<AnyComponents>): Promise<Pipeline>;
};

/** The classes for one kind of checkpoint. */
interface Tasks {
  textToImage: AnyClass<TextToImagePipeline>;
  imageToImage: AnyClass<ImageToImagePipeline>;
  /** `_class_name` of its checkpoints. Those of inpainting classes may hold a plain UNet. */
  names: readonly string[];
  /** Classes of the same checkpoints without all of their parts. */
  parts: readonly (abstract new (
    ...values: never[]
  ) => DiffusionPipeline)[];
}

interface Family {
  plain: Tasks;
  withControlNet?: Tasks;
}

const families: readonly Family[] = [
  {
    plain: tasks(StableDiffusionPipeline, StableDiffusionImg2ImgPipeline, [
      'StableDiffusionPipeline',
      'StableDiffusionImg2ImgPipeline',
      'StableDiffusionInpaintPipeline',
    ]),
    withControlNet: tasks(
      StableDiffusionControlNetPipeline,
      StableDiffusionControlNetImg2ImgPipeline,
      [
        'StableDiffusionControlNetPipeline',
        'StableDiffusionControlNetImg2ImgPipeline',
        'StableDiffusionControlNetInpaintPipeline',
      ],
    ),
  },
  {
    plain: tasks(StableDiffusionXLPipeline, StableDiffusionXLImg2ImgPipeline, [
      'StableDiffusionXLPipeline',
      'StableDiffusionXLImg2ImgPipeline',
      'StableDiffusionXLInpaintPipeline',
    ]),
    withControlNet: tasks(
      StableDiffusionXLControlNetPipeline,
      StableDiffusionXLControlNetImg2ImgPipeline,
      [
        'StableDiffusionXLControlNetPipeline',
        'StableDiffusionXLControlNetImg2ImgPipeline',
        'StableDiffusionXLControlNetInpaintPipeline',
      ],
    ),
  },
  {
    plain: tasks(LatentConsistencyModelPipeline, LatentConsistencyModelImg2ImgPipeline, [
      'LatentConsistencyModelPipeline',
      'LatentConsistencyModelImg2ImgPipeline',
    ]),
  },
  {
    plain: tasks(
      KandinskyV22CombinedPipeline,
      KandinskyV22Img2ImgCombinedPipeline,
      [
        'KandinskyV22Pipeline',
        'KandinskyV22Img2ImgPipeline',
        'KandinskyV22InpaintPipeline',
        'KandinskyV22CombinedPipeline',
        'KandinskyV22Img2ImgCombinedPipeline',
        'KandinskyV22InpaintCombinedPipeline',
      ],
      [KandinskyV22Pipeline, KandinskyV22Img2ImgPipeline],
    ),
  },
];

/** The classes differ in their components, which only they themselves look at. */
function tasks(
  textToImage: unknown,
  imageToImage: unknown,
  names: readonly string[],
  parts: Tasks['parts'] = [],
): Tasks {
  return {
    textToImage: textToImage as Tasks['textToImage'],
    imageToImage: imageToImage as Tasks['imageToImage'],
    names,
    parts,
  };
}

function all(): Tasks[] {
  return families.flatMap(({ plain, withControlNet }) =>
    withControlNet === undefined ? [plain] : [plain, withControlNet],
  );
}

export function tasksOfClass(className: string, path: string): Tasks {
  const found = all().find(({ names }) => names.includes(className));
  if (found !== undefined) return found;
  const known = all()
    .flatMap(({ names }) => names)
    .join(', ');
  throw new CheckpointError(
    `${path} is a ${className}, for which there is no pipeline. Known are: ${known}.`,
  );
}

/** @internal Whether checkpoints of this class can be loaded here. */
export function hasAutoPipeline(className: string): boolean {
  return all().some(({ names }) => names.includes(className));
}

export function tasksOfPipe(pipe: unknown): Tasks {
  if (!(pipe instanceof DiffusionPipeline)) throw expected('a pipeline', 'pipe', pipe);
  // By class, not by its name: bundlers rename classes, and callers derive their own.
  const found = all().find(({ textToImage, imageToImage, parts }) =>
    [textToImage, imageToImage, ...parts].some((Class) => pipe instanceof Class),
  );
  if (found !== undefined) return found;
  throw new InvalidArgumentError(
    `There is no automatic pipeline for a ${pipe.constructor.name}. Use a class by its name.`,
  );
}

/** The classes with ControlNets where one is given, without for `null`, else as they are. */
export function chosen(
  found: Tasks,
  options: FromPretrainedOptions<AnyComponents>,
): { tasks: Tasks; rest: FromPretrainedOptions<AnyComponents> } {
  // The class itself refuses what is no object.
  if (typeof options !== 'object' || options === null) return { tasks: found, rest: options };
  const { controlnet, ...rest } = options;
  if (controlnet === undefined) return { tasks: found, rest };
  const family = families.find((one) => one.plain === found || one.withControlNet === found);
  const { plain = found, withControlNet = found } = family ?? {};
  return controlnet === null ? { tasks: plain, rest } : { tasks: withControlNet, rest: options };
}
