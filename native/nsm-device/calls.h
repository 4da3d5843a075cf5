/* Requests of callers, in the order in which they came; the first one may be with the host. */
#ifndef ENCLAVE_NSM_DEVICE_CALLS_H
#define ENCLAVE_NSM_DEVICE_CALLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../common/layout.h"

/* Further ones wait in the kernel. */
#define MAX_CALLS 64

struct call {
    /* Of the kernel's message; 0: nobody waits for the answer any more. */
    uint64_t unique;
    /* Thread that waits. */
    uint32_t caller;
    /* It got a signal. */
    bool interrupted;
    /* Room for the answer. */
    size_t room;
    size_t length;
    uint8_t request[NSM_REQUEST_MAX_BYTES];
};

struct calls {
    size_t count;
    /* The first `count` are those that wait, in their order; the others are free. */
    struct call *order[MAX_CALLS];
    struct call items[MAX_CALLS];
};

void clear_calls(struct calls *calls);
bool is_full(const struct calls *calls);
/* The oldest; NULL if there is none. */
struct call *first_call(const struct calls *calls);
/* A place for one more behind the others; there is room. */
struct call *add_call(struct calls *calls);
void remove_first(struct calls *calls);

/* The caller of this message got a signal. One that is not among the calls is answered already. */
void interrupt_call(struct calls *calls, uint64_t unique);
/*
 * Takes one caller that is dying out of the calls, and answers which message is to be ended; 0: none. The first call
 * stays, with nobody waiting for it: the host may be busy with it.
 */
uint64_t abandon_call(struct calls *calls);
/* Whether callers have to be looked at again after a while: some got a signal, or signals cannot be read. */
bool has_doubtful_calls(const struct calls *calls);

#endif
