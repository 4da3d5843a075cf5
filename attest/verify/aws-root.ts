/**
 * SHA-256 of the root certificate of AWS Nitro Enclaves (DER, 533 bytes), lower-case hex. It is the one that AWS publishes
 * in its guide, beside the certificate itself, which every document carries.
 */
export const AWS_ROOT_SHA256 = "641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b";
