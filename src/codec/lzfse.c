/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A decoder for LZFSE and LZVN; see lzfse.h. */
/*
 * Theory of operation
 *
 * There is no specification; the format is known from Apple's published program. A stream is a row of blocks,
 * each with a magic of four bytes; numbers are little-endian:
 *
 *     bvx-   size, then so many bytes as they are
 *     bvxn   sizes unpacked and packed, then LZVN: a byte-wise code of literals and matches
 *     bvx2   LZFSE, below
 *     bvx$   the end
 *
 * (bvx1, bvx2 with its tables as they are, is known to programs and written by none.)
 *
 * A block of LZFSE is a row of triples: L literals to copy, a match of M bytes at distance D, 0 standing for
 * the distance before. Literals and triples are two streams of bits, each read from its end to its beginning,
 * coded with finite state entropy: a state says which symbol it stands for and how many bits to read to get
 * to the next one. Four states take turns for literals; L, M and D have one each, and their symbols stand for
 * ranges, with more bits that say which value of the range it is. The header has the frequency of each
 * symbol, out of which come the tables of states.
 *
 * Nothing read is believed: a stream of bits knows how many are left, states cannot leave their tables by how
 * these are built, literals and matches stay inside of what is there.
 */
#include "codec/lzfse.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "base/bits.h"
#include "base/byteorder.h"

#define MAGIC(c) (UINT32_C(0x00787662) | (uint32_t)(c) << 24)

enum {
    MATCHES_MAX = 10000,
    LITERALS_MAX = 4 * MATCHES_MAX,
    L_SYMBOLS = 20,
    M_SYMBOLS = 20,
    D_SYMBOLS = 64,
    BYTES = 256,
    SYMBOLS = L_SYMBOLS + M_SYMBOLS + D_SYMBOLS + BYTES,
    L_STATES = 64,
    M_STATES = 64,
    D_STATES = 256,
    BYTE_STATES = 1024,
    V2_FIXED = 32, /* bytes of a header in front of the frequencies */
};

/* What a state stands for. */
struct state {
    uint8_t bits;  /* to read, of which the low */
    uint8_t extra; /* belong to the value and the others to the next state */
    int16_t next;  /* the next state, without what is read */
    uint32_t base; /* of the value */
};

struct work {
    struct state l[L_STATES], m[M_STATES], d[D_STATES], bytes[BYTE_STATES];
    uint16_t frequency[SYMBOLS];
    uint8_t literals[LITERALS_MAX];
};

/* Where a stream is; out grows up to room. */
struct unpack {
    struct work *work;
    const uint8_t *in;
    size_t left; /* bytes of it */
    uint8_t *out;
    size_t done, room;
};

size_t lzfse_work_size(void)
{
    return sizeof(struct work);
}

/* --- output --- */

static int put_literals(struct unpack *u, const uint8_t *bytes, size_t n)
{
    if (n > u->room - u->done)
        return -ENOSPC;
    memcpy(u->out + u->done, bytes, n);
    u->done += n;
    return 0;
}

/* What it copies may be what it has just written. */
static int put_match(struct unpack *u, size_t n, size_t distance)
{
    if (!n)
        return 0;
    if (!distance || distance > u->done)
        return -EILSEQ;
    if (n > u->room - u->done)
        return -ENOSPC;
    uint8_t *to = u->out + u->done;
    if (distance >= n)
        memcpy(to, to - distance, n);
    else
        for (size_t i = 0; i < n; i++)
            to[i] = to[i - distance];
    u->done += n;
    return 0;
}

static void skip(struct unpack *u, size_t n)
{
    u->in += n;
    u->left -= n;
}

/* --- bits, from the end to the beginning --- */

struct bits {
    const uint8_t *at; /* the byte behind the next one */
    uint64_t left;     /* bits of the stream that were not taken yet */
    uint64_t word;     /* some of them, the next one highest of */
    unsigned have;     /* so many */
};

