// What published checkpoints call things, and what today's classes call them. Each rename is named
// here once; a tensor that neither fits nor is listed as harmless is an error elsewhere.

interface Layout {
  /** Name of the weight file without variant and extension. */
  fileStem: string;
  /** The same for files that torch.save wrote. */
  pickleStem: string;
  renames: readonly [RegExp, string][];
  /** Tensors that carry nothing: buffers that old versions saved. */
  harmless: readonly RegExp[];
}

const diffusersLayout: Layout = {
  fileStem: 'diffusion_pytorch_model',
  pickleStem: 'diffusion_pytorch_model',
  renames: [],
  harmless: [],
};

// Attention of autoencoders was a class of its own until diffusers 0.17.
const autoencoderLayout: Layout = {
  fileStem: 'diffusion_pytorch_model',
  pickleStem: 'diffusion_pytorch_model',
  renames: [
    [/(\.attentions\.\d+)\.query\.(weight|bias)$/, '$1.to_q.$2'],
    [/(\.attentions\.\d+)\.key\.(weight|bias)$/, '$1.to_k.$2'],
    [/(\.attentions\.\d+)\.value\.(weight|bias)$/, '$1.to_v.$2'],
    [/(\.attentions\.\d+)\.proj_attn\.(weight|bias)$/, '$1.to_out.0.$2'],
  ],
  harmless: [],
};

// Kandinsky goes past the codebook, which nothing then reads.
const quantizingLayout: Layout = {
  ...autoencoderLayout,
  harmless: [/^quantize\.embedding\.weight$/],
};

// transformers 5 dropped the wrapping module; position_ids were saved until 4.31.
const clipLayout: Layout = {
  fileStem: 'model',
  pickleStem: 'pytorch_model',
  renames: [[/^text_model\./, '']],
  harmless: [/^embeddings\.position_ids$/, /^logit_scale$/, /^text_projection\.weight$/],
};

// Some savers left the wrapping module out; the safety checker was saved with it twice.
const clipVisionLayout: Layout = {
  fileStem: 'model',
  pickleStem: 'pytorch_model',
  renames: [
    [/^(?:vision_model\.)*(embeddings|pre_layrnorm|encoder|post_layernorm)\./, 'vision_model.$1.'],
  ],
  harmless: [/^vision_model\.embeddings\.position_ids$/],
};

const layouts: Record<string, Layout> = {
  AutoencoderKL: autoencoderLayout,
  CLIPTextModel: clipLayout,
  CLIPTextModelWithProjection: { ...clipLayout, harmless: clipLayout.harmless.slice(0, 2) },
  CLIPVisionModelWithProjection: clipVisionLayout,
  StableDiffusionSafetyChecker: clipVisionLayout,
  VQModel: quantizingLayout,
};

export function layoutOf(className: string): Layout {
  return Object.hasOwn(layouts, className) ? (layouts[className] as Layout) : diffusersLayout;
}

/** A tensor's name in today's class. */
export function modernName(className: string, name: string): string {
  let modern = name;
  for (const [pattern, replacement] of layoutOf(className).renames) {
    modern = modern.replace(pattern, replacement);
  }
  return modern;
}

export function isHarmless(className: string, name: string): boolean {
  return layoutOf(className).harmless.some((pattern) => pattern.test(name));
}
