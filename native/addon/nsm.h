/* The Nitro Security Module: the one ioctl of /dev/nsm. */
#ifndef ENCLAVE_ADDON_NSM_H
#define ENCLAVE_ADDON_NSM_H

#include <node_api.h>

napi_value nsm_request(napi_env env, napi_callback_info info);

#endif
