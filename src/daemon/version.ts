/** Longshore's own version; package.json says the same (test/tidy.test.ts holds them together). */
export const VERSION = '0.1.0';
