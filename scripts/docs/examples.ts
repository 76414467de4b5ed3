// Examples in comments are parts of programs: what stands before them, out of readers' sight, so that
// `npm run types` can check them.
import type { Entry } from './reference.js';

/** What examples call things that they do not make, and the types of these. */
const standIns: Readonly<Record<string, string>> = {
  prompt: 'string',
  image: 'Image',
  images: 'Image[]',
  small: 'Image',
  textToImage: 'TextToImagePipeline',
  comic: 'ImageToImagePipeline',
  prior: 'KandinskyV22PriorPipeline',
  decoder: 'KandinskyV22Pipeline',
  base: 'StableDiffusionXLPipeline',
  refiner: 'StableDiffusionXLImg2ImgPipeline',
  upscaler: 'StableDiffusionLatentUpscalePipeline',
  x2: 'StableDiffusionLatentUpscalePipeline',
  signal: 'AbortSignal',
  x4: 'StableDiffusionUpscalePipeline',
};

/** A ts block with all that it needs. `owner` is what its comment belongs to. */
export function exampleBlock(code: string, owner: Entry, entries: readonly Entry[]): string {
  const isOwn = (name: string) =>
    new RegExp(`\\b(const|using|await using) (\\{[^}]*)?\\b${name}\\b`).test(code);
  const uses = (name: string) =>
    new RegExp(`(?<![.'\\w])${name}\\b(?!:)`).test(code) && !isOwn(name);
  const types = { ...standIns, pipe: typeOfPipe(owner) };
  const names = Object.keys(types).filter(uses) as (keyof typeof types)[];
  const declared = names.map((name) => `declare const ${name}: ${types[name]};`);
  const isValue = ({ kind }: Entry) => kind !== 'interface' && kind !== 'type';
  const imports = entries.flatMap((entry) => {
    if (isValue(entry) && uses(entry.name)) return [entry.name];
    return declared.some((line) => new RegExp(`\\b${entry.name}\\b`).test(line))
      ? [`type ${entry.name}`]
      : [];
  });
  const lines = [`import { ${imports.join(', ')} } from 'torchbrush';`, ...declared];
  return `<!-- ts\n${lines.join('\n')}\n-->\n\n\`\`\`ts\n${code.trim()}\n\`\`\``;
}

/** In the examples of a class, `pipe` is one of its instances, but for upscalers: there it comes before. */
function typeOfPipe({ name }: Entry): string {
  if (/^StableDiffusion.*Upscale/.test(name)) return 'StableDiffusionPipeline';
  return name.endsWith('Pipeline') ? name : 'StableDiffusionImg2ImgPipeline';
}
