/** Work on packages as one line for the operator. */
import type { PackageProgress } from "./apt-lists.ts";

const VERBS = {
  update: "reading package lists",
  resolve: "resolving packages",
  fetch: "fetching packages",
  unpack: "unpacking packages",
} as const;

export function packageReporter(onProgress: (step: string) => void): (progress: PackageProgress) => void {
  return ({ stage, done, total }) => {
    const words = VERBS[stage];
    onProgress(total > 0 ? `${words} ${done}/${total}` : words);
  };
}
