/* One batch of tables, chains and rules, which the kernel takes as a whole or not at all. */
#ifndef ENCLAVE_INIT_NFT_BATCH_H
#define ENCLAVE_INIT_NFT_BATCH_H

#include <stdint.h>

#include "nft-message.h"

/* A chain at the hook for packets of this machine's own programs. */
struct nft_chain {
    const char *name;
    /* "nat" or "filter". */
    const char *type;
    int32_t priority;
    /* NF_ACCEPT or NF_DROP: of what no rule decides. */
    uint32_t policy;
};

/* Begins the batch with a table of family inet, to which all that follows belongs. */
void begin_batch(struct nft_batch *batch, const char *table);
/* Adds a chain; the rules that follow are its own, in this order. */
void add_output_chain(struct nft_batch *batch, const struct nft_chain *chain);
void begin_rule(struct nft_batch *batch);
void end_rule(struct nft_batch *batch);
/* Ends the batch and sends it. Answers 0 once the kernel has taken all of it, else an errno; then it has taken none. */
int send_batch(struct nft_batch *batch);

#endif
