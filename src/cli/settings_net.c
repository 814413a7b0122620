/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Keys of `hostel set` that limit how much passes through a guest's network cards. */
#include <string.h>

#include "base/error.h"
#include "cli/settings_live.h"

/* "10M": bits a second, with the powers of 1000 that networks are measured in. */
static bool parse_rate(const char *text, json_int_t *bits, GError **error)
{
    static const char units[] = "KMG";
    char *end = NULL;
    guint64 number = g_ascii_isdigit(*text) ? g_ascii_strtoull(text, &end, 10) : 0;
    const char *unit = number && *end ? strchr(units, g_ascii_toupper(*end)) : NULL;
    for (const char *u = units; unit && u <= unit; u++)
        number = number > G_MAXINT64 / 1000 ? 0 : number * 1000;
    *bits = (json_int_t)number;
    return (number && number <= G_MAXINT64 && (!*end || (unit && !end[1]))) ||
           hostel_fail(error, HOSTEL_ERROR_USAGE, "'%.40s' is no number of bits a second, such as 10M", text);
}

bool live_check_rate(const char *value, GError **error)
{
    json_int_t bits;
    return parse_rate(value, &bits, error);
}

/* All of the guest's cards alike. */
static bool set_rate(struct setting_live *live, const char *member, const char *value, GError **error)
{
    json_int_t bits = 0;
    if (value && !parse_rate(value, &bits, error))
        return false;
    if (!live->call)
        live->call = guest_call_open(live->name, GUEST_CALL_MS, error);
    json_t *cards = live->call ? guest_call(live->call, "x-query-net", NULL, error) : NULL, *card;
    bool good = cards;
    size_t i;
    json_array_foreach(cards, i, card)
    {
        const char *id = json_string_value(json_object_get(card, "id"));
        good = good && id &&
               guest_call_do(live->call, "x-net-set-rate", json_pack("{s:s,s:I}", "id", id, member, bits),
                             error);
    }
    json_decref(cards);
    return good;
}

bool live_set_net_in(struct setting_live *live, const char *value, GError **error)
{
    return set_rate(live, "rx-bits", value, error);
}

bool live_set_net_out(struct setting_live *live, const char *value, GError **error)
{
    return set_rate(live, "tx-bits", value, error);
}