/* unused: bits of the last byte that are none of the stream's. */
static bool bits_init(struct bits *b, const uint8_t *bytes, size_t size, unsigned unused)
{
    *b = (struct bits){.at = bytes + size, .left = (uint64_t)size * 8};
    if (!size)
        return !unused;
    b->word = *--b->at;
    b->have = 8 - unused;
    b->left -= unused;
    return !(b->word >> b->have);
}

/* n: at most 32. False at the end. */
static bool bits_take(struct bits *b, unsigned n, uint32_t *value)
{
    if (n > b->left)
        return false;
    for (; b->have < n; b->have += 8)
        b->word = b->word << 8 | *--b->at;
    b->have -= n;
    b->left -= n;
    *value = (uint32_t)(b->word >> b->have & bits_mask(n));
    return true;
}

static bool state_take(struct bits *b, const struct state *table, unsigned *state, uint32_t *value)
{
    const struct state s = table[*state];
    uint32_t read;
    if (!bits_take(b, s.bits, &read))
        return false;
    *state = (unsigned)((uint32_t)s.next + (read >> s.extra));
    *value = s.base + (read & (uint32_t)bits_mask(s.extra));
    return true;
}

/* --- tables --- */

/* How many bits more each symbol of a kind has. Their ranges follow each other. */
static unsigned extra_of(unsigned symbol, const uint8_t *last, bool distances)
{
    if (distances)
        return symbol / 4;
    return symbol < 16 ? 0 : last[symbol - 16];
}

static const uint8_t l_extra[4] = {2, 3, 5, 8}, m_extra[4] = {3, 5, 8, 11};

/* Each symbol has as many states as its frequency says. From one of them, the next state is anywhere: the
 * first ones read a bit more than the others, so that all ranges together are the whole table. False when
 * there would be more states than the table has. */
static bool build(struct state *table, unsigned states, const uint16_t *frequency, unsigned symbols,
                  const uint8_t *last, bool values)
{
    unsigned used = 0;
    uint32_t base = 0;
    memset(table, 0, states * sizeof(*table));
    for (unsigned i = 0; i < symbols; i++) {
        const unsigned f = frequency[i], extra = values ? extra_of(i, last, symbols == D_SYMBOLS) : 0;
        if (f > states - used)
            return false;
        const unsigned k = f ? (unsigned)(__builtin_clz(f) - __builtin_clz(states)) : 0;
        const unsigned longer = f ? ((2 * states) >> k) - f : 0;
        for (unsigned j = 0; j < f; j++) {
            const bool more = j < longer;
            table[used++] = (struct state){
                .bits = (uint8_t)((more ? k : k - 1) + extra),
                .extra = (uint8_t)extra,
                .next = (int16_t)(more ? (int)((f + j) << k) - (int)states : (int)((j - longer) << (k - 1))),
                .base = base};
        }
        base += UINT32_C(1) << extra;
    }
    return true;
}

/* Frequencies in a code of their own: the lowest bits say how many more there are. */
static unsigned frequency_of(uint32_t word, unsigned *bits)
{
    static const uint8_t small[8] = {0, 2, 1, 0, 0, 3, 1, 0}; /* by three bits */
    switch (word & 7) {
    case 3: *bits = 5; return 4 + (word >> 3 & 3);
    case 7: *bits = word & 8 ? 14 : 8; return word & 8 ? 24 + (word >> 4 & 0x3ff) : 8 + (word >> 4 & 0xf);
    default: *bits = word & 1 ? 3 : 2; return small[word & 7];
    }
}

static bool read_frequencies(struct work *w, const uint8_t *bytes, size_t size)
{
    uint32_t word = 0;
    unsigned have = 0;
    size_t at = 0;
    memset(w->frequency, 0, sizeof(w->frequency));
    if (!size)
        return true;
    for (unsigned i = 0; i < SYMBOLS; i++) {
        for (; at < size && have <= 24; have += 8)
            word |= (uint32_t)bytes[at++] << have;
        unsigned n;
        w->frequency[i] = (uint16_t)frequency_of(word, &n);
        if (n > have)
            return false;
        word >>= n;
        have -= n;
    }
    return have < 8 && at == size;
}

