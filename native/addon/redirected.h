/* Connections that the kernel has redirected. */
#ifndef ENCLAVE_ADDON_REDIRECTED_H
#define ENCLAVE_ADDON_REDIRECTED_H

#include <node_api.h>

napi_value original_destination(napi_env env, napi_callback_info info);

#endif
