// What pipelines consist of, and how the parts are loaded from a checkpoint or taken from the caller.
// Each family of pipelines lists its parts as slots; everything else here knows no family.
import { openConnectedCheckpoint } from '../checkpoints/connected.js';
import type { CheckpointFolder } from '../checkpoints/folder.js';
import type { HubSnapshot } from '../checkpoints/hub.js';
import type { HubPart } from '../checkpoints/hub-plan.js';
import type { DownloadProgress, HubAccess } from '../checkpoints/hub-settings.js';
import type { OffloadMode } from '../core.js';
import { CheckpointError, DisposedError, expected } from '../errors.js';
import { Network } from '../networks/network.js';
import type { Placement } from '../options.js';
import type { Scheduler } from '../schedulers/index.js';

/** The parts of a pipeline by name. Pipelines share them and count holders. */
export interface ComponentSet {
  /** The sampling algorithm. */
  scheduler: Scheduler;
}

/** Where a part is read from, and how. */
export interface ComponentSource extends Placement {
  checkpoint: CheckpointFolder;
  /** The part's name on disk, `'text_encoder'`. */
  name: string;
  variant: string | undefined;
  offload: OffloadMode;
  trustTorchScript: boolean;
}

/** A kind of part: how it is recognised and read. */
export interface ComponentKind<Component> {
  /** `'an Autoencoder'`, for messages. */
  what: string;
  /** How to come by one, for messages. */
  hint?: string;
  is(value: unknown): value is Component;
  /** Other parts whose files it reads as well, by their names on disk. */
  alsoReads?: readonly string[];
  /** @throws CheckpointError, ProgramNotFoundError */
  load(source: ComponentSource): Promise<Component>;
}

/** A place for a part in a family of pipelines. */
export interface ComponentSlot<Component> {
  /** Name in `model_index.json` and of the folder. */
  name: string;
  kind: ComponentKind<Component>;
  /** The pipeline can do without: then it may be absent from the checkpoint, or given as `null`. */
  optional?: boolean;
}

export type ComponentSlots<Components> = {
  readonly [Name in keyof Components]-?: ComponentSlot<NonNullable<Components[Name]>>;
};

/** Parts to use instead of the checkpoint's; `null` leaves out one that the pipeline can do without. */
export type ComponentOverrides<Components> = {
  [Name in keyof Components]?:
    | Components[Name]
    | (undefined extends Components[Name] ? null : never);
};

/** Values beside the parts that checkpoints are published with, such as `requiresAestheticsScore`. */
export type PipelineConfig = Readonly<Record<string, boolean | number>>;

/** What all pipelines of a family have in common. */
export interface PipelineFamily<Components extends ComponentSet> {
  readonly slots: ComponentSlots<Components>;
  /** Values beside the parts in `model_index.json` that the pipelines use, with their defaults. */
  readonly config: PipelineConfig;
  /**
   * A second checkpoint that holds the parts whose names begin so: `prior_tokenizer` is its
   * `tokenizer`. Also the name of the option, and of the entry in README.md, that says where it is.
   */
  readonly connected?: 'prior';
  /** Why parts cannot work together, in words; undefined where they can. */
  misfit(components: Readonly<Components>, config: PipelineConfig): string | undefined;
  /** What the constructor of diffusers' class changes in a checkpoint's scheduler. */
  mendScheduler?(scheduler: Scheduler): Scheduler;
}

/** Told about files from the hub, then about components. */
export type LoadProgress = DownloadProgress | ComponentProgress;

/** Told about each component as it is loaded; several are on their way at once. */
export interface ComponentProgress {
  /** `loading` when a component begins, `loaded` when it is there. */
  status: 'loading' | 'loaded';
  /** The component's name on disk, `'unet'`. */
  component: string;
  /** How many of `count` are loaded. */
  done: number;
  /** How many components are loaded in all. */
  count: number;
}

export interface LoadOptions<Components> extends Placement {
  variant: string | undefined;
  offload: OffloadMode;
  trustTorchScript: boolean;
  config: PipelineConfig;
  overrides: ComponentOverrides<Components>;
  /** Where the second checkpoint is, for families that have one; else the first one names it. */
  connected: string | undefined;
  access: HubAccess;
  onProgress: ((progress: LoadProgress) => void) | undefined;
  signal: AbortSignal | undefined;
}

type AnySlot = ComponentSlot<unknown>;

export function slotsOf<Components>(slots: ComponentSlots<Components>): [string, AnySlot][] {
  return Object.entries(slots);
}

/** The networks of a set of parts, each once. A part may be a list. */
export function networksOf(components: object): Network[] {
  const networks = new Set<Network>();
  for (const part of Object.values(components).flat()) {
    const network = (part as { network?: unknown } | null | undefined)?.network;
    if (network instanceof Network) networks.add(network);
  }
  return [...networks];
}

/** The network that stands for all: the one that denoises. */
export function denoiserOf(components: object): Network {
  const { unet, prior } = components as { unet?: unknown; prior?: unknown };
  const [network] = networksOf({ unet, prior });
  if (network === undefined) throw new DisposedError('The pipeline has no network.');
  return network;
}

