// A checkpoint in one file, seen as a checkpoint folder.
import { CheckpointError } from '../errors.js';
import type { CheckpointFolder } from './folder.js';
import { type OpenSingleFileOptions, openConfiguration, openSingleFile } from './single-file.js';

/**
 * What the pipelines load: networks from the file, all else from the checkpoint that `config` names.
 *
 * @throws CheckpointError when the file is damaged, of an unknown architecture, or one network only
 */
export async function openSingleFileCheckpoint(
  path: string,
  { config, access = {} }: OpenSingleFileOptions,
): Promise<CheckpointFolder> {
  const single = await openSingleFile(path, { config, access });
  const { file, className, components: parts, scheduler, values } = single;
  if (scheduler === undefined) {
    throw new CheckpointError(
      `${file} holds one network, a ${className}, and no pipeline. Load it with that class.`,
    );
  }
  const named =
    config === undefined ? [] : [...(await openConfiguration(config, access)).components];
  const components: CheckpointFolder['components'] = new Map(
    named.filter(([name]) => name.startsWith('tokenizer')),
  );
  for (const [name, part] of parts) {
    components.set(name, { library: '', className: part.className, folder: file });
  }
  return { folder: file, className, components, values, inOneFile: { parts, scheduler } };
}
