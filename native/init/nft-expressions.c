#include "nft-expressions.h"

#include <arpa/inet.h>
#include <linux/netfilter.h>

/* All expressions share it: 16 bytes, so an IPv6 address fits. */
#define REGISTER NFT_REG_1

struct expression {
    size_t element;
    size_t data;
};

static struct expression begin_expression(struct nft_batch *batch, const char *name)
{
    struct expression expression = {.element = open_list(batch, NFTA_LIST_ELEM)};
    add_text(batch, NFTA_EXPR_NAME, name);
    expression.data = open_list(batch, NFTA_EXPR_DATA);
    return expression;
}

static void end_expression(struct nft_batch *batch, struct expression expression)
{
    close_list(batch, expression.data);
    close_list(batch, expression.element);
}

static void add_value(struct nft_batch *batch, uint16_t type, const void *value, uint32_t length)
{
    size_t list = open_list(batch, type);
    add_attribute(batch, NFTA_DATA_VALUE, value, length);
    close_list(batch, list);
}

void load_meta(struct nft_batch *batch, uint32_t key)
{
    struct expression expression = begin_expression(batch, "meta");
    add_number(batch, NFTA_META_KEY, key);
    add_number(batch, NFTA_META_DREG, REGISTER);
    end_expression(batch, expression);
}

void load_payload(struct nft_batch *batch, uint32_t base, uint32_t offset, uint32_t length)
{
    struct expression expression = begin_expression(batch, "payload");
    add_number(batch, NFTA_PAYLOAD_DREG, REGISTER);
    add_number(batch, NFTA_PAYLOAD_BASE, base);
    add_number(batch, NFTA_PAYLOAD_OFFSET, offset);
    add_number(batch, NFTA_PAYLOAD_LEN, length);
    end_expression(batch, expression);
}

void load_connection_state(struct nft_batch *batch)
{
    struct expression expression = begin_expression(batch, "ct");
    add_number(batch, NFTA_CT_KEY, NFT_CT_STATE);
    add_number(batch, NFTA_CT_DREG, REGISTER);
    end_expression(batch, expression);
}

void mask_register(struct nft_batch *batch, const void *mask, uint32_t length)
{
    static const char zeros[16];
    struct expression expression = begin_expression(batch, "bitwise");
    add_number(batch, NFTA_BITWISE_SREG, REGISTER);
    add_number(batch, NFTA_BITWISE_DREG, REGISTER);
    add_number(batch, NFTA_BITWISE_LEN, length);
    add_value(batch, NFTA_BITWISE_MASK, mask, length);
    add_value(batch, NFTA_BITWISE_XOR, zeros, length);
    end_expression(batch, expression);
}

void compare_register(struct nft_batch *batch, uint32_t operation, const void *value, uint32_t length)
{
    struct expression expression = begin_expression(batch, "cmp");
    add_number(batch, NFTA_CMP_SREG, REGISTER);
    add_number(batch, NFTA_CMP_OP, operation);
    add_value(batch, NFTA_CMP_DATA, value, length);
    end_expression(batch, expression);
}

void accept_packet(struct nft_batch *batch)
{
    struct expression expression = begin_expression(batch, "immediate");
    add_number(batch, NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
    size_t data = open_list(batch, NFTA_IMMEDIATE_DATA);
    size_t verdict = open_list(batch, NFTA_DATA_VERDICT);
    add_number(batch, NFTA_VERDICT_CODE, NF_ACCEPT);
    close_list(batch, verdict);
    close_list(batch, data);
    end_expression(batch, expression);
}

void redirect_packet(struct nft_batch *batch, uint16_t port)
{
    uint16_t ordered = htons(port);
    struct expression load = begin_expression(batch, "immediate");
    add_number(batch, NFTA_IMMEDIATE_DREG, REGISTER);
    add_value(batch, NFTA_IMMEDIATE_DATA, &ordered, sizeof ordered);
    end_expression(batch, load);
    struct expression redirect = begin_expression(batch, "redir");
    add_number(batch, NFTA_REDIR_REG_PROTO_MIN, REGISTER);
    end_expression(batch, redirect);
}

void reject_packet(struct nft_batch *batch, uint32_t type, uint8_t code)
{
    struct expression expression = begin_expression(batch, "reject");
    add_number(batch, NFTA_REJECT_TYPE, type);
    add_attribute(batch, NFTA_REJECT_ICMP_CODE, &code, sizeof code);
    end_expression(batch, expression);
}
