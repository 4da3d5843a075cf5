/** Sizes of the Nitro Security Module (Linux, drivers/misc/nsm.c; aws-nitro-enclaves-nsm-api). */
export const NSM_REQUEST_MAX_BYTES = 0x1000;
export const NSM_RESPONSE_MAX_BYTES = 0x3000;
export const NSM_REGISTERS = 32;
/** SHA-384. */
export const NSM_REGISTER_BYTES = 48;
export const NSM_RANDOM_BYTES = 256;
/** Of user_data, nonce and public_key. */
export const NSM_FIELD_MAX_BYTES = 1024;
/** Every number in a message is a u16. */
export const NSM_NUMBER_MAX = 0xffff;
