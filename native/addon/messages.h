/* Bytes with descriptors over Unix stream sockets (SCM_RIGHTS). */
#ifndef ENCLAVE_ADDON_MESSAGES_H
#define ENCLAVE_ADDON_MESSAGES_H

#include <node_api.h>

napi_value receive_message(napi_env env, napi_callback_info info);
napi_value send_message(napi_env env, napi_callback_info info);

#endif
