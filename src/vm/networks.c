/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* From options to a guest's network cards. */
#include <string.h>
#include <sys/random.h>

#include "base/error.h"
#include "net/net.h"
#include "os/fd.h"
#include "vm/functions.h"

/* One card's back end, and the options of its chip. */
struct vm_network {
    char *id;
    struct net *net;
    bool borrowed; /* the back end is netdev_add's */
    struct device_value values[3];
};

static void network_free(gpointer data)
{
    struct vm_network *n = data;
    if (!n->borrowed)
        net_free(n->net);
    g_free(n->id);
    g_free(n);
}

struct net *vm_network_net(const struct vm_network *n)
{
    return n->net;
}

const char *vm_network_id(const struct vm_network *n)
{
    return n->id;
}

static struct vm_network *find(const struct vm *vm, const char *id)
{
    for (guint i = 0; i < vm->nets->len; i++) {
        struct vm_network *n = vm->nets->pdata[i];
        if (!strcmp(n->id, id))
            return n;
    }
    return NULL;
}

struct net *vm_network_find(const struct vm *vm, const char *id)
{
    const struct vm_network *n = find(vm, id);
    return n ? n->net : NULL;
}

void vm_network_add(struct vm *vm, const char *id, struct net *net)
{
    struct vm_network *n = g_new0(struct vm_network, 1);
    *n = (struct vm_network){.id = g_strdup(id), .net = net, .borrowed = true};
    g_ptr_array_add(vm->nets, n);
}

void vm_network_remove(struct vm *vm, const char *id)
{
    g_ptr_array_remove(vm->nets, find(vm, id));
}

/* "02:00:5e:00:53:01"; an address of one card, so not of a group. */
bool vm_mac_parse(const char *text, uint64_t *mac, GError **error)
{
    *mac = 0;
    const char *c = text;
    for (unsigned i = 0; i < NET_MAC_SIZE; i++, c += 3) {
        int high = g_ascii_xdigit_value(c[0]), low = high < 0 ? -1 : g_ascii_xdigit_value(c[1]);
        if (low < 0 || c[2] != (i + 1 < NET_MAC_SIZE ? ':' : '\0'))
            return hostel_fail(error, HOSTEL_ERROR_USAGE,
                               "--net mac=%s: must be six pairs of digits, as in 02:00:5e:00:53:01", text);
        *mac = *mac << 8 | (unsigned)(high << 4 | low);
    }
    return (*mac && !(*mac >> 40 & 1)) ||
           hostel_fail(error, HOSTEL_ERROR_USAGE, "--net mac=%s: is the address of a group, or nobody's",
                       text);
}

/* Locally administered (the second bit of the first byte), so nobody's hardware has it; the same for each
 * start of a guest with a name, whose own files may remember the card by it. A guest without one has no such
 * files. */
uint64_t vm_mac_default(const char *name, unsigned index)
{
    uint8_t digest[32];
    gsize size = sizeof(digest);
    g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);
    g_autofree char *text = g_strdup_printf("%s%c%u", name ? name : "", name ? '=' : ' ', index);
    g_checksum_update(sum, (const guchar *)text, -1);
    uint64_t random = 0;
    if (!name && getrandom(&random, sizeof(random), 0) == sizeof(random))
        g_checksum_update(sum, (const guchar *)&random, sizeof(random));
    g_checksum_get_digest(sum, digest, &size);
    uint64_t mac = 0x02;
    for (unsigned i = 1; i < NET_MAC_SIZE; i++)
        mac = mac << 8 | digest[i];
    return mac;
}

bool vm_mtu_check(unsigned mtu, GError **error)
{
    return !mtu || (mtu >= NET_MTU_MIN && mtu <= NET_MTU_MAX) ||
           hostel_fail(error, HOSTEL_ERROR_USAGE, "--net mtu=%u: must be %d to %d", mtu, NET_MTU_MIN,
                       NET_MTU_MAX);
}

static bool add_network(struct vm *vm, struct net_options *o, unsigned index, struct vm_functions *f,
                        GError **error)
{
    uint64_t mac = 0, mtu = o->mtu;
    if (!vm_mtu_check(o->mtu, error) || (o->mac && !vm_mac_parse(o->mac, &mac, error)))
        return false;
    if (find(vm, o->id))
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "--net id=%s: there is a card of that name already",
                           o->id);
    if (o->link.fd < 0)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "--net %s: link=fd:N is missing", o->backend);
    struct net *net = net_new(net_backend_find(o->backend), fd_steal(&o->link.fd), NULL, error);
    if (!net)
        return false;
    if (!mtu && !strcmp(o->backend, "user"))
        mtu = NET_MTU_MAX;
    struct vm_network *n = g_new0(struct vm_network, 1);
    *n = (struct vm_network){
        .id = g_strdup(o->id),
        .net = net,
        .values = {{"mac", o->mac ? mac : vm_mac_default(vm->options->name, index)}, {"mtu", mtu}, {0}},
    };
    g_ptr_array_add(vm->nets, n);
    net_set_rate(net, NET_TO_GUEST, &(struct net_rate){.bits = o->rate_in});
    net_set_rate(net, NET_FROM_GUEST, &(struct net_rate){.bits = o->rate_out});
    const struct device_wires wires = {.net = net};
    if (!vm_functions_add(f, "virtio-net", n->values, &wires, error))
        return false;
    f->row[f->count - 1].port = o->port;
    f->row[f->count - 1].id = o->id;
    return true;
}

bool vm_functions_add_networks(struct vm *vm, struct guest_options *o, struct vm_functions *f, GError **error)
{
    struct net_options *items = o->nets.items;
    vm->nets = g_ptr_array_new_with_free_func(network_free);
    for (unsigned i = 0; i < o->nets.count; i++) {
        g_autofree char *id = g_strdup_printf("net%u", vm->nets->len);
        if (!strcmp(items[i].backend, "none"))
            continue;
        if (!items[i].id)
            items[i].id = option_list_keep(&o->nets, id);
        if (!add_network(vm, &items[i], i, f, error))
            return false;
    }
    return true;
}
