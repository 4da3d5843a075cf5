/* AF_VSOCK stream sockets, and pairs of Unix ones. */
#ifndef ENCLAVE_ADDON_SOCKETS_H
#define ENCLAVE_ADDON_SOCKETS_H

#include <node_api.h>

napi_value vsock_socket(napi_env env, napi_callback_info info);
napi_value vsock_bind(napi_env env, napi_callback_info info);
napi_value vsock_listen(napi_env env, napi_callback_info info);
napi_value vsock_connect(napi_env env, napi_callback_info info);
napi_value vsock_peer(napi_env env, napi_callback_info info);
napi_value socket_error(napi_env env, napi_callback_info info);
napi_value socket_pair(napi_env env, napi_callback_info info);
napi_value close_fd(napi_env env, napi_callback_info info);

#endif
