// Which files of a repository a pipeline reads, so that nothing else is downloaded.
import { chooseWeights } from './weights.js';

/** A part of a pipeline, or a network on its own. */
export interface HubPart {
  /** Folder in the repository; empty where its files lie at the top. */
  folder: string;
  className: string;
}

export interface HubPlan {
  files: string[];
  /** Of the files, the one that lists the shards to read as well. */
  index: string | undefined;
  /** What the part cannot do without and the repository lacks, in words. */
  lack: string | undefined;
}

export interface PlanOptions {
  variant: string | undefined;
  /** False where only configurations are read. */
  weights: boolean;
}

/** Classes of parts that are a few small files. */
const smallParts = /Tokenizer|Scheduler|Processor|FeatureExtractor/;

/** @param names All files of the repository, or those that are in the cache. */
export function planPart(
  names: Iterable<string>,
  { folder, className }: HubPart,
  { variant, weights }: PlanOptions,
): HubPlan {
  const prefix = folder === '' ? '' : `${folder}/`;
  const own = new Set<string>();
  for (const name of names) if (name.startsWith(prefix)) own.add(name.slice(prefix.length));
  const whole = (name: string) => `${prefix}${name}`;
  if (smallParts.test(className)) {
    const files = [...own].filter((name) => /^[^/]+\.(json|txt)$/.test(name));
    const lack = files.length === 0 ? `the folder ${prefix}` : undefined;
    return { files: files.map(whole), index: undefined, lack };
  }
  const configs = own.has('config.json') ? [whole('config.json')] : [];
  if (!weights) return { files: configs, index: undefined, lack: undefined };
  const choice = chooseWeights(className, variant, (name) => own.has(name));
  if (choice === undefined) {
    return {
      files: configs,
      index: undefined,
      lack: `weights in ${prefix === '' ? './' : prefix}`,
    };
  }
  const file = whole(choice.name);
  return {
    files: [...configs, file],
    index: choice.isIndex ? file : undefined,
    lack: configs.length === 0 ? whole('config.json') : undefined,
  };
}
