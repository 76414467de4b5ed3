// Copies of the embedded checkpoint, spoiled, and what loading them must come to.
import assert from 'node:assert/strict';
import { cpSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';

import { AutoPipelineForImage2Image, memoryStats, TorchbrushError } from '../../lib/index.js';
import { demoCopy, demoModel } from '../helpers.js';

export const weightFiles = {
  text_encoder: 'text_encoder/model.safetensors',
  unet: 'unet/diffusion_pytorch_model.safetensors',
  vae: 'vae/diffusion_pytorch_model.safetensors',
};

/** A copy of the embedded checkpoint that takes note of what is changed in it. */
export class Spoiled {
  readonly #touched = new Set<string>();

  constructor(readonly folder: string) {}

  /** Where a file or folder is that will be changed. */
  path(file: string): string {
    this.#touched.add(file);
    return join(this.folder, file);
  }

  /** Everything as it was: a copy for each test would take longer than the tests. */
  restore(): void {
    const parentsFirst = [...this.#touched].sort((a, b) => a.length - b.length);
    for (const file of parentsFirst)
      rmSync(join(this.folder, file), { recursive: true, force: true });
    for (const file of parentsFirst) {
      const original = join(demoModel, file);
      if (existsSync(original)) cpSync(original, join(this.folder, file), { recursive: true });
    }
    this.#touched.clear();
  }

  write(file: string, content: string | Uint8Array): void {
    rmSync(this.path(file), { recursive: true, force: true });
    writeFileSync(this.path(file), content);
  }

  remove(...files: string[]): void {
    for (const file of files) rmSync(this.path(file), { recursive: true });
  }

  /** Changes fields of a JSON file; undefined takes one out. */
  json(file: string, changes: Record<string, unknown>): void {
    const object = JSON.parse(readFileSync(this.path(file), 'utf8')) as Record<string, unknown>;
    this.write(file, JSON.stringify({ ...object, ...changes }));
  }
}

export interface Refusal {
  code?: string;
  message: RegExp;
}

/** Our own error with the right code, worded for people: never a fault that surfaced by accident. */
export function assertRefusal(error: unknown, { code = 'ERR_CHECKPOINT', message }: Refusal): true {
  assert.ok(error instanceof TorchbrushError, `no TorchbrushError: ${(error as Error)?.stack}`);
  assert.equal(error.code, code, error.message);
  assert.match(error.message, message);
  assert.doesNotMatch(error.message, /is not a function|Cannot read prop|\[object|NaN/);
  return true;
}

/** The one copy of a test file; each test restores it. */
export const model = new Spoiled(demoCopy({ after }));

/** A test that a checkpoint spoiled in one way is refused, and that nothing of it stays loaded. */
export function refused(
  what: string,
  spoil: () => void,
  refusal: Refusal,
  options: { variant?: string } = {},
): void {
  test(`${what} is refused`, async () => {
    try {
      spoil();
      const before = memoryStats();
      await assert.rejects(
        AutoPipelineForImage2Image.fromPretrained(model.folder, options),
        (error) => assertRefusal(error, refusal),
      );
      assert.deepEqual(memoryStats(), before);
    } finally {
      model.restore();
    }
  });
}
