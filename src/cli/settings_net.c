/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Keys of `hostel set` that limit how much passes through a guest's network cards. */
#include <string.h>

#include "base/error.h"
#include "base/option.h"
#include "cli/devices.h"
#include "cli/settings_live.h"

static bool parse_rate(const char *text, uint64_t *bits, GError **error)
{
    return (option_parse_rate(text, bits) && *bits) ||
           hostel_fail(error, HOSTEL_ERROR_USAGE, "'%.40s' is no number of bits a second, such as 10M", text);
}

bool live_check_rate(const char *value, GError **error)
{
    uint64_t bits;
    return parse_rate(value, &bits, error);
}

/* The card's own, by the definition. */
static uint64_t own_rate(const GPtrArray *devices, const char *id, bool in)
{
    const struct device_row *row = devices_find(devices, id);
    return !row ? 0 : in ? row->rate_in : row->rate_out;
}

/* All of the guest's cards alike; without a value, each what its --net says. */
static bool set_rate(struct setting_live *live, bool in, const char *value, GError **error)
{
    uint64_t bits = 0;
    if (value && !parse_rate(value, &bits, error))
        return false;
    if (!live->call)
        live->call = guest_call_open(live->name, GUEST_CALL_MS, error);
    AUTO(named) guest = live->call ? named_look(live->name, error) : NULL;
    if (!guest)
        return false;
    g_autoptr(GPtrArray) devices = devices_of(guest);
    json_t *cards = guest_call(live->call, "x-query-net", NULL, error), *card;
    bool good = cards;
    size_t i;
    json_array_foreach(cards, i, card)
    {
        const char *id = json_string_value(json_object_get(card, "id"));
        const uint64_t rate = value || !id ? bits : own_rate(devices, id, in);
        good = good && id &&
               guest_call_do(live->call, "x-net-set-rate",
                             json_pack("{s:s,s:I}", "id", id, in ? "rx-bits" : "tx-bits", (json_int_t)rate),
                             error);
    }
    json_decref(cards);
    return good;
}

bool live_set_net_in(struct setting_live *live, const char *value, GError **error)
{
    return set_rate(live, true, value, error);
}

bool live_set_net_out(struct setting_live *live, const char *value, GError **error)
{
    return set_rate(live, false, value, error);
}
