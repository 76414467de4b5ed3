/**
 * Scheduler configurations: defaults, checks, and what passes from one class to another.
 *
 * A configuration comes from `scheduler_config.json` (snake_case) or from another scheduler's
 * `config` (camelCase). Fields that the class does not know are kept for the next class; fields
 * that were mere defaults of the other class are not, so each class applies its own.
 */

import { expected } from '../errors.js';

/** How one field is checked, and its value when absent. */
export interface Field<T> {
  readonly fallback: T;
  readonly read: (value: unknown, name: string) => T;
}

/** The values of a table of fields. */
export type ConfigOf<Fields> = {
  readonly [Key in keyof Fields]: Fields[Key] extends Field<infer T> ? T : never;
};

/** A scheduler's configuration: its own fields, and those kept for other classes. */
export type SchedulerConfig<Fields> = ConfigOf<Fields> & {
  readonly _className: string;
  /** Names of the own fields that nobody set. */
  readonly _useDefaultValues: readonly string[];
  readonly [key: string]: unknown;
};

/** A configuration as it comes in: snake_case or camelCase keys. */
export type SchedulerConfigInput = Readonly<Record<string, unknown>>;

/** Fields to change, camelCase or snake_case. */
export type SchedulerOverrides<Fields> = Partial<ConfigOf<Fields>> & SchedulerConfigInput;

export function number(fallback: number): Field<number> {
  return {
    fallback,
    read: (value, name) => {
      if (typeof value !== 'number' || Number.isNaN(value)) {
        throw expected('a number', name, value);
      }
      return value;
    },
  };
}

export function integer(
  fallback: number,
  { min = 0, max = Number.MAX_SAFE_INTEGER }: { min?: number; max?: number } = {},
): Field<number> {
  const range = max === Number.MAX_SAFE_INTEGER ? `of at least ${min}` : `from ${min} to ${max}`;
  return {
    fallback,
    read: (value, name) => {
      const isWhole = Number.isSafeInteger(value);
      if (!isWhole || (value as number) < min || (value as number) > max) {
        throw expected(`a whole number ${range}`, name, value);
      }
      return value as number;
    },
  };
}

/** A seed of random numbers; negative ones wrap as in torch. */
export const seed: Field<number> = {
  fallback: 0,
  read: (value, name) => {
    if (!Number.isSafeInteger(value)) throw expected('a whole number', name, value);
    return value as number;
  },
};

export function flag(fallback: boolean): Field<boolean> {
  return {
    fallback,
    read: (value, name) => {
      if (typeof value !== 'boolean') throw expected('true or false', name, value);
      return value;
    },
  };
}

/** One of several values. `aliases` maps what other classes call the nearest thing. */
export function choice<const T extends string | number>(
  values: readonly T[],
  fallback: NoInfer<T>,
  aliases: Readonly<Record<string, NoInfer<T>>> = {},
): Field<T> {
  return {
    fallback,
    read: (value, name) => {
      const alias = typeof value === 'string' ? aliases[value] : undefined;
      const found = alias ?? values.find((candidate) => candidate === value);
      if (found === undefined) throw expected(`one of ${values.join(', ')}`, name, value);
      return found;
    },
  };
}

export function optional<T>(field: Field<T>): Field<T | null> {
  return {
    fallback: null,
    read: (value, name) => (value === null ? null : field.read(value, name)),
  };
}

/** As `field`, with null for the default: what JSON makes of a number that is not finite. */
export function nullAsDefault<T>(field: Field<T>): Field<T> {
  return {
    fallback: field.fallback,
    read: (value, name) => (value === null ? field.fallback : field.read(value, name)),
  };
}

export const numbers: Field<readonly number[]> = {
  fallback: [],
  read: (value, name) => {
    const list: unknown[] | undefined = Array.isArray(value) ? value : undefined;
    if (list === undefined || list.length === 0 || !list.every((x) => typeof x === 'number')) {
      throw expected('an array of numbers', name, value);
    }
    return Object.freeze([...list]) as readonly number[];
  },
};

/** What a network may have been trained to predict; each class knows some of them. */
export const PREDICTION_TYPES = [
  'epsilon',
  'sample',
  'original_sample',
  'v_prediction',
  'flow_prediction',
] as const;
export type PredictionType = (typeof PREDICTION_TYPES)[number];

/** The beta schedules that every class knows. */
export const BETA_SCHEDULES = ['linear', 'scaled_linear', 'squaredcos_cap_v2'] as const;

/** Where the variance of a step's noise comes from; each class knows some of them. */
export const VARIANCE_TYPES = [
  'fixed_small',
  'fixed_small_log',
  'fixed_large',
  'fixed_large_log',
  'learned',
  'learned_range',
] as const;
export type VarianceType = (typeof VARIANCE_TYPES)[number];

/** The fields that describe the model, for every class alike. */
export const MODEL_FIELDS = {
  numTrainTimesteps: integer(1000, { min: 1 }),
  betaStart: number(0.0001),
  betaEnd: number(0.02),
  betaSchedule: choice(BETA_SCHEDULES, 'linear'),
  trainedBetas: optional(numbers),
  predictionType: choice(PREDICTION_TYPES, 'epsilon'),
} as const;

/**
 * The prediction type, if the class can use it. Asked for when a run starts, not before: a
 * configuration may pass through a class on its way to another.
 *
 * @throws ERR_INVALID_ARGUMENT
 */
export function supportedPrediction<const T extends PredictionType>(
  { _className, predictionType }: { _className: string; predictionType: PredictionType },
  supported: readonly T[],
): T {
  const found = supported.find((candidate) => candidate === predictionType);
  if (found === undefined) {
    const hint = `${_className} works with no other; take another scheduler class.`;
    throw expected(supported.join(' or '), 'predictionType', predictionType, hint);
  }
  return found;
}

/** The class that a configuration was written for. */
export function configClassName(config: SchedulerConfigInput): unknown {
  return config._className ?? config._class_name;
}

function camelCase(key: string): string {
  return key.replace(/(?<=[^_])_+([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
}

function camelCaseKeys(config: unknown, name: string): Record<string, unknown> {
  if (typeof config !== 'object' || config === null || Array.isArray(config)) {
    throw expected('an object of scheduler configuration fields', name, config);
  }
  const entries = Object.entries(config).filter(([, value]) => value !== undefined);
  return Object.fromEntries(entries.map(([key, value]) => [camelCase(key), value]));
}

/**
 * A class's frozen configuration from an incoming one.
 *
 * @throws ERR_INVALID_ARGUMENT for a value of the wrong type or outside the choices
 */
export function readConfig<Fields extends Readonly<Record<string, Field<unknown>>>>(
  className: string,
  fields: Fields,
  config: SchedulerConfigInput,
  overrides: SchedulerConfigInput,
): SchedulerConfig<Fields> {
  const given = camelCaseKeys(config, 'config');
  const changes = camelCaseKeys(overrides, 'overrides');
  const inherited = given._useDefaultValues;
  for (const key of Array.isArray(inherited) ? inherited : []) delete given[camelCase(String(key))];

  const unset = Object.keys(fields).filter((key) => !(key in given) && !(key in changes));
  const own = Object.entries(fields).map(([key, field]) => {
    const value = key in changes ? changes[key] : given[key];
    return [key, unset.includes(key) ? field.fallback : field.read(value, key)] as const;
  });
  return Object.freeze({
    ...given,
    ...Object.fromEntries(own),
    _className: className,
    // An override may say which fields still count as unset: the next class then takes its own.
    _useDefaultValues: Object.freeze(changes._useDefaultValues ?? unset),
  }) as SchedulerConfig<Fields>;
}
