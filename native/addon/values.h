/*
 * Between JavaScript's values and C's. A function that returns false has thrown already, and its caller returns NULL.
 */
#ifndef ENCLAVE_ADDON_VALUES_H
#define ENCLAVE_ADDON_VALUES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <node_api.h>

#define MAX_ARGUMENTS 4

/* All arguments of a call; those that were not given are `undefined`. */
bool take_arguments(napi_env env, napi_callback_info info, size_t wanted, napi_value values[MAX_ARGUMENTS]);
/* A whole number from 0 to `most`. */
bool take_number(napi_env env, napi_value value, int64_t most, int64_t *result);
bool take_descriptor(napi_env env, napi_value value, int *fd);
bool take_bytes(napi_env env, napi_value value, uint8_t **bytes, size_t *length);

napi_value give_number(napi_env env, int64_t number);
napi_value give_undefined(napi_env env);

/* Error of a system call, as Node's own look: code "ENOENT", syscall "open". Returns NULL. */
napi_value throw_errno(napi_env env, const char *call, int number);
napi_value make_errno(napi_env env, const char *call, int number);
/* Returns NULL. */
napi_value throw_type_error(napi_env env, const char *message);

#endif