static bool build_all(struct work *w)
{
    const uint16_t *f = w->frequency;
    return build(w->l, L_STATES, f, L_SYMBOLS, l_extra, true) &&
           build(w->m, M_STATES, f + L_SYMBOLS, M_SYMBOLS, m_extra, true) &&
           build(w->d, D_STATES, f + L_SYMBOLS + M_SYMBOLS, D_SYMBOLS, NULL, true) &&
           build(w->bytes, BYTE_STATES, f + L_SYMBOLS + M_SYMBOLS + D_SYMBOLS, BYTES, NULL, false);
}

/* --- a block of LZFSE --- */

struct header {
    uint32_t literals, literal_bytes, matches, match_bytes, size;
    unsigned literal_unused, match_unused; /* bits of the last byte of either stream */
    unsigned literal_state[4], l, m, d;
};

static uint32_t field(uint64_t word, unsigned at, unsigned bits)
{
    return (uint32_t)bits_get(word, at, bits);
}

/* Sizes and states inside of their limits, streams inside of the input. */
static bool read_header(const struct unpack *u, struct header *h)
{
    if (u->left < V2_FIXED)
        return false;
    const uint64_t a = ld64le(u->in + 8), b = ld64le(u->in + 16), c = ld64le(u->in + 24);
    h->literals = field(a, 0, 20);
    h->literal_bytes = field(a, 20, 20);
    h->matches = field(a, 40, 20);
    h->literal_unused = 7 - field(a, 60, 3);
    for (unsigned i = 0; i < 4; i++)
        h->literal_state[i] = field(b, 10 * i, 10);
    h->match_bytes = field(b, 40, 20);
    h->match_unused = 7 - field(b, 60, 3);
    h->size = field(c, 0, 32);
    h->l = field(c, 32, 10);
    h->m = field(c, 42, 10);
    h->d = field(c, 52, 10);
    return h->literals <= LITERALS_MAX && h->literals % 4 == 0 && h->matches <= MATCHES_MAX &&
           h->l < L_STATES && h->m < M_STATES && h->d < D_STATES && h->size >= V2_FIXED &&
           h->size <= u->left && (uint64_t)h->literal_bytes + h->match_bytes <= u->left - h->size;
}

static bool read_literals(struct unpack *u, struct header *h)
{
    struct bits b;
    if (!bits_init(&b, u->in, h->literal_bytes, h->literal_unused))
        return !h->literals && !h->literal_bytes;
    for (uint32_t i = 0; i < h->literals; i++) {
        uint32_t value;
        if (!state_take(&b, u->work->bytes, &h->literal_state[i % 4], &value))
            return false;
        u->work->literals[i] = (uint8_t)value;
    }
    return true;
}

static int do_matches(struct unpack *u, struct header *h)
{
    struct work *w = u->work;
    struct bits b;
    uint32_t used = 0, distance = 0;
    if (!bits_init(&b, u->in, h->match_bytes, h->match_unused))
        return -EILSEQ;
    for (uint32_t i = 0; i < h->matches; i++) {
        uint32_t l, m, d;
        if (!state_take(&b, w->l, &h->l, &l) || !state_take(&b, w->m, &h->m, &m) ||
            !state_take(&b, w->d, &h->d, &d) || l > h->literals - used)
            return -EILSEQ;
        distance = d ? d : distance;
        int status = put_literals(u, w->literals + used, l);
        if (!status)
            status = put_match(u, m, distance);
        if (status)
            return status;
        used += l;
    }
    return 0;
}

static int unpack_lzfse(struct unpack *u)
{
    struct header h;
    if (!read_header(u, &h) || !read_frequencies(u->work, u->in + V2_FIXED, h.size - V2_FIXED) ||
        !build_all(u->work))
        return -EILSEQ;
    skip(u, h.size);
    if (!read_literals(u, &h))
        return -EILSEQ;
    skip(u, h.literal_bytes);
    int status = do_matches(u, &h);
    skip(u, h.match_bytes);
    return status;
}

