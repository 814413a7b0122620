/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Commands about a guest's network cards: what has passed, and how much may. rx is towards the guest. */
#include "net/net.h"
#include "vm/functions.h"

static struct net *find_card(struct vm *vm, const char *id, GError **error)
{
    struct net *net = vm_network_find(vm, id);
    if (!net)
        qmp_fail(error, QMP_ERROR_DEVICE_NOT_FOUND,
                 "there is no network card '%.40s'; x-query-net lists them", id);
    return net;
}

/* What is not given stays as it is; a rate that is given without a burst has the usual one. */
static void change(struct net *net, enum net_direction direction, json_t *args, const char *bits,
                   const char *burst)
{
    struct net_rate rate;
    const json_t *new_bits = json_object_get(args, bits), *new_burst = json_object_get(args, burst);
    if (!new_bits && !new_burst)
        return;
    net_get_rate(net, direction, &rate);
    if (new_bits)
        rate = (struct net_rate){.bits = (uint64_t)json_integer_value(new_bits)};
    if (new_burst)
        rate.burst = (uint64_t)json_integer_value(new_burst);
    net_set_rate(net, direction, &rate);
}

static json_t *set_rate(void *opaque, json_t *args, GError **error)
{
    struct net *net = find_card(opaque, json_string_value(json_object_get(args, "id")), error);
    if (!net)
        return NULL;
    change(net, NET_TO_GUEST, args, "rx-bits", "rx-burst");
    change(net, NET_FROM_GUEST, args, "tx-bits", "tx-burst");
    return qmp_done();
}

static void put(json_t *out, const char *name, uint64_t number)
{
    json_object_set_new(out, name, json_integer((json_int_t)MIN(number, INT64_MAX)));
}

static json_t *card_json(const struct vm_network *n)
{
    const struct net *net = vm_network_net(n);
    struct net_rate rx, tx;
    struct net_count in, out;
    json_t *card = json_pack("{s:s,s:b}", "id", vm_network_id(n), "link", net_up(net));
    net_get_rate(net, NET_TO_GUEST, &rx);
    net_get_rate(net, NET_FROM_GUEST, &tx);
    net_get_count(net, NET_TO_GUEST, &in);
    net_get_count(net, NET_FROM_GUEST, &out);
    put(card, "rx-bytes", in.bytes);
    put(card, "rx-frames", in.frames);
    put(card, "tx-bytes", out.bytes);
    put(card, "tx-frames", out.frames);
    put(card, "rx-bits", rx.bits);
    put(card, "rx-burst", rx.burst);
    put(card, "tx-bits", tx.bits);
    put(card, "tx-burst", tx.burst);
    return card;
}

static json_t *query_net(void *opaque, json_t *args G_GNUC_UNUSED, GError **error G_GNUC_UNUSED)
{
    struct vm *vm = opaque;
    json_t *out = json_array();
    for (guint i = 0; i < vm->nets->len; i++)
        json_array_append_new(out, card_json(vm->nets->pdata[i]));
    return out;
}

const struct qmp_command vm_net_commands[] = {
    {"x-net-set-rate", "id: str, ?rx-bits: uint64, ?rx-burst: uint64, ?tx-bits: uint64, ?tx-burst: uint64",
     NULL, 0, set_rate},
    {"x-query-net", NULL, "[XNet]", QMP_OOB, query_net},
    {0},
};
