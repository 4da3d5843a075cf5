import { glob, readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..", "..");

export interface SourceFile {
  /** Relative to the repository. */
  readonly path: string;
  readonly text: string;
}

/** Every source file of ours that matches; generated and installed ones are left out. */
export async function readSources(pattern: string): Promise<SourceFile[]> {
  const files: SourceFile[] = [];
  const exclude = (path: string): boolean => /(^|\/)(node_modules|dist|build)(\/|$)/.test(path);
  for await (const path of glob(pattern, { cwd: ROOT, exclude })) {
    files.push({ path, text: await readFile(join(ROOT, path), "utf8") });
  }
  return files.sort((a, b) => a.path.localeCompare(b.path));
}
