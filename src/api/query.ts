/** Query parameters with moby's rules. Source: moby api/server/httputils/form.go (v28). */
import { EngineError } from '../core/engine-error.ts';

const INT64_MAX = 2 ** 63;
const UINT32_MAX = 2 ** 32 - 1;

export class Query {
  readonly #values: URLSearchParams;

  constructor(text: string) {
    this.#values = new URLSearchParams(text);
  }

  /** Adds a form body's values, as Go's Request.Form holds both. */
  add(form: string): void {
    for (const [name, value] of new URLSearchParams(form)) this.#values.append(name, value);
  }

  has(name: string): boolean {
    return this.#values.has(name);
  }

  /** The first value; "" when missing. */
  text(name: string): string {
    return this.#values.get(name) ?? '';
  }

  all(name: string): string[] {
    return this.#values.getAll(name);
  }

  /** moby's BoolValue: everything but these words is true. */
  flag(name: string, absent = false): boolean {
    if (!this.#values.has(name)) return absent;
    return !['', '0', 'no', 'false', 'none'].includes(this.text(name).trim().toLowerCase());
  }

  /**
   * A whole number; null when missing or empty.
   * A deviation from moby, which answers 500 here because it forgot to classify the error: ours is 400.
   */
  integer(name: string): number | null {
    const text = this.text(name);
    if (text === '') return null;
    const value = Number(text);
    if (!/^[-+]?\d+$/.test(text)) throw invalid(`strconv.Atoi: parsing ${JSON.stringify(text)}: invalid syntax`);
    if (Math.abs(value) >= INT64_MAX)
      throw invalid(`strconv.Atoi: parsing ${JSON.stringify(text)}: value out of range`);
    return value;
  }

  /** A number of rows or columns. `what` is as in moby's messages: "height", "width". */
  size(name: string, what: string): number {
    const text = this.text(name);
    const problem = !/^-?\d+$/.test(text)
      ? 'invalid syntax'
      : Number(text) < 0 || text.startsWith('-') || Number(text) > UINT32_MAX
        ? 'value out of range'
        : null;
    if (problem !== null) throw invalid(`invalid resize ${what} ${JSON.stringify(text)}: ${problem}`);
    return Number(text);
  }
}

function invalid(message: string): EngineError {
  return new EngineError('PARAMETER_INVALID', message);
}
