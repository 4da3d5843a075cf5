/*
 * nf_tables by netlink, as the kernel's net/netfilter/nfnetlink.c and nf_tables_api.c read it. One datagram:
 *
 *   batch      NFNL_MSG_BATCH_BEGIN | NEWTABLE | NEWCHAIN | NEWRULE ... | NFNL_MSG_BATCH_END
 *   message    nlmsghdr { length, type: subsystem << 8 | NFT_MSG_*, flags, sequence }
 *              nfgenmsg { family: inet, version 0, resource id: 0, and the subsystem at both ends of the batch }
 *              attributes
 *   attribute  u16 length without padding | u16 type, with NLA_F_NESTED if attributes are what it holds | bytes |
 *              zeros up to a multiple of four
 *   rule       NFTA_RULE_TABLE | NFTA_RULE_CHAIN | NFTA_RULE_EXPRESSIONS { NFTA_LIST_ELEM { name, data } ... }
 *
 * Numbers in attributes are in network order. What a register holds is in the order of its source: as in the packet, or
 * as in this machine's memory for what the kernel itself knows (connection state). Text ends by NUL.
 *
 * Every message between the ends asks for an NLMSG_ERROR, whose error is 0 for success. What fails as a whole (no
 * nf_tables, no privilege, a chain type or an expression that this kernel has not) is answered by an error as well.
 */
#include "nft-message.h"

#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <string.h>
#include <sys/socket.h>

/* Answers zeroed room, padded to a multiple of four, or NULL. */
static void *take_room(struct nft_batch *batch, size_t length)
{
    size_t padded = NLMSG_ALIGN(length);
    if (batch->overflow || padded > sizeof batch->bytes - batch->length) {
        batch->overflow = true;
        return NULL;
    }
    void *room = memset(batch->bytes + batch->length, 0, padded);
    batch->length += padded;
    return room;
}

void add_attribute(struct nft_batch *batch, uint16_t type, const void *value, size_t length)
{
    struct nlattr *attribute = take_room(batch, NLA_HDRLEN + length);
    if (attribute == NULL)
        return;
    attribute->nla_type = type;
    attribute->nla_len = (uint16_t)(NLA_HDRLEN + length);
    if (length > 0)
        memcpy((char *)attribute + NLA_HDRLEN, value, length);
}

void add_text(struct nft_batch *batch, uint16_t type, const char *text)
{
    add_attribute(batch, type, text, strlen(text) + 1);
}

void add_number(struct nft_batch *batch, uint16_t type, uint32_t number)
{
    uint32_t ordered = htonl(number);
    add_attribute(batch, type, &ordered, sizeof ordered);
}

size_t open_list(struct nft_batch *batch, uint16_t type)
{
    size_t start = batch->length;
    add_attribute(batch, type | NLA_F_NESTED, NULL, 0);
    return start;
}

void close_list(struct nft_batch *batch, size_t start)
{
    if (!batch->overflow)
        ((struct nlattr *)(batch->bytes + start))->nla_len = (uint16_t)(batch->length - start);
}

void begin_message(struct nft_batch *batch, uint16_t type, uint16_t flags)
{
    bool is_end = type == NFNL_MSG_BATCH_BEGIN || type == NFNL_MSG_BATCH_END;
    batch->message = batch->length;
    struct nlmsghdr *header = take_room(batch, NLMSG_HDRLEN);
    struct nfgenmsg *subject = take_room(batch, sizeof *subject);
    if (header == NULL || subject == NULL)
        return;
    header->nlmsg_type = is_end ? type : (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | type);
    header->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags | (is_end ? 0 : NLM_F_ACK));
    subject->nfgen_family = is_end ? AF_UNSPEC : NFPROTO_INET;
    subject->version = NFNETLINK_V0;
    subject->res_id = is_end ? htons(NFNL_SUBSYS_NFTABLES) : 0;
    batch->answers += !is_end;
}

void end_message(struct nft_batch *batch)
{
    if (!batch->overflow)
        ((struct nlmsghdr *)(batch->bytes + batch->message))->nlmsg_len = (uint32_t)(batch->length - batch->message);
}
