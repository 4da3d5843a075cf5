/*
 * The rules through which everything goes that programs of this machine send (`nft list ruleset` would say):
 *
 *   table inet enclave {
 *     chain redirect {
 *       type nat hook output priority -100; policy accept;
 *       ip daddr 127.0.0.0/8 accept
 *       ip6 daddr ::1 accept
 *       meta l4proto udp th dport 53 redirect to :3
 *       meta l4proto tcp th dport 53 redirect to :3
 *       meta l4proto tcp redirect to :2
 *     }
 *     chain refuse {
 *       type filter hook output priority 0; policy drop;
 *       ct state established,related accept
 *       ip daddr 127.0.0.0/8 accept
 *       ip6 daddr ::1 accept
 *       meta l4proto tcp reject with tcp reset
 *       reject with icmpx port-unreachable
 *     }
 *   }
 *
 * A redirected packet has a loopback address by the time of the second chain. The answers of the gateway have the
 * client's address, which is not loopback (the kernel gives a client the address that it dials), and pass as
 * established; the kernel's own ICMP errors pass as related. What is left over is UDP, QUIC included, and whatever else
 * is no TCP: its sender is told at once.
 */
#include "redirect.h"

#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter_ipv4.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <stddef.h>

#include "../common/layout.h"
#include "nft-batch.h"
#include "nft-expressions.h"

#define DNS_PORT 53
/* Of UDP and TCP alike. */
#define DESTINATION_PORT_OFFSET 2

static const struct nft_chain REDIRECT = {"redirect", "nat", NF_IP_PRI_NAT_DST, NF_ACCEPT};
static const struct nft_chain REFUSE = {"refuse", "filter", NF_IP_PRI_FILTER, NF_DROP};

static void match_family(struct nft_batch *batch, uint8_t family)
{
    load_meta(batch, NFT_META_NFPROTO);
    compare_register(batch, NFT_CMP_EQ, &family, sizeof family);
}

static void match_protocol(struct nft_batch *batch, uint8_t protocol)
{
    load_meta(batch, NFT_META_L4PROTO);
    compare_register(batch, NFT_CMP_EQ, &protocol, sizeof protocol);
}

static void accept_loopback_v4(struct nft_batch *batch)
{
    const in_addr_t mask = htonl(IN_CLASSA_NET);
    const in_addr_t network = htonl((in_addr_t)IN_LOOPBACKNET << IN_CLASSA_NSHIFT);
    begin_rule(batch);
    match_family(batch, NFPROTO_IPV4);
    load_payload(batch, NFT_PAYLOAD_NETWORK_HEADER, offsetof(struct iphdr, daddr), sizeof network);
    mask_register(batch, &mask, sizeof mask);
    compare_register(batch, NFT_CMP_EQ, &network, sizeof network);
    accept_packet(batch);
    end_rule(batch);
}

static void accept_loopback_v6(struct nft_batch *batch)
{
    begin_rule(batch);
    match_family(batch, NFPROTO_IPV6);
    load_payload(batch, NFT_PAYLOAD_NETWORK_HEADER, offsetof(struct ip6_hdr, ip6_dst), sizeof in6addr_loopback);
    compare_register(batch, NFT_CMP_EQ, &in6addr_loopback, sizeof in6addr_loopback);
    accept_packet(batch);
    end_rule(batch);
}

static void redirect_names(struct nft_batch *batch, uint8_t protocol)
{
    const in_port_t port = htons(DNS_PORT);
    begin_rule(batch);
    match_protocol(batch, protocol);
    load_payload(batch, NFT_PAYLOAD_TRANSPORT_HEADER, DESTINATION_PORT_OFFSET, sizeof port);
    compare_register(batch, NFT_CMP_EQ, &port, sizeof port);
    redirect_packet(batch, PORT_REDIRECT_DNS);
    end_rule(batch);
}

static void redirect_tcp(struct nft_batch *batch)
{
    begin_rule(batch);
    match_protocol(batch, IPPROTO_TCP);
    redirect_packet(batch, PORT_REDIRECT_EGRESS);
    end_rule(batch);
}

static void accept_known_connections(struct nft_batch *batch)
{
    const uint32_t mask = NF_CT_STATE_BIT(IP_CT_ESTABLISHED) | NF_CT_STATE_BIT(IP_CT_RELATED);
    const uint32_t none = 0;
    begin_rule(batch);
    load_connection_state(batch);
    mask_register(batch, &mask, sizeof mask);
    compare_register(batch, NFT_CMP_NEQ, &none, sizeof none);
    accept_packet(batch);
    end_rule(batch);
}

static void refuse_rest(struct nft_batch *batch)
{
    begin_rule(batch);
    match_protocol(batch, IPPROTO_TCP);
    reject_packet(batch, NFT_REJECT_TCP_RST, 0);
    end_rule(batch);
    begin_rule(batch);
    reject_packet(batch, NFT_REJECT_ICMPX_UNREACH, NFT_REJECT_ICMPX_PORT_UNREACH);
    end_rule(batch);
}

int redirect_connections(void)
{
    struct nft_batch batch;
    begin_batch(&batch, "enclave");
    add_output_chain(&batch, &REDIRECT);
    accept_loopback_v4(&batch);
    accept_loopback_v6(&batch);
    redirect_names(&batch, IPPROTO_UDP);
    redirect_names(&batch, IPPROTO_TCP);
    redirect_tcp(&batch);
    add_output_chain(&batch, &REFUSE);
    accept_known_connections(&batch);
    accept_loopback_v4(&batch);
    accept_loopback_v6(&batch);
    refuse_rest(&batch);
    return send_batch(&batch);
}
