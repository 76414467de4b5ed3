// A checkpoint folder in diffusers' layout: model_index.json and one subfolder per component.
import { statSync } from 'node:fs';
import { join } from 'node:path';

import { CheckpointError } from '../errors.js';
import { type HubSnapshot, resolveCheckpoint } from './hub.js';
import type { HubAccess } from './hub-settings.js';
import { type JsonObject, readJsonObject } from './json.js';
import type { SingleFileComponent } from './single-file.js';

export interface CheckpointFolder {
  folder: string;
  /** `_class_name` of model_index.json. */
  className: string;
  /** Component name (as on disk) → its class; parts that the checkpoint leaves out are missing here. */
  components: Map<string, { library: string; className: string; folder: string }>;
  /** What model_index.json says beside the parts; camelCase names. */
  values: Readonly<Record<string, unknown>>;
  /** Where the checkpoint is one file: its networks, and what stands in for a scheduler's file. */
  inOneFile?: { parts: ReadonlyMap<string, SingleFileComponent>; scheduler: JsonObject };
  /** Where the checkpoint is a repository on the hub: brings more of it into the folder. */
  snapshot?: HubSnapshot | undefined;
}

/**
 * Opens a folder, or a repository on the hub. Of the latter only the model_index.json is there then.
 *
 * @throws CheckpointError when there is no such folder, or its model_index.json cannot be used
 * @throws HubError
 */
export async function openCheckpointFolder(
  path: string,
  access: HubAccess = {},
): Promise<CheckpointFolder> {
  const { folder, snapshot } = await resolveCheckpoint(path, access);
  await snapshot?.fetch(['model_index.json']);
  if (!isFolder(folder)) {
    throw new CheckpointError(
      `There is no checkpoint folder ${folder}. Expected a folder with a model_index.json, as diffusers' save_pretrained writes it, or a name on the hub: org/name.`,
    );
  }
  const modelIndex = await readJsonObject(join(folder, 'model_index.json'));
  const className = modelIndex._class_name;
  if (typeof className !== 'string') {
    throw new CheckpointError(
      `${join(folder, 'model_index.json')} names no pipeline class (_class_name).`,
    );
  }
  const components: CheckpointFolder['components'] = new Map();
  const values: Record<string, unknown> = {};
  for (const [name, entry] of Object.entries(modelIndex)) {
    if (name.startsWith('_')) continue;
    if (!Array.isArray(entry)) {
      values[camelCase(name)] = entry;
      continue;
    }
    const [library, component] = entry as unknown[];
    if (typeof library !== 'string' || typeof component !== 'string') continue;
    // The name becomes a folder's name; it must not lead anywhere else.
    if (!/^[A-Za-z0-9_]+$/.test(name)) {
      throw new CheckpointError(
        `The model_index.json of ${folder} has a component ${JSON.stringify(name)}, which points outside its folder.`,
      );
    }
    components.set(name, { library, className: component, folder: join(folder, name) });
  }
  return { folder, className, components, values, snapshot };
}

/** A component that the pipeline cannot do without. @throws CheckpointError when it is missing */
export function requireComponent(
  checkpoint: CheckpointFolder,
  name: string,
  classNames: readonly string[],
): { className: string; folder: string } {
  const component = checkpoint.components.get(name);
  if (component === undefined && checkpoint.inOneFile !== undefined) {
    throw new CheckpointError(
      `${checkpoint.folder} holds no ${name}. Pass one, or name a checkpoint folder that has one: { config: 'FOLDER' }.`,
    );
  }
  if (component === undefined) {
    throw new CheckpointError(
      `The checkpoint ${checkpoint.folder} has no ${name} in its model_index.json.`,
    );
  }
  if (!classNames.includes(component.className)) {
    throw new CheckpointError(
      `The ${name} of ${checkpoint.folder} is a ${component.className}; expected ${classNames.join(' or ')}.`,
    );
  }
  const isInFile = checkpoint.inOneFile?.parts.has(name) === true;
  if (!isInFile && !isFolder(component.folder)) {
    throw new CheckpointError(
      `The model_index.json of ${checkpoint.folder} names ${name}, but the folder ${component.folder} is missing. Is the download complete?`,
    );
  }
  return component;
}

function camelCase(name: string): string {
  return name.replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
}

function isFolder(path: string): boolean {
  try {
    return statSync(path).isDirectory();
  } catch {
    // Missing, a link to itself, a part of the path that is a file, or forbidden.
    return false;
  }
}
