/*
 * What Node cannot do by itself: AF_VSOCK sockets, descriptors over sockets, shared memory, eventfds, the security
 * module. native/addon.ts says what each function takes, gives and throws. Each does one system call or little more;
 * whoever owns a descriptor or a mapping is a matter of the callers.
 */
#include <node_api.h>

#include "events.h"
#include "memory.h"
#include "messages.h"
#include "nsm.h"
#include "redirected.h"
#include "sockets.h"

#define METHOD(name, function)                                                                                         \
    {                                                                                                                  \
        name, NULL, function, NULL, NULL, NULL, napi_enumerable, NULL                                                  \
    }

NAPI_MODULE_INIT()
{
    const napi_property_descriptor methods[] = {
        METHOD("vsockSocket", vsock_socket),     METHOD("vsockBind", vsock_bind),
        METHOD("vsockListen", vsock_listen),     METHOD("vsockConnect", vsock_connect),
        METHOD("vsockPeer", vsock_peer),         METHOD("socketError", socket_error),
        METHOD("socketPair", socket_pair),       METHOD("closeFd", close_fd),
        METHOD("receiveMessage", receive_message), METHOD("sendMessage", send_message),
        METHOD("memfd", create_memfd),           METHOD("mapShared", map_shared),
        METHOD("unmap", unmap),                  METHOD("eventfd", create_eventfd),
        METHOD("signalEventfd", signal_eventfd), METHOD("readEventfd", read_eventfd),
        METHOD("watchReadable", watch_readable), METHOD("watchWritable", watch_writable),
        METHOD("originalDestination", original_destination), METHOD("nsmRequest", nsm_request),
    };
    napi_define_properties(env, exports, sizeof methods / sizeof methods[0], methods);
    return exports;
}