/* --- a block of LZVN --- */

/* One operation: literals that follow it, then a match. */
struct op {
    size_t size, literals, match, distance;
    bool last;
};

/* have: bytes at `at`, of which no operation has more than three. False: there is no such one. */
static bool read_op(const uint8_t *at, size_t have, size_t before, struct op *op)
{
    const unsigned c = at[0];
    const unsigned one = have > 1 ? at[1] : 0, word = have > 2 ? ld16le(at + 1) : 0;
    *op = (struct op){.size = 1, .distance = before};
    if (c >= 0xf0) {
        op->size = c == 0xf0 ? 2 : 1;
        op->match = c == 0xf0 ? one + 16 : c & 15;
    } else if (c >= 0xe0) {
        op->size = c == 0xe0 ? 2 : 1;
        op->literals = c == 0xe0 ? one + 16 : c & 15;
    } else if (c >= 0xd0 || (c >= 0x70 && c < 0x80)) {
        return false;
    } else if (c >= 0xa0 && c < 0xc0) {
        op->size = 3;
        op->literals = c >> 3 & 3;
        op->match = ((c & 7) << 2 | (word & 3)) + 3;
        op->distance = word >> 2;
    } else if (c == 0x06) {
        op->size = 8;
        op->last = true;
    } else if ((c & 7) == 6 && c < 0x40) {
        return c == 0x0e || c == 0x16; /* does nothing */
    } else {
        op->size = (c & 7) == 7 ? 3 : (c & 7) == 6 ? 1 : 2;
        op->literals = c >> 6;
        op->match = (c >> 3 & 7) + 3;
        op->distance = (c & 7) == 7 ? word : (c & 7) == 6 ? before : (c & 7) << 8 | one;
    }
    return op->size <= have;
}

static int unpack_lzvn(struct unpack *u)
{
    enum { HEAD = 12 };
    if (u->left < HEAD)
        return -EILSEQ;
    const size_t raw = ld32le(u->in + 4), packed = ld32le(u->in + 8), begin = u->done;
    size_t distance = 0;
    struct op op = {0};
    skip(u, HEAD);
    if (packed > u->left)
        return -EILSEQ;
    for (size_t at = 0; !op.last; at += op.literals) {
        if (at >= packed || !read_op(u->in + at, packed - at, distance, &op))
            return -EILSEQ;
        at += op.size;
        if (op.literals > packed - at)
            return -EILSEQ;
        int status = put_literals(u, u->in + at, op.literals);
        if (!status)
            status = put_match(u, op.match, op.distance);
        if (status)
            return status;
        distance = op.distance;
    }
    skip(u, packed);
    return u->done - begin == raw ? 0 : -EILSEQ;
}

/* --- all --- */

static int unpack_raw(struct unpack *u)
{
    if (u->left < 8 || ld32le(u->in + 4) > u->left - 8)
        return -EILSEQ;
    const size_t size = ld32le(u->in + 4);
    int status = put_literals(u, u->in + 8, size);
    skip(u, 8 + size);
    return status;
}

ssize_t lzfse_unpack(void *work, const uint8_t *in, size_t size, uint8_t *out, size_t room)
{
    struct unpack u = {.work = work, .in = in, .left = size, .out = out, .room = room};
    int status = 0;
    while (!status) {
        const uint32_t magic = u.left < 4 ? 0 : ld32le(u.in);
        if (magic == MAGIC('$'))
            return (ssize_t)u.done;
        status = magic == MAGIC('-')   ? unpack_raw(&u)
                 : magic == MAGIC('n') ? unpack_lzvn(&u)
                 : magic == MAGIC('2') ? unpack_lzfse(&u)
                                       : -EILSEQ;
    }
    return status;
}
