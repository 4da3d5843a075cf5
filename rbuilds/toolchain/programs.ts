/** The C programs of an image, compiled by the toolchain of its lock and never by the host's compiler. */
import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";

import type { StoredBlob } from "../blob-store.ts";
import { compile, type CompileOptions, resultScript } from "./compile.ts";

export interface ImagePrograms {
  readonly init: StoredBlob;
  readonly initctl: StoredBlob;
  readonly serviceExec: StoredBlob;
}

export interface ProgramsRequest {
  /** Folder `native`: one folder of C sources for each program, and `common`. */
  readonly sourceDir: string;
  /** Of the compiler. */
  readonly flags: readonly string[];
}

const PROGRAMS = ["init", "initctl", "service-exec"] as const;
const SHARED_FOLDER = "common";
const TMPFS_BYTES = 256 * 1024 ** 2;
const TIMEOUT_MS = 300_000;
const MAX_RESULT_BYTES = 64 * 1024 ** 2;

/** @throws E_TOOLCHAIN_* */
export async function openImagePrograms(
  request: ProgramsRequest,
  options: CompileOptions,
): Promise<ImagePrograms> {
  const results = await compile(
    {
      title: "the programs of the image",
      key: { sources: await digestSources(request.sourceDir) },
      script: resultScript(compileScript(request.flags)),
      inputs: [SHARED_FOLDER, ...PROGRAMS].map((folder) => ({
        source: join(request.sourceDir, folder),
        target: `/build/source/${folder}`,
      })),
      results: PROGRAMS,
      tmpfsBytes: TMPFS_BYTES,
      timeoutMs: TIMEOUT_MS,
      maxResultBytes: MAX_RESULT_BYTES,
    },
    options,
  );
  const result = (name: (typeof PROGRAMS)[number]): StoredBlob => {
    const blob = results.get(name);
    if (blob === undefined) throw new TypeError(`no result ${name}`);
    return blob;
  };
  return { init: result("init"), initctl: result("initctl"), serviceExec: result("service-exec") };
}

/** Names every source of these programs: name, size and content. */
export async function digestSources(sourceDir: string): Promise<string> {
  const hash = createHash("sha256");
  for (const folder of [SHARED_FOLDER, ...PROGRAMS]) {
    const names = (await readdir(join(sourceDir, folder))).filter((name) => /\.[ch]$/.test(name)).sort();
    for (const name of names) {
      const content = await readFile(join(sourceDir, folder, name));
      hash.update(`${folder}/${name} ${content.length}\n`).update(content);
    }
  }
  return hash.digest("hex");
}

/** The shell sorts what `*` stands for; LC_ALL is C. */
function compileScript(flags: readonly string[]): string {
  const lines = PROGRAMS.map(
    (program) => `gcc ${flags.join(" ")} -o ../result/${program} ${program}/*.c ${SHARED_FOLDER}/*.c`,
  );
  return ["cd source", ...lines].join("\n");
}
