/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The handshake of the NBD server: fixed newstyle, with its options. */
/*
 * With TLS nothing but STARTTLS and ABORT is answered before it is up, and what was agreed upon before, by
 * whoever sits in between, is forgotten.
 */
#include <string.h>

#include "base/byteorder.h"
#include "block/serve/proto.h"
#include "block/serve/session.h"
#include "block/serve/tls.h"

enum { OPTIONS_MAX = 256 /* of one handshake */ };

/* What follows an option. */
enum next { NEXT_OPTION, NEXT_REQUESTS, NEXT_END };

bool nbd_answer(struct nbd_session *s, uint32_t option, uint32_t type, const void *data, size_t size)
{
    uint8_t head[20];
    st64be(head, NBD_OPTION_REPLY_MAGIC);
    st32be(head + 8, option);
    st32be(head + 12, type);
    st32be(head + 16, (uint32_t)size);
    struct iovec iov[] = {{head, sizeof(head)}, {(void *)(uintptr_t)data, size}};
    return nbd_wire_write(&s->wire, iov, size ? 2 : 1);
}

bool nbd_refuse(struct nbd_session *s, uint32_t option, uint32_t type, const char *why)
{
    return nbd_answer(s, option, type, why, strlen(why));
}

static uint16_t export_flags(const struct nbd_session *s)
{
    const struct nbd_export *e = s->export;
    unsigned flags = NBD_HAS_FLAGS | NBD_SEND_FLUSH | NBD_SEND_CACHE | NBD_CAN_MULTI_CONN;
    if (s->structured)
        flags |= NBD_SEND_DF;
    if (e->readonly)
        return (uint16_t)(flags | NBD_READ_ONLY);
    flags |= NBD_SEND_FUA | NBD_SEND_TRIM | NBD_SEND_WRITE_ZEROES;
    return (uint16_t)(flags | (e->disk->driver->zero ? NBD_SEND_FAST_ZERO : 0U));
}

/* --- EXPORT_NAME: the old way, which cannot say no --- */

static enum next do_export_name(struct nbd_session *s, const uint8_t *data, uint32_t size)
{
    const size_t length = strlen(s->export->name);
    uint8_t reply[8 + 2 + 124] = {0};
    if (size != length || memcmp(data, s->export->name, length) != 0)
        return NEXT_END;
    if (s->export->disk->facts.alignment > BLOCK_SECTOR)
        return NEXT_END; /* it cannot be told, and would not guess that */
    st64be(reply, s->export->size);
    st16be(reply + 8, export_flags(s));
    struct iovec iov = {reply, s->no_zeroes ? 10 : sizeof(reply)};
    return nbd_wire_write(&s->wire, &iov, 1) ? NEXT_REQUESTS : NEXT_END;
}

/* --- INFO and GO --- */

static bool send_infos(struct nbd_session *s, uint32_t option, const uint8_t *wanted, unsigned count)
{
    const struct nbd_export *e = s->export;
    const struct block_facts *f = &e->disk->facts;
    const char *description = e->description ? e->description : "";
    uint8_t export[12], sizes[14], text[2 + NBD_STRING_MAX];
    st16be(export, NBD_INFO_EXPORT);
    st64be(export + 2, e->size);
    st16be(export + 10, export_flags(s));
    st16be(sizes, NBD_INFO_BLOCK_SIZE);
    st32be(sizes + 2, f->alignment);
    st32be(sizes + 6, MAX(f->preferred, MAX(f->alignment, 512U)));
    st32be(sizes + 10, NBD_PAYLOAD_MAX);
    if (!nbd_answer(s, option, NBD_REP_INFO, export, sizeof(export)) ||
        !nbd_answer(s, option, NBD_REP_INFO, sizes, sizeof(sizes)))
        return false;
    for (unsigned i = 0; i < count; i++) {
        const unsigned info = ld16be(wanted + 2 * i);
        s->knows_sizes |= info == NBD_INFO_BLOCK_SIZE;
        if (info != NBD_INFO_NAME && (info != NBD_INFO_DESCRIPTION || !*description))
            continue;
        const char *what = info == NBD_INFO_NAME ? e->name : description;
        st16be(text, (uint16_t)info);
        memcpy(text + 2, what, strlen(what));
        if (!nbd_answer(s, option, NBD_REP_INFO, text, 2 + strlen(what)))
            return false;
    }
    return true;
}

/* data: length of the name, the name, how many infos, the infos. */
static enum next do_info(struct nbd_session *s, uint32_t option, const uint8_t *data, uint32_t size)
{
    const uint32_t length = size >= 6 ? ld32be(data) : UINT32_MAX;
    const char *name = s->export->name;
    bool good = size >= 6 && length <= size - 6;
    const unsigned count = good ? ld16be(data + 4 + length) : 0;
    good = good && 2U * count == size - 6 - length;
    if (!good)
        return nbd_refuse(s, option, NBD_REP_ERR_INVALID, "malformed") ? NEXT_OPTION : NEXT_END;
    if (length != strlen(name) || memcmp(data + 4, name, length) != 0)
        return nbd_refuse(s, option, NBD_REP_ERR_UNKNOWN, "there is no such export") ? NEXT_OPTION : NEXT_END;
    if (!send_infos(s, option, data + 6 + length, count))
        return NEXT_END;
    if (s->export->disk->facts.alignment > BLOCK_SECTOR && !s->knows_sizes)
        return nbd_refuse(s, option, NBD_REP_ERR_BLOCK_SIZE_REQD, "ask for its block size") ? NEXT_OPTION
                                                                                            : NEXT_END;
    if (!nbd_answer(s, option, NBD_REP_ACK, NULL, 0))
        return NEXT_END;
    return option == NBD_OPT_GO ? NEXT_REQUESTS : NEXT_OPTION;
}

