import type { AddedToken } from './added-tokens.js';

/** Everything a tokenizer folder says, in one form for all published layouts. */
export interface TokenizerData {
  /** Where it came from, for error messages. */
  source: string;
  /** Token to id. */
  vocab: ReadonlyMap<string, number>;
  /** Pairs of tokens, the first to be merged first. */
  merges: readonly (readonly [string, string])[];
  /** Added and special tokens in the order in which they get their ids. */
  addedTokens: readonly AddedToken[];
  bosToken: string;
  eosToken: string;
  unkToken: string;
  padToken: string;
  /** `model_max_length` as the file says; Infinity where it says nothing. */
  modelMaxLength: number;
  paddingSide: 'left' | 'right';
  truncationSide: 'left' | 'right';
  /** Special tokens typed in a prompt are ordinary text. */
  splitSpecialTokens: boolean;
}
