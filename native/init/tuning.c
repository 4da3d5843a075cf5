/*
 * Everything passes through lo, where no packet is lost or late. So an entry of the table of connections is worth
 * nothing once a connection has ended, and many short connections must not fill it.
 *
 * A connection that only one side has ended is another matter: it may wait for its answer as long as any other. When its
 * entry goes, its packets are no longer redirected and it dies, so those states live as long as an established one.
 */
#include "tuning.h"

#include <stddef.h>

#include "../common/control-file.h"

#define TRACKING "/proc/sys/net/netfilter/nf_conntrack_"
#define IPV4 "/proc/sys/net/ipv4/"

/* The kernel's own time for established connections: five days. */
#define ESTABLISHED_S "432000"

static const struct {
    const char *path;
    const char *value;
} SETTINGS[] = {
    /* Only a machine of its own may change it: it is one for all namespaces. */
    {TRACKING "max", "262144"},
    {TRACKING "tcp_timeout_time_wait", "1"},
    {TRACKING "tcp_timeout_close", "1"},
    {TRACKING "tcp_timeout_last_ack", "10"},
    {TRACKING "tcp_timeout_fin_wait", ESTABLISHED_S},
    {TRACKING "tcp_timeout_close_wait", ESTABLISHED_S},
    {TRACKING "udp_timeout", "5"},
    /* A packet that the tracking finds odd would else be neither redirected back nor delivered: a reset. */
    {TRACKING "tcp_be_liberal", "1"},
    {IPV4 "tcp_tw_reuse", "1"},
    /* Below the ports of the redirection, so that no client ever holds one of them. */
    {IPV4 "ip_local_port_range", "16384 60999"},
};

void tune_network(void)
{
    for (size_t i = 0; i < sizeof SETTINGS / sizeof SETTINGS[0]; i++)
        write_control_file(SETTINGS[i].path, SETTINGS[i].value);
}
