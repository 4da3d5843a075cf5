/*
 * The development NSM on the host, over AF_VSOCK: frames of `u32 big-endian length | CBOR`, one answer for each
 * request. The host is not trusted: it may be away, slow, or answer what it likes, within bounds.
 */
#ifndef ENCLAVE_NSM_DEVICE_HOST_H
#define ENCLAVE_NSM_DEVICE_HOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../common/layout.h"

#define FRAME_HEADER_BYTES 4

enum host_state {
    /* Not connected. */
    HOST_AWAY,
    HOST_CONNECTING,
    HOST_SENDING,
    HOST_RECEIVING,
    /* Connected, and nothing asked. */
    HOST_IDLE,
};

struct host {
    enum host_state state;
    /* -1 while HOST_AWAY. */
    int fd;
    /* The connection has carried nothing of this request, and was there before it. */
    bool reused;
    /* For one request, from its beginning. */
    int timeout_ms;
    int64_t deadline_ms;
    /* A frame on its way out, then the one on its way in. */
    size_t length;
    size_t at;
    uint8_t frame[FRAME_HEADER_BYTES + NSM_RESPONSE_MAX_BYTES];
};

enum progress { HOST_WAITS, HOST_ANSWERED, HOST_FAILED };

/* Nothing may be under way. `length` is at most NSM_REQUEST_MAX_BYTES. FAILED comes with errno. */
enum progress ask_host(struct host *host, const uint8_t *request, size_t length);
/* Something is under way. `ready`: poll() found what host_events() asks for. FAILED comes with errno. */
enum progress continue_host(struct host *host, bool ready);
/* Nothing is under way, and the connection has something to say: that it has ended, or what nobody asked for. */
void drop_host(struct host *host);

bool is_host_busy(const struct host *host);
/* For poll(). */
short host_events(const struct host *host);

/* Of HOST_ANSWERED: 1 to NSM_RESPONSE_MAX_BYTES bytes. */
const uint8_t *answered_bytes(const struct host *host);
size_t answered_length(const struct host *host);

#endif
