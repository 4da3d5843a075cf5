#include "nft-batch.h"

#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

void begin_batch(struct nft_batch *batch, const char *table)
{
    *batch = (struct nft_batch){.table = table};
    begin_message(batch, NFNL_MSG_BATCH_BEGIN, 0);
    end_message(batch);
    begin_message(batch, NFT_MSG_NEWTABLE, NLM_F_CREATE | NLM_F_EXCL);
    add_text(batch, NFTA_TABLE_NAME, table);
    end_message(batch);
}

void add_output_chain(struct nft_batch *batch, const struct nft_chain *chain)
{
    batch->chain = chain->name;
    begin_message(batch, NFT_MSG_NEWCHAIN, NLM_F_CREATE | NLM_F_EXCL);
    add_text(batch, NFTA_CHAIN_TABLE, batch->table);
    add_text(batch, NFTA_CHAIN_NAME, chain->name);
    size_t hook = open_list(batch, NFTA_CHAIN_HOOK);
    add_number(batch, NFTA_HOOK_HOOKNUM, NF_INET_LOCAL_OUT);
    add_number(batch, NFTA_HOOK_PRIORITY, (uint32_t)chain->priority);
    close_list(batch, hook);
    add_text(batch, NFTA_CHAIN_TYPE, chain->type);
    add_number(batch, NFTA_CHAIN_POLICY, chain->policy);
    end_message(batch);
}

void begin_rule(struct nft_batch *batch)
{
    begin_message(batch, NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND);
    add_text(batch, NFTA_RULE_TABLE, batch->table);
    add_text(batch, NFTA_RULE_CHAIN, batch->chain);
    batch->expressions = open_list(batch, NFTA_RULE_EXPRESSIONS);
}

void end_rule(struct nft_batch *batch)
{
    close_list(batch, batch->expressions);
    end_message(batch);
}

/* Adds the answers of one datagram to `count`. Answers 0 or the first error. */
static int read_answers(const char *bytes, int length, unsigned *count)
{
    for (const struct nlmsghdr *header = (const struct nlmsghdr *)bytes; NLMSG_OK(header, length);
         header = NLMSG_NEXT(header, length)) {
        const struct nlmsgerr *answer = NLMSG_DATA(header);
        if (header->nlmsg_type != NLMSG_ERROR || header->nlmsg_len < NLMSG_LENGTH(sizeof *answer))
            return EPROTO;
        if (answer->error != 0)
            return -answer->error;
        ++*count;
    }
    return 0;
}

static int ask_kernel(int netlink, const struct nft_batch *batch)
{
    _Alignas(struct nlmsghdr) char bytes[4096];
    if (send(netlink, batch->bytes, batch->length, 0) == -1)
        return errno;
    for (unsigned count = 0; count < batch->answers;) {
        ssize_t length = recv(netlink, bytes, sizeof bytes, 0);
        int number = length == -1 ? errno : read_answers(bytes, (int)length, &count);
        if (number != 0)
            return number;
    }
    return 0;
}

int send_batch(struct nft_batch *batch)
{
    begin_message(batch, NFNL_MSG_BATCH_END, 0);
    end_message(batch);
    if (batch->overflow)
        return ENOBUFS;
    int netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
    if (netlink == -1)
        return errno;
    /* The kernel answers at once, unless it loads modules first; the limit is for a kernel that does not. */
    const struct timeval limit = {.tv_sec = 10};
    setsockopt(netlink, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    int number = ask_kernel(netlink, batch);
    close(netlink);
    return number;
}
