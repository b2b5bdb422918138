/**
 * Decoders of JSON values with Go's semantics, which no validation library has: keys match without regard to case,
 * null is the zero value, unknown keys are ignored, the last of two equal keys wins, and a wrong type is refused in
 * Go's words ("json: cannot unmarshal string into Go struct field Config.Tty of type bool").
 * Source: Go encoding/json decode.go.
 */
import { EngineError } from '../../core/engine-error.ts';
import { parseJson } from './json-text.ts';

export interface Decoder<T> {
  /** What a missing or null value becomes. Immutable: it is shared. */
  readonly zero: T;
  /** As Go prints the type. */
  readonly goType: string;
  /** `value` is not null. */
  decode(value: unknown, where: Where): T;
}

/** The struct that is being decoded, and the path from the root to the field. */
interface Where {
  readonly struct: string;
  readonly field: string;
}

export type Decoded<D> = D extends Decoder<infer T> ? T : never;

/** The whole body. `name` is Go's type, for messages about the body as such. */
export function decodeBody<T>(text: string, decoder: Decoder<T>): T {
  const value = parseJson(text);
  return value === null ? decoder.zero : decoder.decode(value, { struct: '', field: '' });
}

export const text: Decoder<string> = {
  zero: '',
  goType: 'string',
  decode: (value, where) => (typeof value === 'string' ? value : refuse(value, where, 'string')),
};

export const flag: Decoder<boolean> = {
  zero: false,
  goType: 'bool',
  decode: (value, where) => (typeof value === 'boolean' ? value : refuse(value, where, 'bool')),
};

const RANGES = {
  int: [-(2 ** 63), 2 ** 63],
  int64: [-(2 ** 63), 2 ** 63],
  uint64: [0, 2 ** 64],
  uint: [0, 2 ** 64],
  uint32: [0, 2 ** 32 - 1],
  uint16: [0, 2 ** 16 - 1],
  'time.Duration': [-(2 ** 63), 2 ** 63],
  'fs.FileMode': [0, 2 ** 32 - 1],
} as const;

/** The largest of 64 bits round up to what Go would not take any more: the next number below, then. */
const ROUNDED: ReadonlyMap<number, number> = new Map([
  [2 ** 63, 2 ** 63 - 2 ** 10],
  [2 ** 64, 2 ** 64 - 2 ** 11],
]);

/** A whole number in the range of a Go type. Beyond 2^53 the last digits are lost, which no limit in use reaches. */
export function integer(goType: keyof typeof RANGES): Decoder<number> {
  const [least, most] = RANGES[goType];
  return {
    zero: 0,
    goType,
    decode: (value, where) =>
      typeof value === 'number' && Number.isInteger(value) && value >= least && value <= most
        ? (ROUNDED.get(value) ?? value)
        : refuse(value, where, goType),
  };
}

/** A pointer in Go: null when not given. */
export function optional<T>(decoder: Decoder<T>): Decoder<T | null> {
  return { zero: null, goType: decoder.goType, decode: (value, where) => decoder.decode(value, where) };
}

/** A slice: null when not given, which is not the same as empty. */
export function list<T>(item: Decoder<T>): Decoder<readonly T[] | null> {
  const goType = `[]${item.goType}`;
  return {
    zero: null,
    goType,
    decode: (value, where) => {
      if (!Array.isArray(value)) return refuse(value, where, goType);
      return value.map((element) => (element === null ? item.zero : item.decode(element, where)));
    },
  };
}

/** A fixed array of two: what is missing is zero, what is too much is dropped. */
export function pair(item: Decoder<number>): Decoder<readonly [number, number]> {
  const goType = `[2]${item.goType}`;
  return {
    zero: [0, 0],
    goType,
    decode: (value, where) => {
      if (!Array.isArray(value)) return refuse(value, where, goType);
      const at = (index: number): number =>
        value[index] === undefined || value[index] === null ? 0 : item.decode(value[index], where);
      return [at(0), at(1)];
    },
  };
}

/** A map with string keys: null when not given. */
export function map<T>(item: Decoder<T>): Decoder<Readonly<Record<string, T>> | null> {
  const goType = `map[string]${item.goType}`;
  return {
    zero: null,
    goType,
    decode: (value, where) => {
      if (!isObject(value)) return refuse(value, where, goType);
      // fromEntries and not assignment: "__proto__" is a key like any other.
      return Object.fromEntries(
        Object.entries(value).map(([key, element]) => [
          key,
          element === null ? item.zero : item.decode(element, where),
        ]),
      );
    },
  };
}

/** moby's strslice.StrSlice: a list of strings, or one string. */
export const textOrTexts: Decoder<readonly string[] | null> = {
  zero: null,
  goType: '[]string',
  decode: (value, where) => (typeof value === 'string' ? [value] : list(text).decode(value, where)),
};

/** struct{}: the value of sets. */
export const nothing: Decoder<null> = {
  zero: null,
  goType: 'struct {}',
  decode: (value, where) => (isObject(value) ? null : refuse(value, where, 'struct {}')),
};

type Fields = Readonly<Record<string, Decoder<unknown>>>;
export type Struct<F extends Fields> = { readonly [K in keyof F]: Decoded<F[K]> };

export interface StructDecoder<F extends Fields> extends Decoder<Struct<F>> {
  readonly fields: F;
  /** Whether the object has any key of the struct, as decides if Go allocates an embedded pointer. */
  hasAny(value: unknown): boolean;
}

/** `name` is Go's: "container.HostConfig". */
export function struct<F extends Fields>(name: string, fields: F): StructDecoder<F> {
  const canonical = new Map(Object.keys(fields).map((key) => [key.toLowerCase(), key]));
  const zero = Object.fromEntries(Object.entries(fields).map(([key, decoder]) => [key, decoder.zero])) as Struct<F>;
  const shortName = name.slice(name.lastIndexOf('.') + 1);
  return {
    zero,
    goType: name,
    fields,
    hasAny: (value) => isObject(value) && Object.keys(value).some((key) => canonical.has(key.toLowerCase())),
    decode(value, where) {
      if (!isObject(value)) return refuse(value, where, name);
      const result: Record<string, unknown> = { ...zero };
      for (const [key, element] of Object.entries(value)) {
        const known = Object.hasOwn(fields, key) ? key : canonical.get(key.toLowerCase());
        if (known === undefined) continue;
        const decoder = fields[known]!;
        const field = where.field === '' ? known : `${where.field}.${known}`;
        // A null leaves what an equal key before it set, as in Go, but for what can be nil.
        if (element !== null) result[known] = decoder.decode(element, { struct: shortName, field });
        else if (decoder.zero === null) result[known] = null;
      }
      return result as Struct<F>;
    },
  };
}

export function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function refuse(value: unknown, where: Where, goType: string): never {
  const target =
    where.struct === ''
      ? `Go value of type ${goType}`
      : `Go struct field ${where.struct}.${where.field} of type ${goType}`;
  throw new EngineError(
    'BODY_INVALID',
    `invalid JSON: json: cannot unmarshal ${describe(value, goType)} into ${target}`,
  );
}

function describe(value: unknown, goType: string): string {
  if (Array.isArray(value)) return 'array';
  if (typeof value === 'object') return 'object';
  if (typeof value === 'boolean') return 'bool';
  // Go shows the number only when its kind was right and its size was not.
  if (typeof value === 'number' && goType in RANGES) return `number ${value}`;
  return typeof value;
}
