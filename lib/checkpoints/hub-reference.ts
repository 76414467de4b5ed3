// What names a repository on the hub, or a file in one.
import { isRevision } from './hub-settings.js';

export interface HubReference {
  /** `'org/name'`. */
  repository: string;
  /** Where the name itself says it: `'org/name@revision'`. */
  revision: string | undefined;
}

export interface HubFileReference extends HubReference {
  /** Its path in the repository. */
  file: string;
}

/** `'org/name'` or `'org/name@revision'`; undefined for anything else, paths above all. */
export function parseRepository(text: string): HubReference | undefined {
  const at = text.indexOf('@');
  const repository = at < 0 ? text : text.slice(0, at);
  const revision = at < 0 ? undefined : text.slice(at + 1);
  if (revision !== undefined && !isRevision(revision)) return undefined;
  return isRepository(repository) ? { repository, revision } : undefined;
}

/**
 * `'org/name/file'`, `'org/name@revision/file'`, or the address of a file on the hub, as its pages
 * show it.
 *
 * @param endpoint The hub's address.
 */
export function parseFile(text: string, endpoint: string): HubFileReference | undefined {
  const prefixes = ['https://huggingface.co/', 'https://hf.co/', 'huggingface.co/', 'hf.co/'];
  const prefix = [`${endpoint}/`, ...prefixes].find((one) => text.startsWith(one));
  const [path = ''] = text.slice(prefix?.length ?? 0).split(/[?#]/);
  const [owner, name, ...rest] = path.split('/');
  const reference = parseRepository(`${owner}/${name}`);
  if (reference === undefined) return undefined;
  const [kind, revision] = rest;
  const isPage = kind === 'blob' || kind === 'resolve';
  if (!isPage) return isFilePath(rest) ? { ...reference, file: rest.join('/') } : undefined;
  const [named, file] = [decoded(revision ?? ''), rest.slice(2).map(decoded)];
  if (!isRevision(named) || !isFilePath(file)) return undefined;
  return { repository: reference.repository, revision: named, file: file.join('/') };
}

/** Whether the parts of a path stay inside the folder that they are put in. */
export function isFilePath(parts: readonly string[]): boolean {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: no file is called so
  const isName = (part: string) => !/^\.{0,2}$|[\\/\x00-\x1f]/.test(part) && part.length <= 255;
  return parts.length > 0 && parts.length <= 32 && parts.every(isName);
}

/** The hub's own rule for names; what ends like a weight file is a path that is not there. */
function isRepository(text: string): boolean {
  const isName = /^[A-Za-z0-9][\w.-]*\/[A-Za-z0-9_][\w.-]*$/.test(text);
  const isNone = /--|\.\.|[.-](\/|$)|\.(git|safetensors|ckpt|bin|pth?)$/.test(text);
  return isName && !isNone && text.length <= 96;
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return '';
  }
}
