/** `enclave-toolkit/verify`: the verifier for programs in Node. Pages have their own (attest/browser). */
export { AWS_ROOT_SHA256 } from "./verify/aws-root.ts";
export { DocumentVerifier } from "./verify/document-verifier.ts";
export { createNodeCrypto } from "./verify/node-crypto.ts";
