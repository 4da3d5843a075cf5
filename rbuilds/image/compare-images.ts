/** What two enclave images have differently, by name: section, and within ramdisks the file and its attribute. */
import { open } from "node:fs/promises";

import { canonicalJson } from "../canonical-json.ts";
import { type EifDescription, readEif } from "../eif/read-eif.ts";
import { compareRamdisks } from "../ramdisk/compare-ramdisks.ts";
import { readRamdisk } from "../ramdisk/read-ramdisk.ts";

export interface ImageDifference {
  /** "header", "kernel", "command line", "metadata" or "ramdisk 1". */
  readonly part: string;
  /** In a ramdisk; else empty. */
  readonly path: string;
  readonly attribute: string;
  readonly expected: string;
  readonly actual: string;
}

export interface Comparison {
  /** True if everything but signatures is the same, byte for byte. */
  readonly same: boolean;
  /** The first hundred of each part. */
  readonly differences: readonly ImageDifference[];
  readonly actual: EifDescription;
}

const READ_BYTES = 1024 * 1024;

/** Signatures are left out: who signs has the key, who verifies has not. @throws E_EIF_*, E_RAMDISK_* */
export async function compareImages(
  expectedPath: string,
  actualPath: string,
  signal?: AbortSignal,
): Promise<Comparison> {
  const [expected, actual] = [await readEif(expectedPath, { signal }), await readEif(actualPath, { signal })];
  const pair: Pair = { expectedPath, actualPath, expected, actual, signal };
  const heads = compareHeads(pair);
  const differences = [...heads, ...(await compareTexts(pair, heads)), ...(await compareSections(pair))];
  return { same: differences.length === 0, differences, actual };
}

interface Pair {
  readonly expectedPath: string;
  readonly actualPath: string;
  readonly expected: EifDescription;
  readonly actual: EifDescription;
  readonly signal: AbortSignal | undefined;
}

function compareHeads({ expected, actual }: Pair): ImageDifference[] {
  const facts = (image: EifDescription) => [
    ["header", "version", String(image.version)],
    ["header", "architecture", image.architecture],
    ["header", "default memory", image.defaultMemoryBytes],
    ["header", "default CPUs", image.defaultCpus],
    ["header", "sections", sectionKinds(image)],
    // Gaps, unknown flags, bytes that are not shown.
    ["header", "warnings", image.warnings.join("; ")],
    ["command line", "text", image.commandLine],
    ["metadata", "content", canonicalJson(image.metadata)],
  ];
  const others = facts(actual);
  return facts(expected).flatMap(([part = "", attribute = "", value = ""], index) => {
    const other = others[index]?.[2] ?? "";
    return value === other ? [] : [{ part, path: "", attribute, expected: value, actual: other }];
  });
}

/** What says the same in other bytes: the order of keys, a blank. */
async function compareTexts(pair: Pair, found: readonly ImageDifference[]): Promise<ImageDifference[]> {
  const differences: ImageDifference[] = [];
  const kinds = { "command line": "commandLine", metadata: "metadata" } as const;
  for (const [part, kind] of Object.entries(kinds)) {
    const [one, other] = [sectionsOf(pair.expected, kind)[0], sectionsOf(pair.actual, kind)[0]];
    if (found.some((each) => each.part === part) || (await isSame(pair, one, other))) continue;
    differences.push({
      part,
      path: "",
      attribute: "bytes",
      expected: describeSize(one),
      actual: describeSize(other),
    });
  }
  return differences;
}

function describeSize(section: Section | undefined): string {
  return section === undefined ? "nothing" : `${section.sizeBytes} bytes`;
}

function sectionKinds(image: EifDescription): string {
  return image.sections
    .map((section) => section.kind)
    .filter((kind) => kind !== "signature")
    .join(", ");
}

async function compareSections(pair: Pair): Promise<ImageDifference[]> {
  const differences: ImageDifference[] = [];
  const [kernel, otherKernel] = [
    sectionsOf(pair.expected, "kernel")[0],
    sectionsOf(pair.actual, "kernel")[0],
  ];
  if (!(await isSame(pair, kernel, otherKernel)))
    differences.push({
      part: "kernel",
      path: "",
      attribute: "content",
      expected: describeSize(kernel),
      actual: describeSize(otherKernel),
    });
  const [ramdisks, others] = [sectionsOf(pair.expected, "ramdisk"), sectionsOf(pair.actual, "ramdisk")];
  for (const [index, ramdisk] of ramdisks.entries()) {
    const other = others[index];
    if (other === undefined || (await isSame(pair, ramdisk, other))) continue;
    differences.push(...(await compareRamdisk(pair, { ramdisk, other, name: `ramdisk ${index}` })));
  }
  return differences;
}

type Section = EifDescription["sections"][number];

function sectionsOf(image: EifDescription, kind: Section["kind"]): readonly Section[] {
  return image.sections.filter((section) => section.kind === kind);
}

async function compareRamdisk(
  { expectedPath, actualPath, signal }: Pair,
  { ramdisk, other, name }: { readonly ramdisk: Section; readonly other: Section; readonly name: string },
): Promise<ImageDifference[]> {
  const range = ({ offset, sizeBytes }: Section) => ({ offset, sizeBytes, signal });
  const found = await compareRamdisks(
    readRamdisk(expectedPath, range(ramdisk)),
    readRamdisk(actualPath, range(other)),
    name,
  );
  const differences = found.differences.map(({ path, attribute, expected, actual }) => ({
    part: name,
    path,
    attribute,
    expected,
    actual,
  }));
  if (differences.length > 0) return differences;
  // The same files, packed in another way.
  const sizes = { expected: describeSize(ramdisk), actual: describeSize(other) };
  return [{ part: name, path: "", attribute: "compression", ...sizes }];
}

async function isSame(
  { expectedPath, actualPath, signal }: Pair,
  one: Section | undefined,
  other: Section | undefined,
): Promise<boolean> {
  if (one === undefined || other === undefined || one.sizeBytes !== other.sizeBytes) return one === other;
  await using first = await open(expectedPath);
  await using second = await open(actualPath);
  const buffers = [Buffer.alloc(READ_BYTES), Buffer.alloc(READ_BYTES)] as const;
  for (let done = 0; done < one.sizeBytes;) {
    signal?.throwIfAborted();
    const length = Math.min(READ_BYTES, one.sizeBytes - done);
    const a = await first.read(buffers[0], 0, length, one.offset + done);
    const b = await second.read(buffers[1], 0, length, other.offset + done);
    const count = Math.min(a.bytesRead, b.bytesRead);
    if (count === 0 || buffers[0].compare(buffers[1], 0, count, 0, count) !== 0) return false;
    done += count;
  }
  return true;
}
