// JSON with whole numbers of 64 bits: one that a Number would round is a BigInt. Any other number stays a Number, so the same key is the
// same value wherever it comes from.
const MARK = /^\u0000-?\d+$/;

export const whole = (digits) => Number.isSafeInteger(Number(digits)) ? Number(digits) : BigInt(digits);

export function parse(text) {
  if (!/\d{16}/.test(text)) return JSON.parse(text);
  const marked = text.replace(/"[^"\\]*(?:\\.[^"\\]*)*"|-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?/g, (token) =>
    /^-?\d+$/.test(token) && !Number.isSafeInteger(Number(token)) ? `"\\u0000${token}"` : token);
  return JSON.parse(marked, (_, value) => typeof value === "string" && MARK.test(value) ? BigInt(value.slice(1)) : value);
}

export const stringify = (value) =>
  JSON.stringify(value, (_, v) => typeof v === "bigint" ? `\u0000${v}` : v).replace(/"\\u0000(-?\d+)"/g, "$1");
