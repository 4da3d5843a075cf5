/* /dev/cuse: requests of the kernel in, answers out. */
#ifndef ENCLAVE_NSM_DEVICE_CHANNEL_H
#define ENCLAVE_NSM_DEVICE_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <linux/fuse.h>

/* The least that the kernel reads into; a request of an NSM with its headers is half of it. */
#define MESSAGE_BYTES FUSE_MIN_READ_BUFFER

struct message {
    struct fuse_in_header header;
    /* What follows the header: header.len - sizeof header bytes. */
    uint8_t body[MESSAGE_BYTES - sizeof(struct fuse_in_header)];
};

enum reading { MESSAGE_READ, MESSAGE_NONE, MESSAGE_FAILED };

/* Non-blocking; -1 with errno. */
int open_channel(void);
/* Waits for the kernel's greeting and answers it: the device exists afterwards. False with errno. */
bool create_device(int channel);

/* FAILED comes with errno: the device is no more. */
enum reading read_message(int channel, struct message *message);
/* Bytes of the body. */
size_t body_length(const struct message *message);

struct part {
    const void *bytes;
    size_t length;
};

/* Each answers one message; one that is not waited for any more counts as answered. False with errno. */
bool answer(int channel, uint64_t unique, const struct part *parts, size_t count);
/* `number`: 0 or an errno. */
bool answer_error(int channel, uint64_t unique, int number);

#endif
