import { CheckpointError } from '../errors.js';

/** A value as it stands in a `config.json`. */
export type ConfigValue =
  | null
  | boolean
  | number
  | string
  | readonly ConfigValue[]
  | { readonly [name: string]: ConfigValue };

export type Config = Readonly<Record<string, ConfigValue>>;

/** What a field may hold; `perBlock` kinds accept one value or a list with one value per block. */
export type FieldKind =
  | 'integer'
  | 'number'
  | 'boolean'
  | 'string'
  | 'integers'
  | 'strings'
  | 'integerPerBlock'
  | 'booleanPerBlock'
  | 'integersPerBlock';

export interface FieldRule {
  kind: FieldKind;
  /** What the class assumes when a config lacks the field. */
  default: ConfigValue;
  /** Stays in the canonical config even when it has the default value. */
  always?: boolean;
  /** An explicit `null` means something of its own; elsewhere it means the same as absent. */
  nullable?: boolean;
}

/** How the configs of one class are brought to their canonical form. */
export interface ArchitectureRule {
  /**
   * The fields that shape the traced graph or its parameters. Fields that are not listed (sample
   * sizes, scaling factors, dropout, initialisers, dtypes, file names) have no say in it.
   */
  fields: Readonly<Record<string, FieldRule>>;
  /** Brings older layouts of a config into today's, before the fields are read. */
  prepare?: (config: Config) => Config;
  /** Merges spellings that mean the same graph, after the defaults are in place. */
  normalize?: (config: Config) => Config;
}

const isInteger = (value: ConfigValue): boolean =>
  typeof value === 'number' && Number.isSafeInteger(value);

const isListOf = (value: ConfigValue, test: (item: ConfigValue) => boolean): boolean =>
  Array.isArray(value) && value.length > 0 && value.every(test);

const isBoolean = (value: ConfigValue): boolean => typeof value === 'boolean';
const isString = (value: ConfigValue): boolean => typeof value === 'string';

const kinds: Record<FieldKind, { what: string; test: (value: ConfigValue) => boolean }> = {
  integer: { what: 'an integer', test: isInteger },
  number: {
    what: 'a finite number',
    test: (value) => typeof value === 'number' && Number.isFinite(value),
  },
  boolean: { what: 'true or false', test: isBoolean },
  string: { what: 'a string', test: isString },
  integers: { what: 'a list of integers', test: (value) => isListOf(value, isInteger) },
  strings: { what: 'a list of strings', test: (value) => isListOf(value, isString) },
  integerPerBlock: {
    what: 'an integer or a list of integers',
    test: (value) => isInteger(value) || isListOf(value, isInteger),
  },
  booleanPerBlock: {
    what: 'true, false or a list of these',
    test: (value) => isBoolean(value) || isListOf(value, isBoolean),
  },
  integersPerBlock: {
    what: 'an integer, a list of integers or a list of such lists',
    test: (value) =>
      isInteger(value) || isListOf(value, (item) => isInteger(item) || isListOf(item, isInteger)),
  },
};

/** Reads the listed fields of a config, with the class defaults where it is silent. */
export function completeConfig(className: string, rule: ArchitectureRule, config: Config): Config {
  const complete: Record<string, ConfigValue> = {};
  for (const [name, field] of Object.entries(rule.fields)) {
    const given = Object.hasOwn(config, name) ? config[name] : undefined;
    const absent = given === undefined || (given === null && field.nullable !== true);
    const value = absent ? field.default : given;
    if (value !== null && !kinds[field.kind].test(value)) {
      throw new CheckpointError(
        `Expected ${kinds[field.kind].what} for ${name} in the ${className} config ` +
          `but received ${JSON.stringify(value)}.`,
      );
    }
    complete[name] = value;
  }
  return complete;
}

/** Drops the fields that say no more than the class default. */
export function dropDefaults(rule: ArchitectureRule, config: Config): Config {
  const kept: Record<string, ConfigValue> = {};
  for (const name of Object.keys(config).sort()) {
    const value = config[name] ?? null;
    const field = rule.fields[name];
    if (field?.always === true || canonicalJson(value) !== canonicalJson(field?.default ?? null)) {
      kept[name] = value;
    }
  }
  return kept;
}

/** `[8, 8, 8]` and `8` are the same statement about three blocks. */
export function collapsePerBlock(value: ConfigValue): ConfigValue {
  if (!Array.isArray(value)) return value;
  const [first] = value;
  const same = value.every((item) => canonicalJson(item) === canonicalJson(first));
  return same && !Array.isArray(first) ? first : value;
}

/** JSON with sorted keys and no white space: equal values give equal text. */
export function canonicalJson(value: ConfigValue): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`;
  if (value !== null && typeof value === 'object') {
    const fields = value as Config;
    const members = Object.keys(fields)
      .sort()
      .map((name) => `${JSON.stringify(name)}:${canonicalJson(fields[name] ?? null)}`);
    return `{${members.join(',')}}`;
  }
  return JSON.stringify(value);
}
