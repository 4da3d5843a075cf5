/** Debian's headless Chromium, unpacked into the cache that tests share; nothing is installed. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { type Browser, chromium } from "playwright-core";

import { openBlobStore } from "../../rbuilds/blob-store.ts";
import { openDebianTool } from "../../rbuilds/debian-tool.ts";
import { ARCHITECTURE, sharedCache } from "../fixtures/rbuilds/debian-testbed.ts";

const PROGRAM = "/usr/lib/chromium/chromium-headless-shell";
const LIBRARIES = { amd64: "x86_64-linux-gnu", arm64: "aarch64-linux-gnu" } as const;
/** Within a container there is no other sandbox to be had; the pages are ours. */
const ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--no-zygote"];
const DOWNLOAD_TIMEOUT_MS = 600_000;

export interface RunningBrowser extends AsyncDisposable {
  readonly browser: Browser;
}

export async function openChromium(): Promise<RunningBrowser> {
  const root = await unpackChromium();
  const libraries = join(root, "usr", "lib", LIBRARIES[ARCHITECTURE]);
  const home = await mkdtemp(join(tmpdir(), "chromium-"));
  const browser = await chromium.launch({
    executablePath: join(root, PROGRAM),
    args: ARGUMENTS,
    env: {
      HOME: home,
      LD_LIBRARY_PATH: `${libraries}:${join(libraries, "pulseaudio")}`,
      FONTCONFIG_PATH: join(root, "etc", "fonts"),
    },
  });
  return {
    browser,
    [Symbol.asyncDispose]: async () => {
      await browser.close();
      await rm(home, { recursive: true, force: true });
    },
  };
}

async function unpackChromium(): Promise<string> {
  const cacheDir = sharedCache();
  const proxies = Object.entries(process.env).flatMap(([name, value]) =>
    /^(?:https?|no)_proxy$/i.test(name) && value !== undefined ? [[name, value] as const] : [],
  );
  const { root } = await openDebianTool(
    { packages: ["chromium-headless-shell"], program: PROGRAM },
    {
      cacheDir,
      architecture: ARCHITECTURE,
      blobs: await openBlobStore(join(cacheDir, "blobs")),
      sources: [],
      signal: AbortSignal.timeout(DOWNLOAD_TIMEOUT_MS),
      system: { proxies: Object.fromEntries(proxies) },
    },
  );
  return root;
}
