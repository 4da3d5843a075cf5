/*
 * The network of a machine that has none: loopback, local routes over it, redirection. Images have no `ip`, so this speaks
 * rtnetlink (man 7 rtnetlink): one request a datagram, each answered by an NLMSG_ERROR whose error is 0 for success.
 *
 *   RTM_NEWLINK   nlmsghdr | ifinfomsg { index of lo, IFF_UP }
 *   RTM_NEWADDR   nlmsghdr | ifaddrmsg { IPv4, /32, index of lo } | IFA_LOCAL address | IFA_ADDRESS address
 *   RTM_NEWROUTE  nlmsghdr | rtmsg { table local, type local, scope host } | RTA_DST address | RTA_OIF index of lo
 */
#include "network.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "../common/layout.h"
#include "../common/text.h"
#include "log.h"
#include "redirect.h"
#include "tuning.h"

struct request {
    struct nlmsghdr header;
    union {
        struct ifinfomsg link;
        struct rtmsg route;
        struct ifaddrmsg address;
    } body;
    char attributes[64];
};

static void add_attribute(struct request *request, unsigned short type, const void *value, size_t length)
{
    struct rtattr *attribute = (struct rtattr *)((char *)request + NLMSG_ALIGN(request->header.nlmsg_len));
    attribute->rta_type = type;
    attribute->rta_len = (unsigned short)RTA_LENGTH(length);
    memcpy(RTA_DATA(attribute), value, length);
    request->header.nlmsg_len = NLMSG_ALIGN(request->header.nlmsg_len) + RTA_ALIGN(attribute->rta_len);
}

/* Answers 0 or the errno, the kernel's own or that of the socket. */
static int ask_kernel(int netlink, struct request *request)
{
    struct {
        struct nlmsghdr header;
        struct nlmsgerr error;
        char rest[256];
    } answer;
    request->header.nlmsg_flags |= NLM_F_REQUEST | NLM_F_ACK;
    if (send(netlink, request, request->header.nlmsg_len, 0) == -1)
        return errno;
    ssize_t length = recv(netlink, &answer, sizeof answer, 0);
    if (length == -1)
        return errno;
    if ((size_t)length < sizeof answer.header + sizeof answer.error || answer.header.nlmsg_type != NLMSG_ERROR)
        return EPROTO;
    return -answer.error.error;
}

static int raise_link(int netlink, unsigned index)
{
    struct request request = {.header = {.nlmsg_type = RTM_NEWLINK, .nlmsg_len = NLMSG_LENGTH(sizeof(struct ifinfomsg))}};
    request.body.link.ifi_family = AF_UNSPEC;
    request.body.link.ifi_index = (int)index;
    request.body.link.ifi_flags = IFF_UP;
    request.body.link.ifi_change = IFF_UP;
    return ask_kernel(netlink, &request);
}

static int add_local_route(int netlink, unsigned index, int family, const char *range, unsigned char bits)
{
    unsigned char address[16];
    struct request request = {.header = {.nlmsg_type = RTM_NEWROUTE, .nlmsg_len = NLMSG_LENGTH(sizeof(struct rtmsg))}};
    if (inet_pton(family, range, address) != 1)
        return EINVAL;
    request.header.nlmsg_flags = NLM_F_CREATE | NLM_F_REPLACE;
    request.body.route.rtm_family = (unsigned char)family;
    request.body.route.rtm_dst_len = bits;
    request.body.route.rtm_table = RT_TABLE_LOCAL;
    request.body.route.rtm_protocol = RTPROT_BOOT;
    request.body.route.rtm_scope = RT_SCOPE_HOST;
    request.body.route.rtm_type = RTN_LOCAL;
    add_attribute(&request, RTA_DST, address, family == AF_INET ? 4 : 16);
    add_attribute(&request, RTA_OIF, &index, sizeof index);
    return ask_kernel(netlink, &request);
}

/*
 * An address beside loopback's own: C libraries that are asked for what the machine can use (AI_ADDRCONFIG) would find no
 * IPv4 at all, and fail for every name.
 */
static int add_own_address(int netlink, unsigned index)
{
    unsigned char address[4];
    struct request request = {.header = {.nlmsg_type = RTM_NEWADDR, .nlmsg_len = NLMSG_LENGTH(sizeof(struct ifaddrmsg))}};
    if (inet_pton(AF_INET, OWN_ADDRESS, address) != 1)
        return EINVAL;
    request.header.nlmsg_flags = NLM_F_CREATE | NLM_F_REPLACE;
    request.body.address.ifa_family = AF_INET;
    request.body.address.ifa_prefixlen = 32;
    request.body.address.ifa_index = index;
    add_attribute(&request, IFA_LOCAL, address, sizeof address);
    add_attribute(&request, IFA_ADDRESS, address, sizeof address);
    return ask_kernel(netlink, &request);
}

static void note_failure(const char *what, int number)
{
    if (number != 0)
        log_line("no %s: %s", what, errno_name(number));
}

static void add_local_ranges(int netlink, unsigned index)
{
    note_failure("local route " LOCAL_RANGE_V4,
                 add_local_route(netlink, index, AF_INET, LOCAL_RANGE_V4, LOCAL_RANGE_V4_BITS));
    note_failure("local route " LOCAL_RANGE_V6,
                 add_local_route(netlink, index, AF_INET6, LOCAL_RANGE_V6, LOCAL_RANGE_V6_BITS));
}

/* Without the redirection a service that listens on 0.0.0.0 would get what was meant for the whole world. */
static void redirect_everything(int netlink, unsigned index)
{
    int number = redirect_connections();
    note_failure("redirection of connections", number);
    if (number != 0)
        return;
    note_failure("local route to everything", add_local_route(netlink, index, AF_INET, "0.0.0.0", 0));
    note_failure("local route to everything of IPv6", add_local_route(netlink, index, AF_INET6, "::", 0));
}

void start_network(void)
{
    unsigned index = if_nametoindex("lo");
    int netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (index == 0 || netlink == -1) {
        note_failure("loopback", errno);
        return;
    }
    /* The kernel answers at once; the limit is for a kernel that does not. */
    const struct timeval limit = {.tv_sec = 2};
    setsockopt(netlink, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    note_failure("loopback", raise_link(netlink, index));
    note_failure("address of its own", add_own_address(netlink, index));
    add_local_ranges(netlink, index);
    redirect_everything(netlink, index);
    close(netlink);
    tune_network();
}
