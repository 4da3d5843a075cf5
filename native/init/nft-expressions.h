/*
 * A rule is a list of expressions. Those here work on one register: `load_*` fills it, `mask_*` and `compare_*` look at
 * it (a rule ends silently where a comparison fails), and an action ends the rule.
 */
#ifndef ENCLAVE_INIT_NFT_EXPRESSIONS_H
#define ENCLAVE_INIT_NFT_EXPRESSIONS_H

#include <stdint.h>

#include <linux/netfilter/nf_tables.h>

#include "nft-message.h"

/* NFPROTO_IPV4 or NFPROTO_IPV6 (NFT_META_NFPROTO), IPPROTO_* (NFT_META_L4PROTO): a byte. */
void load_meta(struct nft_batch *batch, uint32_t key);
/* Bytes of the packet, at an offset from the start of its network or transport header (NFT_PAYLOAD_*_HEADER). */
void load_payload(struct nft_batch *batch, uint32_t base, uint32_t offset, uint32_t length);
/* NF_CT_STATE_BIT(...) of the packet's connection: four bytes in the order of this machine. */
void load_connection_state(struct nft_batch *batch);
void mask_register(struct nft_batch *batch, const void *mask, uint32_t length);
/* @param operation NFT_CMP_EQ or NFT_CMP_NEQ */
void compare_register(struct nft_batch *batch, uint32_t operation, const void *value, uint32_t length);

void accept_packet(struct nft_batch *batch);
/* To this port of 127.0.0.1, or ::1. */
void redirect_packet(struct nft_batch *batch, uint16_t port);
/* @param type NFT_REJECT_TCP_RST, or NFT_REJECT_ICMPX_UNREACH with an NFT_REJECT_ICMPX_* code */
void reject_packet(struct nft_batch *batch, uint32_t type, uint8_t code);

#endif
