/*
 * Shared memory. A mapping of a file that somebody else may shorten is a trap (SIGBUS ends the process), so only files
 * that are sealed against it are mapped: QEMU seals the memory of its guests so.
 */
#ifndef ENCLAVE_ADDON_MEMORY_H
#define ENCLAVE_ADDON_MEMORY_H

#include <node_api.h>

napi_value create_memfd(napi_env env, napi_callback_info info);
napi_value map_shared(napi_env env, napi_callback_info info);
napi_value unmap(napi_env env, napi_callback_info info);

#endif
