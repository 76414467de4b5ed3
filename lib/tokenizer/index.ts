export type { AddedToken } from './added-tokens.js';
export { ClipTokenizer, type EncodedTexts, type EncodeOptions } from './clip-tokenizer.js';
export type { TokenizerData } from './tokenizer-data.js';
