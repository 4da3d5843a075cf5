/** dpkg's database, so that scanners inside and outside find the packages of the image. */
import { isSlimPath } from "../slim-paths.ts";
import type { UnpackedPackage } from "../unpacked-package.ts";
import { type FinishContext, writeText } from "./finish-context.ts";

export async function finishDpkgStatus(context: FinishContext): Promise<void> {
  const paragraphs = context.packages.map(statusParagraph);
  await writeText(context, "/var/lib/dpkg/status", paragraphs.join("\n"));
  await writeText(context, "/var/lib/dpkg/available", "");
  // Says that the names of files may hold the architecture.
  await writeText(context, "/var/lib/dpkg/info/format", "1\n");
  for (const each of context.packages) {
    const base = `/var/lib/dpkg/info/${infoName(each)}`;
    await writeText(context, `${base}.list`, each.entries.map((entry) => `${listed(entry.path)}\n`).join(""));
    await writeText(context, `${base}.md5sums`, keptSums(each.control.md5sums));
  }
}

/** The package's own paragraph with its state after the first line, as dpkg writes it. */
function statusParagraph(each: UnpackedPackage): string {
  const [first = "", ...rest] = each.control.paragraph.trimEnd().split("\n");
  return `${[first, "Status: install ok installed", ...rest].join("\n")}\n`;
}

/** Lines `sum  path` of the files that stayed. */
function keptSums(md5sums: string): string {
  const lines = md5sums.split("\n").filter((line) => line !== "" && isSlimPath(`/${line.slice(34)}`));
  return lines.map((line) => `${line}\n`).join("");
}

function infoName(each: UnpackedPackage): string {
  const isMultiArch = /^Multi-Arch: same$/m.test(each.control.paragraph);
  return isMultiArch ? `${each.name}:${each.architecture}` : each.name;
}

/** dpkg calls the root directory `/.`. */
function listed(path: string): string {
  return path === "/" ? "/." : path;
}
