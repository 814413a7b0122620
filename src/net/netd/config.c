/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The arguments of hostel-netd, which are the keys of `--net user` but for the link. */
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "net/netd/netd.h"
#include "os/fd.h"

/* A decimal number of at most max behind *text, which is moved to its end; -1 when there is none. */
static long parse_number(const char **text, long max)
{
    long value = 0;
    const char *p = *text;
    if (!g_ascii_isdigit(*p))
        return -1;
    for (; g_ascii_isdigit(*p); p++) {
        value = value * 10 + (*p - '0');
        if (value > max)
            return -1;
    }
    *text = p;
    return value;
}

bool netd_address_parse(const char *text, struct netd_address *address)
{
    *address = (struct netd_address){.family = AF_INET};
    if (inet_pton(AF_INET, text, &address->v4) == 1)
        return true;
    *address = (struct netd_address){.family = AF_INET6};
    if (inet_pton(AF_INET6, text, &address->v6) == 1)
        return true;
    *address = (struct netd_address){0};
    return false;
}

/* "ADDRESS:PORT", "[ADDRESS]:PORT" or ":PORT" up to the end of text; family 0 when no address was written. */
static bool parse_end(const char *text, struct netd_address *address, uint16_t *port)
{
    *address = (struct netd_address){0};
    bool bracket = *text == '[';
    const char *colon = bracket ? strchr(text, ']') : strchr(text, ':');
    if (!colon)
        return false;
    g_autofree char *name = g_strndup(text + bracket, (size_t)(colon - text) - bracket);
    colon += bracket;
    if (*colon != ':')
        return false;
    if (*name && (!netd_address_parse(name, address) || (address->family == AF_INET6) != bracket))
        return false;
    if (!*name && bracket)
        return false;
    const char *number = colon + 1;
    long value = parse_number(&number, 65535);
    *port = (uint16_t)value;
    return value > 0 && !*number;
}

static bool forward_fail(const char *text, const char *why, GError **error)
{
    return hostel_fail(error, HOSTEL_ERROR_USAGE,
                       "forward=%s: %s; write tcp|udp:HOSTADDR:PORT-:PORT, as in tcp:127.0.0.1:2222-:22",
                       text, why);
}

/* Fills in what was left out; the families must agree. */
static bool complete(struct netd_forward *f, GError **error)
{
    if (!f->host.family)
        f->host = (struct netd_address){.family = AF_INET, .v4.s_addr = htonl(INADDR_LOOPBACK)};
    if (!f->guest.family) {
        f->guest = (struct netd_address){.family = f->host.family}; /* IPv6: "::" */
        if (f->host.family == AF_INET)
            f->guest.v4.s_addr = htonl(NETD_GUEST);
    }
    if (f->guest.family != f->host.family)
        return forward_fail(f->text, "the addresses of host and guest must both be IPv4 or both IPv6", error);
    if (f->guest.family == AF_INET && (ntohl(f->guest.v4.s_addr) & NETD_NETMASK) != NETD_NETWORK)
        return forward_fail(f->text, "the guest's address must be in 10.0.2.0/24", error);
    return true;
}

bool netd_forward_parse(const char *text, struct netd_forward *forward, GError **error)
{
    *forward = (struct netd_forward){.text = text};
    if (g_str_has_prefix(text, "udp:"))
        forward->udp = true;
    else if (!g_str_has_prefix(text, "tcp:"))
        return forward_fail(text, "the protocol is neither tcp nor udp", error);
    const char *host = text + strlen("tcp:"), *dash = strchr(host, '-');
    if (!dash)
        return forward_fail(text, "there is no '-' between host and guest", error);
    g_autofree char *host_end = g_strndup(host, (size_t)(dash - host));
    if (!parse_end(host_end, &forward->host, &forward->host_port))
        return forward_fail(text, "the host's address or port is wrong", error);
    if (!parse_end(dash + 1, &forward->guest, &forward->guest_port))
        return forward_fail(text, "the guest's address or port is wrong", error);
    return complete(forward, error);
}

static bool parse_link(const char *value, struct netd_config *config, GError **error)
{
    const char *p = value;
    long fd = parse_number(&p, INT_MAX);
    config->link = (int)fd;
    return (fd > 2 && !*p && fd_is_open((int)fd)) ||
           hostel_fail(error, HOSTEL_ERROR_USAGE, "link=%s: is not an open descriptor from 3 on", value);
}

static bool parse_mtu(const char *value, struct netd_config *config, GError **error)
{
    const char *p = value;
    long mtu = parse_number(&p, NET_MTU_MAX);
    config->mtu = (uint16_t)mtu;
    return (mtu >= NET_MTU_MIN && !*p) ||
           hostel_fail(error, HOSTEL_ERROR_USAGE, "mtu=%s: must be a number from %d to %d", value,
                       NET_MTU_MIN, NET_MTU_MAX);
}

static bool parse_isolated(const char *value, struct netd_config *config, GError **error)
{
    config->isolated = !strcmp(value, "on");
    return config->isolated || !strcmp(value, "off") ||
           hostel_fail(error, HOSTEL_ERROR_USAGE, "isolated=%s: must be on or off", value);
}

static bool parse_dns(const char *value, struct netd_config *config, GError **error)
{
    return netd_address_parse(value, &config->dns) ||
           hostel_fail(error, HOSTEL_ERROR_USAGE,
                       "dns=%s: must be the address of a name server, as in 192.0.2.1", value);
}

static bool parse_forward(const char *value, struct netd_config *config, GError **error)
{
    if (config->forward_count == NETD_FORWARDS_MAX)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "forward=%s: there can be %d forwards at most", value,
                           NETD_FORWARDS_MAX);
    return netd_forward_parse(value, &config->forwards[config->forward_count++], error);
}

bool netd_config_parse(char *const *words, struct netd_config *config, GError **error)
{
    static const struct {
        const char *key;
        bool (*parse)(const char *value, struct netd_config *config, GError **error);
    } keys[] = {
        {"link=", parse_link}, {"mtu=", parse_mtu},         {"isolated=", parse_isolated},
        {"dns=", parse_dns},   {"forward=", parse_forward},
    };
    *config = (struct netd_config){.link = -1, .mtu = NET_MTU_MAX};
    for (; *words; words++) {
        unsigned i = 0;
        while (i < G_N_ELEMENTS(keys) && !g_str_has_prefix(*words, keys[i].key))
            i++;
        if (i == G_N_ELEMENTS(keys))
            return hostel_fail(error, HOSTEL_ERROR_USAGE,
                               "%s: unknown; there are forward=, isolated=, dns= and mtu=", *words);
        if (!keys[i].parse(*words + strlen(keys[i].key), config, error))
            return false;
    }
    return true;
}
