/* The messages of a batch to nf_tables, byte by byte. native/init/nft-message.c says how they look. */
#ifndef ENCLAVE_INIT_NFT_MESSAGE_H
#define ENCLAVE_INIT_NFT_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <linux/netlink.h>

#define NFT_BATCH_BYTES 8192

/* One, on the stack of whoever builds it. The kernel wants messages on multiples of four. */
struct nft_batch {
    _Alignas(struct nlmsghdr) char bytes[NFT_BATCH_BYTES];
    size_t length;
    /* Where the open message, and the open list of expressions in it, begin. */
    size_t message;
    size_t expressions;
    /* How many messages the kernel answers. */
    unsigned answers;
    const char *table;
    const char *chain;
    /* Something had no room: the batch is not sent. */
    bool overflow;
};

/* @param type NFT_MSG_*, or an end of the batch @param flags more than those of every request */
void begin_message(struct nft_batch *batch, uint16_t type, uint16_t flags);
void end_message(struct nft_batch *batch);

void add_attribute(struct nft_batch *batch, uint16_t type, const void *value, size_t length);
void add_text(struct nft_batch *batch, uint16_t type, const char *text);
void add_number(struct nft_batch *batch, uint16_t type, uint32_t number);
/* An attribute that holds attributes. Answers where it begins, for close_list. */
size_t open_list(struct nft_batch *batch, uint16_t type);
void close_list(struct nft_batch *batch, size_t start);

#endif
