/* Eventfds, and descriptors that are watched on the event loop. */
#ifndef ENCLAVE_ADDON_EVENTS_H
#define ENCLAVE_ADDON_EVENTS_H

#include <node_api.h>

napi_value create_eventfd(napi_env env, napi_callback_info info);
napi_value signal_eventfd(napi_env env, napi_callback_info info);
napi_value read_eventfd(napi_env env, napi_callback_info info);
napi_value watch_readable(napi_env env, napi_callback_info info);
napi_value watch_writable(napi_env env, napi_callback_info info);

#endif
