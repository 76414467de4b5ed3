/** The defaults of every pipeline option, diffusers' own. The command line and the docs read them. */
export const defaults = {
  strength: 0.8,
  numInferenceSteps: 50,
  guidanceScale: 7.5,
  guidanceRescale: 0,
  numImagesPerPrompt: 1,
  eta: 0,
  outputType: 'image',
} as const;

/** What families of pipelines have instead; the rest is as in `defaults`. */
export const familyDefaults = {
  xl: { guidanceScale: 5, strength: 0.3 },
  latentConsistency: { numInferenceSteps: 4, guidanceScale: 8.5 },
  kandinsky: { numInferenceSteps: 100, guidanceScale: 4, strength: 0.3 },
  kandinskyPrior: { numInferenceSteps: 25, guidanceScale: 4 },
  upscaleX2: { numInferenceSteps: 75, guidanceScale: 9 },
  upscaleX4: { numInferenceSteps: 75, guidanceScale: 9, noiseLevel: 20 },
  controlledImageToImage: { controlnetConditioningScale: 0.8 },
  controlledTextToImage: { controlnetConditioningScale: 1 },
} as const;