/* --- the others --- */

static enum next do_list(struct nbd_session *s, uint32_t option, uint32_t size)
{
    const char *name = s->export->name, *description = s->export->description ? s->export->description : "";
    uint8_t reply[4 + 2 * NBD_STRING_MAX];
    const size_t length = strlen(name);
    if (size)
        return nbd_refuse(s, option, NBD_REP_ERR_INVALID, "malformed") ? NEXT_OPTION : NEXT_END;
    st32be(reply, (uint32_t)length);
    memcpy(reply + 4, name, length);
    memcpy(reply + 4 + length, description, strlen(description));
    return nbd_answer(s, option, NBD_REP_SERVER, reply, 4 + length + strlen(description)) &&
                   nbd_answer(s, option, NBD_REP_ACK, NULL, 0)
               ? NEXT_OPTION
               : NEXT_END;
}

static enum next do_starttls(struct nbd_session *s, uint32_t option, uint32_t size)
{
    const char *why = size          ? "malformed"
                      : !s->tls     ? "there is no TLS here"
                      : s->wire.tls ? "TLS is up"
                                    : NULL;
    if (why)
        return nbd_refuse(s, option, s->tls ? NBD_REP_ERR_INVALID : NBD_REP_ERR_POLICY, why) ? NEXT_OPTION
                                                                                             : NEXT_END;
    /* What was sent behind the request, before TLS, is not the client's. */
    if (s->wire.begin != s->wire.end || !nbd_answer(s, option, NBD_REP_ACK, NULL, 0) ||
        !nbd_tls_accept(s->tls, &s->wire))
        return NEXT_END;
    s->structured = s->knows_sizes = false;
    s->contexts = 0;
    return NEXT_OPTION;
}

static enum next do_structured(struct nbd_session *s, uint32_t option, uint32_t size)
{
    if (size)
        return nbd_refuse(s, option, NBD_REP_ERR_INVALID, "malformed") ? NEXT_OPTION : NEXT_END;
    s->structured = true;
    return nbd_answer(s, option, NBD_REP_ACK, NULL, 0) ? NEXT_OPTION : NEXT_END;
}

static enum next do_option(struct nbd_session *s, uint32_t option, const uint8_t *data, uint32_t size)
{
    if (option == NBD_OPT_ABORT) {
        nbd_answer(s, option, NBD_REP_ACK, NULL, 0);
        return NEXT_END;
    }
    if (option == NBD_OPT_STARTTLS)
        return do_starttls(s, option, size);
    if (s->tls && !s->wire.tls) {
        if (option == NBD_OPT_EXPORT_NAME)
            return NEXT_END;
        return nbd_refuse(s, option, NBD_REP_ERR_TLS_REQD, "begin with TLS") ? NEXT_OPTION : NEXT_END;
    }
    switch (option) {
    case NBD_OPT_EXPORT_NAME: return do_export_name(s, data, size);
    case NBD_OPT_LIST: return do_list(s, option, size);
    case NBD_OPT_INFO:
    case NBD_OPT_GO: return do_info(s, option, data, size);
    case NBD_OPT_STRUCTURED_REPLY: return do_structured(s, option, size);
    case NBD_OPT_LIST_META_CONTEXT:
    case NBD_OPT_SET_META_CONTEXT:
        return nbd_handshake_contexts(s, option, data, size) ? NEXT_OPTION : NEXT_END;
    default: return nbd_refuse(s, option, NBD_REP_ERR_UNSUP, "unknown option") ? NEXT_OPTION : NEXT_END;
    }
}

static enum next read_option(struct nbd_session *s, uint8_t *data)
{
    uint8_t head[16];
    if (!nbd_wire_read(&s->wire, head, sizeof(head)) || ld64be(head) != NBD_OPTION_MAGIC)
        return NEXT_END;
    const uint32_t option = ld32be(head + 8), size = ld32be(head + 12);
    if (size > NBD_OPTION_MAX) /* one could skip it, but nobody honest sends such */
        return NEXT_END;
    return nbd_wire_read(&s->wire, data, size) ? do_option(s, option, data, size) : NEXT_END;
}

bool nbd_handshake(struct nbd_session *s)
{
    uint8_t greeting[18], answer[4];
    st64be(greeting, NBD_MAGIC);
    st64be(greeting + 8, NBD_OPTION_MAGIC);
    st16be(greeting + 16, NBD_FIXED_NEWSTYLE | NBD_NO_ZEROES);
    struct iovec iov = {greeting, sizeof(greeting)};
    if (!nbd_wire_write(&s->wire, &iov, 1) || !nbd_wire_read(&s->wire, answer, sizeof(answer)))
        return false;
    const uint32_t flags = ld32be(answer);
    if (!(flags & NBD_FIXED_NEWSTYLE) || flags & ~(uint32_t)(NBD_FIXED_NEWSTYLE | NBD_NO_ZEROES))
        return false;
    s->no_zeroes = flags & NBD_NO_ZEROES;
    g_autofree uint8_t *data = g_malloc(NBD_OPTION_MAX);
    enum next next = NEXT_OPTION;
    for (unsigned i = 0; i < OPTIONS_MAX && next == NEXT_OPTION; i++)
        next = read_option(s, data);
    return next == NEXT_REQUESTS;
}
