// A component's config.json: checked field by field before anything is built on it.
import { join } from 'node:path';

import { type JsonObject, readJsonObject } from '../checkpoints/json.js';
import { CheckpointError } from '../errors.js';
import { type Architecture, canonicalArchitecture } from './architecture.js';

export interface ComponentConfig {
  /** The parsed file, snake_case. */
  config: JsonObject;
  architecture: Architecture;
}

/** Fields that shape no network but are calculated with. Null and absent mean the class default. */
const calculated: Readonly<Record<string, 'a number above 0' | 'a whole number above 0'>> = {
  scaling_factor: 'a number above 0',
  sample_size: 'a whole number above 0',
};

/** @throws CheckpointError that names the file and the field */
export async function readComponentConfig(
  folder: string,
  className: string,
): Promise<ComponentConfig> {
  const path = join(folder, 'config.json');
  return checkComponentConfig(path, className, await readJsonObject(path));
}

/** @param path Where the configuration comes from, for messages. */
export function checkComponentConfig(
  path: string,
  className: string,
  config: JsonObject,
): ComponentConfig {
  checkFigures(path, config);
  const architecture = architectureOf(path, className, config);
  for (const [name, value] of Object.entries(architecture.config)) {
    if (!isNegative(value)) continue;
    throw new CheckpointError(
      `${path} has ${name} ${JSON.stringify(value)}, but nothing in a network is negative.`,
    );
  }
  return { config, architecture };
}

/** Looks at what is calculated with. @throws CheckpointError that names the file and the field */
export function checkFigures(path: string, config: JsonObject): void {
  for (const [name, what] of Object.entries(calculated)) {
    const value = config[name] ?? 1;
    // A size may be a list, [height, width].
    const values: unknown[] = Array.isArray(value) ? value : [value];
    const isFine = what === 'a number above 0' ? Number.isFinite : Number.isSafeInteger;
    if (values.every((item) => isFine(item) && (item as number) > 0)) continue;
    throw new CheckpointError(`${path} has ${name} ${JSON.stringify(value)}, expected ${what}.`);
  }
}

function architectureOf(path: string, className: string, config: JsonObject): Architecture {
  try {
    return canonicalArchitecture(className, config);
  } catch (cause) {
    if (!(cause instanceof CheckpointError)) throw cause;
    throw new CheckpointError(`Cannot use ${path}: ${cause.message}`, { cause });
  }
}

function isNegative(value: unknown): boolean {
  if (Array.isArray(value)) return value.some(isNegative);
  return typeof value === 'number' && value < 0;
}
