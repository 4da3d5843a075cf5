/** `enclave-toolkit/client`: HTTP to enclaves that prove themselves first. */
export { attestedAgent } from "./client/attested-agent.ts";
export { attestedFetch } from "./client/attested-fetch.ts";
export { AWS_ROOT_SHA256 } from "./verify/aws-root.ts";
