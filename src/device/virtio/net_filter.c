/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Which frames a network card takes. */
#include "device/virtio/net_filter.h"

#include <string.h>

#include "base/byteorder.h"

/* Classes and commands (sections 5.1.6.5.1 to 5.1.6.5.3). */
enum { CLASS_RX = 0, CLASS_MAC = 1, CLASS_VLAN = 2 };
enum { RX_PROMISC, RX_ALLMULTI, RX_ALLUNI, RX_NOMULTI, RX_NOUNI, RX_NOBCAST, RX_COUNT };
enum { MAC_TABLE_SET, MAC_ADDR_SET };
enum { VLAN_ADD, VLAN_DEL };

enum { ETHER_VLAN = 0x8100, VLAN_ID = 0xfff };

void net_filter_reset(struct net_filter *f, const uint8_t mac[NET_MAC_SIZE], bool promiscuous, bool vlans)
{
    *f = (struct net_filter){.promiscuous = promiscuous, .vlans_filtered = vlans};
    memcpy(f->mac, mac, NET_MAC_SIZE);
}

/* --- frames --- */

static bool is_broadcast(const uint8_t *mac)
{
    static const uint8_t all[NET_MAC_SIZE] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    return !memcmp(mac, all, NET_MAC_SIZE);
}

static bool listed(const struct net_filter_macs *macs, const uint8_t *mac)
{
    if (macs->overflow)
        return true;
    for (unsigned i = 0; i < macs->count; i++)
        if (!memcmp(macs->mac[i], mac, NET_MAC_SIZE))
            return true;
    return false;
}

static bool takes_vlan(const struct net_filter *f, const uint8_t *frame, size_t size)
{
    if (!f->vlans_filtered || size < NET_ETHERNET + 4 || ld16be(frame + NET_ETHERNET - 2) != ETHER_VLAN)
        return true;
    unsigned id = ld16be(frame + NET_ETHERNET) & VLAN_ID;
    return f->vlans[id / 8] >> (id % 8) & 1;
}

bool net_filter_takes(const struct net_filter *f, const uint8_t *frame, size_t size)
{
    if (!takes_vlan(f, frame, size))
        return false;
    if (f->promiscuous)
        return true;
    if (is_broadcast(frame))
        return !f->no_broadcast;
    if (frame[0] & 1)
        return !f->no_multicast && (f->all_multicast || listed(&f->multicast, frame));
    return !f->no_unicast &&
           (f->all_unicast || !memcmp(frame, f->mac, NET_MAC_SIZE) || listed(&f->unicast, frame));
}

/* --- commands --- */

static bool command_rx(struct net_filter *f, uint8_t command, const uint8_t *data, size_t size)
{
    bool *const what[RX_COUNT] = {
        [RX_PROMISC] = &f->promiscuous,  [RX_ALLMULTI] = &f->all_multicast, [RX_ALLUNI] = &f->all_unicast,
        [RX_NOMULTI] = &f->no_multicast, [RX_NOUNI] = &f->no_unicast,       [RX_NOBCAST] = &f->no_broadcast,
    };
    if (command >= RX_COUNT || size != 1)
        return false;
    *what[command] = data[0];
    return true;
}

/* One table at *data, which is moved behind it. False: it is cut short. */
static bool load_table(struct net_filter_macs *macs, const uint8_t **data, size_t *size)
{
    if (*size < 4)
        return false;
    uint32_t count = ld32le(*data);
    *data += 4;
    *size -= 4;
    if (count > *size / NET_MAC_SIZE)
        return false;
    macs->overflow = count > NET_FILTER_MACS;
    macs->count = macs->overflow ? 0 : count;
    memcpy(macs->mac, *data, macs->count * (size_t)NET_MAC_SIZE);
    *data += count * (size_t)NET_MAC_SIZE;
    *size -= count * (size_t)NET_MAC_SIZE;
    return true;
}

static bool command_mac(struct net_filter *f, uint8_t command, const uint8_t *data, size_t size)
{
    if (command == MAC_ADDR_SET && size == NET_MAC_SIZE) {
        memcpy(f->mac, data, NET_MAC_SIZE);
        return true;
    }
    struct net_filter_macs unicast = {0}, multicast = {0};
    if (command != MAC_TABLE_SET || !load_table(&unicast, &data, &size) ||
        !load_table(&multicast, &data, &size) || size)
        return false;
    f->unicast = unicast;
    f->multicast = multicast;
    return true;
}

static bool command_vlan(struct net_filter *f, uint8_t command, const uint8_t *data, size_t size)
{
    if (command > VLAN_DEL || size != 2 || ld16le(data) >= NET_FILTER_VLANS)
        return false;
    unsigned id = ld16le(data);
    uint8_t bit = (uint8_t)(1U << (id % 8));
    if (command == VLAN_ADD)
        f->vlans[id / 8] |= bit;
    else
        f->vlans[id / 8] &= (uint8_t)~bit;
    return true;
}

bool net_filter_command(struct net_filter *f, uint8_t class, uint8_t command, const uint8_t *data,
                        size_t size)
{
    switch (class) {
    case CLASS_RX: return command_rx(f, command, data, size);
    case CLASS_MAC: return command_mac(f, command, data, size);
    case CLASS_VLAN: return command_vlan(f, command, data, size);
    default: return false;
    }
}
