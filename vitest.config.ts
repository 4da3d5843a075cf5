import { defineConfig } from "vitest/config";

/** One worker pool without isolation: files share a process, so no module keeps state (docs/decisions/0003). */
export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    globalSetup: "test/setup/build.ts",
    pool: "threads",
    isolate: false,
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 240_000,
    reporters: ["default"],
    passWithNoTests: false,
  },
});
