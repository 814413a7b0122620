/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Any messages of a guest to hostel-netd: what passes the filter goes to nobody who must not be reached, and
 * libslirp lives through it. The guest is isolated, so nothing leaves the process. */

#include <glib.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/byteorder.h"
#include "net/netd/offload.h"
#include "net/netd/stack.h"
#include "os/fd.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The same rules as the filter's for IPv4, written down plainly: may a packet that begins something go there?
 */
static void check_passed(const uint8_t *frame, size_t size)
{
    if (size < 34 || ld16be(frame + 12) != 0x0800)
        return;
    const uint8_t *ip = frame + 14, *to = ip + 16;
    bool fragment = ld16be(ip + 6) & 0x3fff, dhcp = false;
    if (!fragment && ip[9] == IPPROTO_TCP && (ip[20 + 13] & 0x12) != 2)
        return;
    if (!fragment && ip[9] == IPPROTO_UDP)
        dhcp = ld16be(ip + 22) == 67;
    if (!fragment && ip[9] == IPPROTO_ICMP && to[0] == 10 && to[3] <= 3)
        return;
    g_assert_true(dhcp || (to[0] != 0 && to[0] != 127 && to[0] < 224));
    g_assert_false(to[0] == 169 && to[1] == 254);
    g_assert_true(dhcp || !(to[0] == 10 && to[1] == 0 && to[2] == 2));
    g_assert_false(to[0] == 192 && to[1] == 0 && to[2] == 2 && to[3] == 9); /* the host's own */
}

static void judge(struct netd_filter *f, uint8_t *message, size_t size)
{
    struct net_header header;
    struct netd_packet p;
    uint8_t reply[NETD_REFUSAL_MAX], *frame = message + sizeof(header);
    if (size < sizeof(header) + NET_ETHERNET)
        return;
    memcpy(&header, message, sizeof(header));
    size -= sizeof(header);
    if (!netd_offload(&header, frame, size))
        return;
    switch (netd_filter_from_guest(f, frame, size, 0, &p)) {
    case NETD_PASS: check_passed(frame, size); break;
    case NETD_REFUSE: g_assert_cmpuint(netd_refusal(&p, reply), <=, sizeof(reply)); break;
    case NETD_DROP: break;
    }
    netd_filter_to_guest(f, frame, size);
}

/* Each message: its size in two bytes, then so many. */
static void feed(struct netd_filter *f, struct netd_stack *stack, const uint8_t *data, size_t size)
{
    while (size >= 2) {
        size_t length = MIN((size_t)ld16le(data), size - 2);
        g_autofree uint8_t *copy = g_malloc(length + 1);
        data += 2;
        size -= 2;
        memcpy(copy, data, length);
        judge(f, copy, length);
        memcpy(copy, data, length);
        netd_stack_input(stack, copy, length);
        data += length;
        size -= length;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int link[2];
    struct netd_config config = {.link = -1, .mtu = NET_MTU_MAX, .isolated = true};
    struct netd_address own = netd_ipv4(0xc0000209);
    struct netd_hosts hosts = {.watch = -1, .own = g_array_new(FALSE, FALSE, sizeof(own))};
    g_autofree struct netd_filter *f = g_new0(struct netd_filter, 1);
    g_array_append_val(hosts.own, own);
    f->hosts = &hosts;
    f->resolver[0] = config.dns = netd_ipv4(0xc0000235);
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, link), ==, 0);
    struct netd_outbox *out = netd_outbox_new(link[0]);
    {
        AUTO(netd_stack) stack = netd_stack_new(&config, &hosts, out, NULL);
        g_autoptr(GArray) fds = g_array_new(FALSE, FALSE, sizeof(struct pollfd));
        feed(f, stack, data, size);
        netd_stack_wait(stack, fds, false);
        g_assert_cmpuint(fds->len, ==, 0); /* it opened nothing */
        netd_stack_serve(stack, fds);
    }
    netd_outbox_free(out);
    netd_hosts_fini(&hosts);
    fd_close(&link[0]);
    fd_close(&link[1]);
    return 0;
}
