/** The C programs and the addon of an image, compiled by the toolchain of its lock and never by the host's compiler. */
import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";

import type { StoredBlob } from "../blob-store.ts";
import { compile, type CompileOptions, resultScript } from "./compile.ts";

export interface ImagePrograms {
  readonly init: StoredBlob;
  readonly initctl: StoredBlob;
  readonly serviceExec: StoredBlob;
  readonly nsmDevice: StoredBlob;
  readonly addon: StoredBlob;
}

export interface ProgramSources {
  /** Folder `native`: one folder of C sources for each program, and `common`. */
  readonly sourceDir: string;
  /** Of the compiler, for the static programs. */
  readonly flags: readonly string[];
  /** Of the compiler, for the addon. */
  readonly addonFlags: readonly string[];
  /** Folder of the headers of the image's Node. */
  readonly nodeHeaders: string;
}

const PROGRAMS = ["init", "initctl", "nsm-device", "service-exec"] as const;
const ADDON = "addon";
const RESULTS = [...PROGRAMS, ADDON] as const;
const HEADERS = "node-headers";
const SHARED_FOLDER = "common";
const TMPFS_BYTES = 256 * 1024 ** 2;
const TIMEOUT_MS = 300_000;
const MAX_RESULT_BYTES = 64 * 1024 ** 2;

/** @throws E_TOOLCHAIN_* */
export async function openImagePrograms(
  request: ProgramSources,
  options: CompileOptions,
): Promise<ImagePrograms> {
  const results = await compile(
    {
      title: "the programs of the image",
      key: { sources: await digestSources(request) },
      script: resultScript(compileScript(request)),
      inputs: [
        { source: request.nodeHeaders, target: `/build/${HEADERS}` },
        ...[SHARED_FOLDER, ...RESULTS].map((folder) => ({
          source: join(request.sourceDir, folder),
          target: `/build/source/${folder}`,
        })),
      ],
      results: RESULTS,
      tmpfsBytes: TMPFS_BYTES,
      timeoutMs: TIMEOUT_MS,
      maxResultBytes: MAX_RESULT_BYTES,
    },
    options,
  );
  const result = (name: (typeof RESULTS)[number]): StoredBlob => {
    const blob = results.get(name);
    if (blob === undefined) throw new TypeError(`no result ${name}`);
    return blob;
  };
  return {
    init: result("init"),
    initctl: result("initctl"),
    serviceExec: result("service-exec"),
    nsmDevice: result("nsm-device"),
    addon: result(ADDON),
  };
}

/** Names every source of these: name, size and content. Of Node's headers those that the addon may include. */
export async function digestSources({ sourceDir, nodeHeaders }: ProgramSources): Promise<string> {
  const hash = createHash("sha256");
  const folders = [SHARED_FOLDER, ...RESULTS].map((name) => ({ name, path: join(sourceDir, name) }));
  const headers = { name: HEADERS, path: nodeHeaders };
  const library = { name: `${HEADERS}/uv`, path: join(nodeHeaders, "uv") };
  for (const folder of [...folders, headers, library]) {
    const names = (await readdir(folder.path)).filter((name) => /\.[ch]$/.test(name)).sort();
    for (const name of names) {
      const content = await readFile(join(folder.path, name));
      hash.update(`${folder.name}/${name} ${content.length}\n`).update(content);
    }
  }
  return hash.digest("hex");
}

/** The shell sorts what `*` stands for; LC_ALL is C. */
function compileScript({ flags, addonFlags }: ProgramSources): string {
  const line = (name: string, options: readonly string[]): string =>
    `gcc ${options.join(" ")} -o ../result/${name} ${name}/*.c ${SHARED_FOLDER}/*.c`;
  const lines = [
    ...PROGRAMS.map((name) => line(name, flags)),
    line(ADDON, [...addonFlags, "-isystem", `../${HEADERS}`]),
  ];
  return ["cd source", ...lines].join("\n");
}
