import { resultScript } from "../toolchain/compile.ts";

/**
 * What runs in the build sandbox to make a kernel. Everything that differs between architectures stands here.
 *
 * Sources that this configuration can never compile are not even unpacked: it halves time and memory. Kconfig and make
 * files all stay, because the configuration reads them.
 */
const UNUSED_SOURCES = [
  "*/arch/[!x]*/*.[chS]",
  "*/arch/[!x]*/*.dts*",
  "*/Documentation/*.rst",
  "*/Documentation/*.txt",
  "*/Documentation/*.yaml",
  "*/drivers/gpu/*.[ch]",
  "*/drivers/infiniband/*.[ch]",
  "*/drivers/media/*.[ch]",
  "*/drivers/net/ethernet/*.[ch]",
  "*/drivers/net/wireless/*.[ch]",
  "*/drivers/staging/*.[ch]",
  "*/sound/*.[ch]",
  "*/tools/testing/*",
];

export interface KernelScriptOptions {
  readonly jobs: number;
}

/** Reads /inputs/linux.tar.xz and /inputs/fragment.config; leaves bzImage and config in the result. */
export function kernelScript({ jobs }: KernelScriptOptions): string {
  const excludes = UNUSED_SOURCES.map((pattern) => `--exclude='${pattern}'`).join(" ");
  return resultScript(`mkdir linux
tar -xJf /inputs/linux.tar.xz -C linux --strip-components=1 ${excludes}
cd linux
export ARCH=x86_64 KBUILD_BUILD_TIMESTAMP=1970-01-01 KBUILD_BUILD_USER=enclave KBUILD_BUILD_HOST=enclave
export KBUILD_BUILD_VERSION=1
make -s KCONFIG_ALLCONFIG=/inputs/fragment.config allnoconfig
make -j${jobs} bzImage
mv arch/x86/boot/bzImage ../result/bzImage
mv .config ../result/config`);
}
