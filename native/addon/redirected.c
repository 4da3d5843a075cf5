/*
 * Where a connection went before the kernel redirected it: the tracking of connections remembers, and tells by a socket
 * option of the accepted socket. A socket for both families holds IPv4 connections as ::ffff:a.b.c.d; the kernel tracks
 * those as IPv4.
 */
#include "redirected.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <linux/netfilter_ipv4.h>

#include "values.h"

/* Of <linux/netfilter_ipv6/ip6_tables.h>, which does not go together with <netinet/in.h>. */
#define IP6T_SO_ORIGINAL_DST 80

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    struct sockaddr_storage room;
};

/* AF_INET or AF_INET6 as the packets have it; false with errno. */
static bool find_family(int fd, sa_family_t *family)
{
    union address local = {0};
    socklen_t length = sizeof local;
    if (getsockname(fd, &local.any, &length) == -1)
        return false;
    bool is_v6 = local.any.sa_family == AF_INET6;
    *family = is_v6 && IN6_IS_ADDR_V4MAPPED(&local.v6.sin6_addr) ? AF_INET : local.any.sa_family;
    errno = EAFNOSUPPORT;
    return is_v6 || *family == AF_INET;
}

static bool ask_destination(int fd, sa_family_t family, union address *destination)
{
    socklen_t length = sizeof *destination;
    if (family == AF_INET6)
        return getsockopt(fd, IPPROTO_IPV6, IP6T_SO_ORIGINAL_DST, destination, &length) == 0;
    return getsockopt(fd, IPPROTO_IP, SO_ORIGINAL_DST, destination, &length) == 0;
}

static napi_value give_address(napi_env env, sa_family_t family, const union address *destination)
{
    char text[INET6_ADDRSTRLEN];
    napi_value result = NULL;
    napi_value address = NULL;
    bool is_v6 = family == AF_INET6;
    const void *bytes = is_v6 ? (const void *)&destination->v6.sin6_addr : &destination->v4.sin_addr;
    inet_ntop(family, bytes, text, sizeof text);
    napi_create_object(env, &result);
    napi_create_string_utf8(env, text, NAPI_AUTO_LENGTH, &address);
    napi_set_named_property(env, result, "address", address);
    /* Both kinds have the port at the same place. */
    napi_set_named_property(env, result, "port", give_number(env, ntohs(destination->v4.sin_port)));
    return result;
}

/* ENOENT: the tracking does not know the connection. ENOPROTOOPT: this kernel tracks none. */
napi_value original_destination(napi_env env, napi_callback_info info)
{
    napi_value values[MAX_ARGUMENTS];
    union address destination = {0};
    sa_family_t family;
    int fd;
    if (!take_arguments(env, info, 1, values) || !take_descriptor(env, values[0], &fd))
        return NULL;
    if (!find_family(fd, &family))
        return throw_errno(env, "getsockname", errno);
    if (ask_destination(fd, family, &destination))
        return give_address(env, family, &destination);
    return errno == ENOENT || errno == ENOPROTOOPT ? give_undefined(env) : throw_errno(env, "getsockopt", errno);
}
