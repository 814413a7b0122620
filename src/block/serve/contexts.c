/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Metadata contexts in the handshake of the NBD server: base:allocation, and the bitmaps of the export. */
#include <string.h>

#include "base/byteorder.h"
#include "block/serve/proto.h"
#include "block/serve/session.h"

static const char *context_name(const struct nbd_export *e, unsigned i)
{
    return i ? e->bitmaps[i - 1].context : "base:allocation";
}

/* Which contexts does one question mean? In a list a namespace, "base:" or "qemu:" or "qemu:dirty-bitmap:",
 * asks for all in it. */
static uint32_t matches(const struct nbd_export *e, const char *query, size_t length, bool listing)
{
    uint32_t found = 0;
    for (unsigned i = 0; i <= e->n_bitmaps; i++) {
        const char *name = context_name(e, i);
        const bool whole = strlen(name) == length && !memcmp(name, query, length);
        const bool part = listing && length && length < strlen(name) && query[length - 1] == ':' &&
                          !memcmp(name, query, length);
        found |= (uint32_t)(whole || part) << i;
    }
    return found;
}

/* data: length of the export's name, the name, how many questions, each with its length. False: malformed. */
static bool parse(const struct nbd_session *s, const uint8_t *data, uint32_t size, bool listing, bool *known,
                  uint32_t *found)
{
    if (size < 8 || ld32be(data) > size - 8)
        return false;
    const uint32_t length = ld32be(data);
    const char *name = s->export->name;
    *known = length == strlen(name) && !memcmp(data + 4, name, length);
    uint32_t count = ld32be(data + 4 + length), at = 8 + length;
    *found = listing && !count ? UINT32_MAX : 0;
    for (; count; count--) {
        if (size - at < 4 || ld32be(data + at) > size - at - 4)
            return false;
        const uint32_t query = ld32be(data + at);
        *found |= matches(s->export, (const char *)data + at + 4, query, listing);
        at += 4 + query;
    }
    return at == size;
}

static bool tell(struct nbd_session *s, uint32_t option, unsigned i, bool listing)
{
    const char *name = context_name(s->export, i);
    g_autofree uint8_t *reply = g_malloc(4 + strlen(name));
    st32be(reply, listing ? 0 : i + 1);
    memcpy(reply + 4, name, strlen(name));
    return nbd_answer(s, option, NBD_REP_META_CONTEXT, reply, 4 + strlen(name));
}

bool nbd_handshake_contexts(struct nbd_session *s, uint32_t option, const uint8_t *data, uint32_t size)
{
    const bool listing = option == NBD_OPT_LIST_META_CONTEXT;
    bool known = false;
    uint32_t found = 0;
    if (!listing)
        s->contexts = 0;
    if (!s->structured)
        return nbd_refuse(s, option, NBD_REP_ERR_INVALID, "begin with structured replies");
    if (!parse(s, data, size, listing, &known, &found))
        return nbd_refuse(s, option, NBD_REP_ERR_INVALID, "malformed");
    if (!known)
        return nbd_refuse(s, option, NBD_REP_ERR_UNKNOWN, "there is no such export");
    for (unsigned i = 0; i <= s->export->n_bitmaps; i++)
        if (found & UINT32_C(1) << i && !tell(s, option, i, listing))
            return false;
    if (!listing)
        s->contexts = found;
    return nbd_answer(s, option, NBD_REP_ACK, NULL, 0);
}
