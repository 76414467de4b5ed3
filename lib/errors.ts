/** Every error torchbrush throws has a `code` to switch on; messages are for people. */
export class TorchbrushError extends Error {
  /** `ERR_…`; stable across releases. */
  readonly code: string;

  constructor(message: string, options: { code?: string; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = new.target.name;
    this.code = options.code ?? 'ERR_TORCHBRUSH';
  }
}

type Options = { code?: string; cause?: unknown };

/** `ERR_INVALID_ARGUMENT`: an option has a value that cannot be meant. Thrown before anything runs. */
export class InvalidArgumentError extends TorchbrushError {
  constructor(message: string, options: Options = {}) {
    super(message, { code: 'ERR_INVALID_ARGUMENT', ...options });
  }
}

/** `ERR_PROMPT_SYNTAX`: a weighted prompt cannot be meant as it is written. */
export class PromptSyntaxError extends InvalidArgumentError {
  /** Where in the prompt, in UTF-16 units from 0. */
  readonly position: number;

  constructor(message: string, position: number) {
    super(message, { code: 'ERR_PROMPT_SYNTAX' });
    this.position = position;
  }
}

/** `ERR_DISPOSED`: a tensor, pipeline or scheduler run is used after `dispose()`. */
export class DisposedError extends TorchbrushError {
  constructor(message: string, options: Options = {}) {
    super(message, { code: 'ERR_DISPOSED', ...options });
  }
}

/** `ERR_LIBTORCH_NOT_FOUND`, `ERR_LIBTORCH_VERSION`: no libtorch, or one without a matching core. */
export class LibtorchNotFoundError extends TorchbrushError {
  constructor(message: string, options: Options = {}) {
    super(message, { code: 'ERR_LIBTORCH_NOT_FOUND', ...options });
  }
}

/** `ERR_CHECKPOINT`: a checkpoint's files are missing, broken or do not fit together. */
export class CheckpointError extends TorchbrushError {
  constructor(message: string, options: Options = {}) {
    super(message, { code: 'ERR_CHECKPOINT', ...options });
  }
}

/**
 * What is to come from the hub does not.
 *
 * - `ERR_HUB_NOT_FOUND`, `ERR_HUB_REVISION`: there is no such repository or file, or no such revision.
 * - `ERR_HUB_ACCESS`: the repository is gated, or the access token is not accepted.
 * - `ERR_HUB_RATE_LIMIT`: too many requests, and the wait is too long.
 * - `ERR_HUB_NETWORK`: no answer, or a server's error, after several tries.
 * - `ERR_HUB_NOT_CACHED`: there is no network, or none is wanted, and the cache lacks files.
 * - `ERR_HUB_INTEGRITY`: what was received is not what the hub has listed.
 * - `ERR_HUB_CACHE`: the cache cannot be written: no space, no permission.
 */
export class HubError extends TorchbrushError {
  declare readonly code: HubErrorCode;

  constructor(message: string, options: Options & { code: HubErrorCode }) {
    super(message, options);
  }
}

/** Codes of `HubError`. */
export type HubErrorCode =
  `ERR_HUB_${'NOT_FOUND' | 'REVISION' | 'ACCESS' | 'RATE_LIMIT' | 'NETWORK' | 'NOT_CACHED' | 'INTEGRITY' | 'CACHE'}`;

/** `ERR_UNTRUSTED`: a file could run code and nobody said that it may. */
export class UntrustedFileError extends TorchbrushError {
  constructor(message: string, options: Options = {}) {
    super(message, { code: 'ERR_UNTRUSTED', ...options });
  }
}

/** `ERR_OUT_OF_MEMORY`: a device's memory is exhausted. */
export class OutOfMemoryError extends TorchbrushError {
  constructor(message: string, options: Options = {}) {
    super(message, { code: 'ERR_OUT_OF_MEMORY', ...options });
  }
}

/** `ERR_PROGRAM_NOT_FOUND`: an architecture has no program yet; the message names the export command. */
export class ProgramNotFoundError extends TorchbrushError {
  constructor(message: string, options: Options = {}) {
    super(message, { code: 'ERR_PROGRAM_NOT_FOUND', ...options });
  }
}

/** `ERR_IMAGE`: a picture cannot be read or written. */
export class ImageError extends TorchbrushError {
  constructor(message: string, options: Options = {}) {
    super(message, { code: 'ERR_IMAGE', ...options });
  }
}

/**
 * The one phrasing of argument errors: "Expected a number between 0 and 1 for strength but received
 * 1.4 (number). …"
 */
export function expected(
  what: string,
  name: string,
  received: unknown,
  hint?: string,
): InvalidArgumentError {
  const way = hint === undefined ? '' : ` ${hint}`;
  return new InvalidArgumentError(
    `Expected ${what} for ${name} but received ${show(received)}.${way}`,
  );
}

/**
 * The same for a tensor of another shape: "Expected [2, 77, 768] for promptEmbeds but received [2, 77]
 * (shape)." Names stand for sizes that may be anything.
 */
export function expectedShape(
  what: string | readonly (number | string)[],
  name: string,
  received: readonly number[],
  hint?: string,
): InvalidArgumentError {
  const way = hint === undefined ? '' : ` ${hint}`;
  const wanted = typeof what === 'string' ? what : `[${what.join(', ')}]`;
  return new InvalidArgumentError(
    `Expected ${wanted} for ${name} but received [${received.join(', ')}] (shape).${way}`,
  );
}

function show(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  if (typeof value === 'string') {
    const short = value.length > 80 ? `${value.slice(0, 80)}…` : value;
    return `${JSON.stringify(short)} (string)`;
  }
  if (typeof value === 'number' || typeof value === 'boolean' || typeof value === 'bigint') {
    return `${value} (${typeof value})`;
  }
  if (typeof value === 'function') return 'a function';
  if (Array.isArray(value)) return `an array of ${value.length}`;
  const name = (value as object).constructor?.name;
  return name === undefined || name === 'Object' ? 'an object' : `an instance of ${name}`;
}

const classes: Record<string, new (message: string, options: Options) => TorchbrushError> = {
  ERR_INVALID_ARGUMENT: InvalidArgumentError,
  ERR_DISPOSED: DisposedError,
  ERR_LIBTORCH_NOT_FOUND: LibtorchNotFoundError,
  ERR_LIBTORCH_VERSION: LibtorchNotFoundError,
  ERR_CHECKPOINT: CheckpointError,
  ERR_OUT_OF_MEMORY: OutOfMemoryError,
};

/** Native errors are plain ones with a code; this gives them their class, and a JavaScript stack. */
export function fromNative(error: unknown): unknown {
  if (!(error instanceof Error) || error instanceof TorchbrushError) return error;
  const code = (error as { code?: unknown }).code;
  if (typeof code !== 'string' || !code.startsWith('ERR_')) return error;
  const Class = classes[code] ?? TorchbrushError;
  return new Class(error.message, { code, cause: error });
}