/** One more holder for each. @throws DisposedError; nothing stays retained then */
export function retainAll(networks: readonly Network[]): void {
  const retained: Network[] = [];
  try {
    for (const network of networks) {
      network.retain();
      retained.push(network);
    }
  } catch (error) {
    for (const network of retained) network.dispose();
    throw error;
  }
}

/** The parts that were really given. @throws InvalidArgumentError for one of another kind */
export function checkOverrides<Components extends ComponentSet>(
  { slots }: PipelineFamily<Components>,
  overrides: ComponentOverrides<Components>,
): ComponentOverrides<Components> {
  const given = Object.entries(overrides).filter(([, value]) => value !== undefined);
  for (const [name, value] of given) {
    const { kind, optional = false } = slots[name as keyof Components];
    if (kind.is(value) || (value === null && optional)) continue;
    throw expected(kind.what, name, value, kind.hint ?? "Take another pipeline's components.");
  }
  return Object.fromEntries(given) as ComponentOverrides<Components>;
}

/** @throws CheckpointError, ProgramNotFoundError, or the signal's reason; nothing stays loaded then */
export async function loadComponents<Components extends ComponentSet>(
  family: PipelineFamily<Components>,
  checkpoint: CheckpointFolder,
  options: LoadOptions<Components>,
): Promise<Components> {
  const { signal, onProgress, variant, dtype, device, offload, trustTorchScript } = options;
  const placement = { variant, dtype, device, offload, trustTorchScript };
  const overrides = options.overrides as Record<string, unknown>;
  const isThere = ([key, slot]: [string, AnySlot]) =>
    overrides[key] !== null &&
    (overrides[key] !== undefined || !slot.optional || checkpoint.components.has(slot.name));
  const wanted = slotsOf(family.slots).filter(isThere);
  const own = wanted.filter(([key]) => overrides[key] === undefined).map(([, slot]) => slot);
  const placeOf = await placesOf(
    family,
    checkpoint,
    own.map(({ name }) => name),
    options,
  );
  await fetchParts(own, placeOf, variant);
  const held: Network[] = [];
  const count = wanted.length;
  let done = 0;
  const load = async ([key, slot]: [string, AnySlot]) => {
    signal?.throwIfAborted();
    onProgress?.({ status: 'loading', component: slot.name, done, count });
    const given = overrides[key];
    if (given !== undefined) retainAll(networksOf({ given }));
    const part = given ?? (await slot.kind.load({ ...placeOf(slot.name), ...placement }));
    held.push(...networksOf({ part }));
    done += 1;
    onProgress?.({ status: 'loaded', component: slot.name, done, count });
    return [key, part] as const;
  };
  try {
    // All at the same time: files are read on this thread, networks made on the device's. Nothing
    // may still be on its way when what is loaded is disposed.
    const parts = wanted.map(load);
    await Promise.allSettled(parts);
    const components = Object.fromEntries(await Promise.all(parts)) as unknown as Components;
    signal?.throwIfAborted();
    const reason = family.misfit(components, options.config);
    if (reason === undefined) return components;
    throw new CheckpointError(
      `The components of ${checkpoint.folder} do not fit together: ${reason}.`,
    );
  } catch (error) {
    for (const network of held) network.dispose();
    throw error;
  }
}

type Place = Pick<ComponentSource, 'checkpoint' | 'name'>;

/** Brings what is read of parts that are on the hub. @throws HubError */
async function fetchParts(
  slots: readonly AnySlot[],
  placeOf: (name: string) => Place,
  variant: string | undefined,
): Promise<void> {
  const parts = new Map<HubSnapshot, HubPart[]>();
  for (const { name, kind } of slots) {
    const place = placeOf(name);
    const { components, snapshot } = place.checkpoint;
    if (snapshot === undefined) continue;
    for (const folder of [place.name, ...(kind.alsoReads ?? [])]) {
      const className = components.get(folder)?.className;
      if (className === undefined) continue;
      parts.set(snapshot, [...(parts.get(snapshot) ?? []), { folder, className }]);
    }
  }
  for (const [snapshot, wanted] of parts) {
    await snapshot.fetchParts(wanted, { variant, weights: true });
  }
}

/** Where parts are: in the checkpoint itself, or in the one that it is connected to. */
async function placesOf<Components extends ComponentSet>(
  { connected: kind }: PipelineFamily<Components>,
  checkpoint: CheckpointFolder,
  names: readonly string[],
  { connected: given, access }: Pick<LoadOptions<Components>, 'connected' | 'access'>,
): Promise<(name: string) => Place> {
  const own = (name: string) => ({ checkpoint, name });
  if (kind === undefined) return own;
  const prefix = `${kind}_`;
  const isElsewhere = (name: string) =>
    name.startsWith(prefix) && (given !== undefined || !checkpoint.components.has(name));
  if (!names.some(isElsewhere)) return own;
  const connected = await openConnectedCheckpoint(checkpoint, kind, given, access);
  return (name) =>
    isElsewhere(name) ? { checkpoint: connected, name: name.slice(prefix.length) } : own(name);
}
