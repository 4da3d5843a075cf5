/**
 * Every refusal the toolkit can make: code, exit status, meaning, general hint. `docs/errors.md` is written from
 * this table (`npm run docs:errors`) and a test compares the two.
 */
import { ARCHIVE_ERRORS } from "./error-codes/archive.ts";
import { ATTESTATION_ERRORS } from "./error-codes/attestation.ts";
import { BUILD_ERRORS } from "./error-codes/build.ts";
import { CONFIG_ERRORS } from "./error-codes/config.ts";
import { EGRESS_ERRORS } from "./error-codes/egress.ts";
import { EIF_ERRORS } from "./error-codes/eif.ts";
import { ENCLAVE_ERRORS } from "./error-codes/enclave.ts";
import { GENERAL_ERRORS } from "./error-codes/general.ts";
import { HOST_ERRORS } from "./error-codes/host.ts";
import { IMAGE_ERRORS } from "./error-codes/image.ts";
import { NITRO_ERRORS } from "./error-codes/nitro.ts";
import { NSM_ERRORS } from "./error-codes/nsm.ts";
import { QEMU_ERRORS } from "./error-codes/qemu.ts";
import { RA_SERVER_ERRORS } from "./error-codes/ra-server.ts";
import { RAMDISK_ERRORS } from "./error-codes/ramdisk.ts";
import { STORE_ERRORS } from "./error-codes/store.ts";

export const ERROR_TABLE = {
  ...GENERAL_ERRORS,
  ...CONFIG_ERRORS,
  ...IMAGE_ERRORS,
  ...BUILD_ERRORS,
  ...EIF_ERRORS,
  ...HOST_ERRORS,
  ...ENCLAVE_ERRORS,
  ...EGRESS_ERRORS,
  ...ARCHIVE_ERRORS,
  ...ATTESTATION_ERRORS,
  ...NITRO_ERRORS,
  ...NSM_ERRORS,
  ...QEMU_ERRORS,
  ...RA_SERVER_ERRORS,
  ...RAMDISK_ERRORS,
  ...STORE_ERRORS,
} as const;

export type ErrorCode = keyof typeof ERROR_TABLE;

/** True if `code` is one of ours, for codes that arrive as text. */
export function isErrorCode(code: string): code is ErrorCode {
  return Object.hasOwn(ERROR_TABLE, code);
}
