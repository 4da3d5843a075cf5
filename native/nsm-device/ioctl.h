#ifndef ENCLAVE_NSM_DEVICE_IOCTL_H
#define ENCLAVE_NSM_DEVICE_IOCTL_H

#include <stdbool.h>

#include "calls.h"
#include "channel.h"

/* Takes one message of an ioctl: answers it, or adds a call; there is room for one. False with errno. */
bool take_ioctl(int channel, const struct message *message, struct calls *calls);
/* Answers a call whose caller waits. False with errno. */
bool answer_call(int channel, const struct call *call, const uint8_t *bytes, size_t length);

#endif
