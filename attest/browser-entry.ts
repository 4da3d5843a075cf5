/** `enclave-toolkit/verify/browser`: the verifier for pages. */
export { createWebCrypto } from "./browser/web-crypto.ts";
export { AWS_ROOT_SHA256 } from "./verify/aws-root.ts";
export { DocumentVerifier } from "./verify/document-verifier.ts";
