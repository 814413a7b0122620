/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The host's name servers, from resolv.conf(5). */
#include "net/netd/resolver.h"

#include <string.h>

#define RESOLV_CONF "/etc/resolv.conf"

void netd_resolver_parse(const char *text, struct netd_address servers[2])
{
    servers[0] = servers[1] = (struct netd_address){0};
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    for (unsigned i = 0; lines[i]; i++) {
        g_auto(GStrv) words = g_strsplit_set(g_strstrip(lines[i]), " \t", -1);
        struct netd_address address;
        unsigned n = 1;
        if (g_strcmp0(words[0], "nameserver") != 0)
            continue;
        while (words[n] && !*words[n])
            n++;
        if (!words[n] || !netd_address_parse(words[n], &address))
            continue;
        struct netd_address *slot = &servers[address.family == AF_INET6];
        if (!slot->family)
            *slot = address;
    }
}

void netd_resolver_read(struct netd_address servers[2])
{
    g_autofree char *text = NULL;
    if (!g_file_get_contents(RESOLV_CONF, &text, NULL, NULL))
        text = g_strdup("nameserver 127.0.0.1"); /* resolv.conf(5): the default */
    netd_resolver_parse(text, servers);
}
