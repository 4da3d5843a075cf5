/** Compose's durations and byte sizes as text. */

const DURATION_UNITS_MS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };
const BYTE_UNITS: Readonly<Record<string, number>> = {
  "": 1, b: 1,
  k: 1024, kb: 1024, kib: 1024,
  m: 1024 ** 2, mb: 1024 ** 2, mib: 1024 ** 2,
  g: 1024 ** 3, gb: 1024 ** 3, gib: 1024 ** 3,
}; // prettier-ignore

/** Milliseconds of `90s`, `1m30s`, `500ms`, `1.5h`; undefined if it is no duration or over a year. */
export function parseDurationMs(text: string): number | undefined {
  if (!/^(?:[0-9]+(?:\.[0-9]+)?(?:ms|s|m|h))+$/.test(text)) return undefined;
  let totalMs = 0;
  for (const [, amount = "", unit = ""] of text.matchAll(/([0-9.]+)(ms|s|m|h)/g)) {
    totalMs += Number(amount) * (DURATION_UNITS_MS[unit] ?? 0);
  }
  const rounded = Math.round(totalMs);
  return rounded <= 366 * 24 * 3_600_000 ? rounded : undefined;
}

/** Bytes of `512MiB`, `1g`, `1048576b`; as in compose every unit is a power of 1024. */
export function parseBytes(text: string): number | undefined {
  const [, amount = "", unit = ""] = /^([0-9]+(?:\.[0-9]+)?) ?([a-z]*)$/i.exec(text) ?? [];
  const factor = BYTE_UNITS[unit.toLowerCase()];
  if (amount === "" || factor === undefined) return undefined;
  const bytes = Math.round(Number(amount) * factor);
  return Number.isSafeInteger(bytes) ? bytes : undefined;
}
