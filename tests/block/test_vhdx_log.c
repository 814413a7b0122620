/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The log of VHDX images: written by hand and replayed, torn, hostile; our own replayed by qemu-io. */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <string.h>

#include "base/bits.h"
#include "base/byteorder.h"
#include "block/format/vhdx/vhdx.h"
#include "flat.h"
#include "peer.h"

/* Where a new image of ours has what. */
enum { LOG = 1 << 20, LOG_SIZE = 1 << 20, BAT = 3 << 20, DATA = 4 << 20, PAGES_MAX = 3 };

static const struct image_setup setup = {
    .name = "log", .driver = "vhdx", .options = "block_size=1M", .size = 9 * MiB, .qemu = "vhdx"};
static const struct vhdx_guid log_guid = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}};

/* --- a log by hand --- */

struct target {
    uint64_t offset, zero; /* zero: bytes; 0 = a page of `bytes` */
    const uint8_t *bytes;
};

/* An entry, before it is summed up. */
struct entry {
    uint32_t length;
    uint8_t bytes[4096 * (PAGES_MAX + 1)];
};

static struct vhdx_log_entry *head(struct entry *e)
{
    return (void *)e->bytes;
}

static struct vhdx_log_descriptor *descriptor(struct entry *e, unsigned i)
{
    return (void *)(e->bytes + 64 + (size_t)i * 32);
}

static void make_entry(struct entry *e, uint64_t sequence, uint32_t tail, const struct target *targets,
                       unsigned n)
{
    memset(e, 0, sizeof(*e));
    e->length = 4096;
    for (unsigned i = 0; i < n; i++) {
        struct vhdx_log_descriptor *d = descriptor(e, i);
        d->offset = htole64(targets[i].offset);
        d->sequence = htole64(sequence);
        if (targets[i].zero) {
            memcpy(d->signature, "zero", 4);
            d->leading = htole64(targets[i].zero);
            continue;
        }
        struct vhdx_log_data *data = (void *)(e->bytes + e->length);
        memcpy(d->signature, "desc", 4);
        memcpy(&d->leading, targets[i].bytes, 8);
        memcpy(&d->trailing, targets[i].bytes + 4092, 4);
        memcpy(data->signature, "data", 4);
        memcpy(data->bytes, targets[i].bytes + 8, VHDX_DATA_BYTES);
        data->sequence_high = htole32((uint32_t)(sequence >> 32));
        data->sequence_low = htole32((uint32_t)sequence);
        e->length += 4096;
    }
    *head(e) = (struct vhdx_log_entry){.length = htole32(e->length),
                                       .tail = htole32(tail),
                                       .sequence = htole64(sequence),
                                       .count = htole32(n),
                                       .log = log_guid,
                                       .flushed_size = htole64(DATA),
                                       .last_size = htole64(DATA + 3 * MiB)};
    memcpy(head(e)->signature, "loge", 4);
}

/* Into the log at `at`, around its end. */
static void place_entry(struct store *s, struct entry *e, uint32_t at)
{
    const uint32_t first = MIN(e->length, LOG_SIZE - at);
    head(e)->checksum = htole32(vhdx_checksum(e->bytes, e->length));
    store_write(s, e->bytes, first, LOG + at);
    store_write(s, e->bytes + first, e->length - first, LOG);
}

static void write_entry(struct store *s, uint32_t at, uint64_t sequence, uint32_t tail,
                        const struct target *targets, unsigned n)
{
    struct entry e;
    make_entry(&e, sequence, tail, targets, n);
    place_entry(s, &e, at);
}

/* The headers name the log. */
static void mark(struct store *s)
{
    for (unsigned i = 1; i <= 2; i++) {
        struct vhdx_header h;
        store_read(s, &h, sizeof(h), VHDX_HEADER_AT * (uint64_t)i);
        h.log = log_guid;
        h.checksum = htole32(vhdx_checksum(&h, sizeof(h)));
        store_write(s, &h, sizeof(h), VHDX_HEADER_AT * (uint64_t)i);
    }
}

/* A page of the BAT: block i is at DATA + i MiB, for the first n. */
static const uint8_t *bat_page(unsigned n)
{
    static uint8_t pages[3][4096];
    for (unsigned i = 0; i < n; i++)
        st64le(pages[n] + (size_t)i * 8, (DATA + i * MiB) | VHDX_FULLY_PRESENT);
    return pages[n];
}

/* An image whose file has three blocks behind what is used, which no entry of the BAT names. */
static struct store *make(void)
{
    struct store *s = image_make(&setup);
    g_autofree uint8_t *data = g_malloc(2 * MiB);
    flat_fill(data, 2 * MiB, 0, 5);
    store_write(s, data, 2 * MiB, DATA);
    mark(s);
    return s;
}

/* Opened to be read and to be written, so many blocks are there; the first leaves the file as it is. */
static void check_blocks(struct store *s, unsigned blocks)
{
    g_autoptr(GError) error = NULL;
    const uint64_t before = store_hash(s);
    AUTO(disk) look = flat_open(&setup, s, true, 0, NULL, NULL, &error);
    g_assert_no_error(error);
    flat_same(look, 0, blocks * MiB, 5);
    flat_zeroes(look, blocks * MiB, 9 * MiB - blocks * MiB);
    struct block_image_info info = {0};
    g_assert_true(look->driver->image->info(look, &info, &error));
    g_assert_true(info.dirty);
    block_image_info_clear(&info);
    block_free(STEAL(look));
    g_assert_cmpuint(store_hash(s), ==, before);

    AUTO(disk) b = flat_good(&setup, s);
    flat_same(b, 0, blocks * MiB, 5);
    flat_zeroes(b, blocks * MiB, 9 * MiB - blocks * MiB);
    g_assert_true(vhdx_guid_is(&vhdx_of(b)->header.log, &vhdx_guid_null));
    g_assert_cmpuint(store_size(s), >=, DATA + 3 * MiB);
    flat_write(b, 8 * MiB, 1000, 1);
    block_free(STEAL(b));
    b = flat_good(&setup, s);
    flat_same(b, 0, blocks * MiB, 5);
    flat_same(b, 8 * MiB, 1000, 1);
}

/* --- replaying --- */

static void test_one(void)
{
    static const uint32_t places[] = {0, 4096, 77 * 4096, LOG_SIZE - 4096}; /* the last one goes around */
    for (unsigned i = 0; i < ARRAY_SIZE(places); i++) {
        AUTO(store) s = make();
        write_entry(s, places[i], 100 + i, places[i], &(struct target){BAT, 0, bat_page(2)}, 1);
        check_blocks(s, 2);
    }
}

static void test_sequences(void)
{
    const struct target one = {BAT, 0, bat_page(1)}, two = {BAT, 0, bat_page(2)}, none = {BAT, 4096, NULL};
    AUTO(store) both = make(); /* the second is the head, the first the tail */
    write_entry(both, 0, 7, 0, &none, 1);
    write_entry(both, 4096, 8, 0, &two, 1);
    check_blocks(both, 2);
    AUTO(store) last = make(); /* what is before the tail is not applied: it would go too far */
    const struct target wrong = {BAT + 4096, 0, bat_page(2)};
    write_entry(last, 0, 7, 0, &two, 1);
    write_entry(last, 2 * 4096, 8, 2 * 4096, &one, 1);
    check_blocks(last, 1);
    AUTO(store) old = make(); /* two sequences: the higher numbers count, wherever they are */
    write_entry(old, 0, 20, 0, &one, 1);
    write_entry(old, 10 * 4096, 12, 10 * 4096, &two, 1);
    check_blocks(old, 1);
    AUTO(store) gap = make(); /* numbers with a gap are two sequences */
    write_entry(gap, 0, 20, 0, &two, 1);
    write_entry(gap, 2 * 4096, 22, 0, &one, 1); /* its tail is not in it */
    check_blocks(gap, 2);
    AUTO(store) order = make(); /* later entries are applied later; zeroes, too */
    const struct target three[] = {two, wrong, {BAT + 4096, 8192, NULL}};
    write_entry(order, 0, 1, 0, three, 3);
    write_entry(order, 3 * 4096, 2, 0, &one, 1);
    check_blocks(order, 1);
    AUTO(store) empty = make(); /* nothing but an empty entry */
    write_entry(empty, 0, 1, 0, NULL, 0);
    check_blocks(empty, 0);
}

/* An entry of which any page, or half of one, is missing counts as none; the one before it does. */
static void test_torn(void)
{
    const struct target three[] = {
        {BAT, 0, bat_page(2)}, {BAT + 8192, 0, bat_page(1)}, {BAT + 4096, 0, bat_page(2)}};
    const uint32_t at = 50 * 4096;
    for (unsigned piece = 0; piece < 32; piece++) {
        AUTO(store) s = make();
        write_entry(s, 40 * 4096, 30, 40 * 4096, &(struct target){BAT, 0, bat_page(1)}, 1);
        write_entry(s, at, 31, at, three, 3);
        uint8_t before[512], zero[512] = {0};
        store_read(s, before, 512, LOG + at + piece * 512);
        store_fill(s, 0, 512, LOG + at + piece * 512);
        if (memcmp(before, zero, 512) != 0)
            check_blocks(s, 1);
    }
    AUTO(store) alone = make();
    write_entry(alone, at, 31, at, three, 3);
    store_fill(alone, 0, 512, LOG + at + 4096);
    flat_refused(&setup, alone, true, "no part of it is whole");
    flat_refused(&setup, alone, false, "no part of it is whole");
}

/* --- hostile ones --- */

static void refuse(struct entry *e, const char *words)
{
    AUTO(store) s = make();
    place_entry(s, e, 0);
    const uint64_t before = store_hash(s);
    flat_refused(&setup, s, true, words);
    flat_refused(&setup, s, false, words);
    g_assert_cmpuint(store_hash(s), ==, before); /* refused before anything was applied */
}

static void test_targets(void)
{
    static const struct target targets[] = {
        {0, 4096, NULL},
        {VHDX_HEADER_AT, 4096, NULL},
        {VHDX_REGIONS_AT - 4096, 8192, NULL},
        {LOG, 4096, NULL},
        {LOG - 4096, 8192, NULL},
        {LOG + LOG_SIZE - 4096, 8192, NULL},
        {BAT + 512, 4096, NULL},
        {BAT, 512, NULL},
        {DATA + 3 * MiB, 4096, NULL},
        {BAT, UINT64_MAX - 4095, NULL},
        {UINT64_MAX - 4095, 4096, NULL},
        {BAT, UINT64_C(1) << 62, NULL},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(targets); i++) {
        const struct target two[] = {{BAT, 0, bat_page(2)}, targets[i]};
        struct entry e;
        make_entry(&e, 1, 0, two, 2);
        refuse(&e, "no part of it is whole");
    }
    struct entry e;
    make_entry(&e, 1, 0, &(struct target){LOG, 0, bat_page(2)}, 1);
    refuse(&e, "no part of it is whole");
    make_entry(&e, 1, 0, &(struct target){BAT, 0, bat_page(2)}, 1);
    head(&e)->flushed_size = htole64(UINT64_C(1) << 40);
    refuse(&e, "its end is missing");
}

static void test_fields(void)
{
    static const struct {
        uint32_t at, size;
        uint64_t value;
    } cases[] = {
        {0, 4, 0},           {8, 4, 0},           {8, 4, 4096},  {8, 4, 12288}, {8, 4, 8191},
        {8, 4, UINT32_MAX},  {8, 4, 2 << 20},     {12, 4, 4096}, {12, 4, 100},  {12, 4, LOG_SIZE},
        {12, 4, UINT32_MAX}, {16, 8, 0},          {16, 8, 2},    {24, 4, 2},    {24, 4, 126},
        {24, 4, 127},        {24, 4, UINT32_MAX}, {32, 8, 0},    {64, 4, 0},    {64 + 24, 8, 7},
        {4096, 4, 0},        {4100, 4, 1},        {8188, 4, 9},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        struct entry e;
        uint8_t value[8];
        make_entry(&e, 1, 0, &(struct target){BAT, 0, bat_page(2)}, 1);
        st64le(value, cases[i].value);
        memcpy(e.bytes + cases[i].at, value, cases[i].size);
        refuse(&e, "no part of it is whole");
    }
}

/* Entries that claim all of the log, at every page: each costs its sum, until that is too much. */
static void test_costly(void)
{
    AUTO(store) s = make();
    struct entry e;
    make_entry(&e, 1, 0, NULL, 0);
    head(&e)->length = htole32(LOG_SIZE);
    for (uint32_t at = 0; at < LOG_SIZE; at += 4096)
        store_write(s, e.bytes, 4096, LOG + at);
    flat_refused(&setup, s, false, "no part of it is whole");
    /* And a chain of all pages whose tails lie nowhere in it. */
    AUTO(store) chain = make();
    for (uint32_t at = 0; at < LOG_SIZE; at += 4096)
        write_entry(chain, at, at / 4096 + 1, 4096 * ((at / 4096 + 7) % 256), NULL, 0);
    AUTO(disk) b = flat_good(&setup, chain); /* the one that ends before its tail comes again */
    block_free(STEAL(b));
    mark(chain);
    store_fill(chain, 0, 4096, LOG);
    for (uint32_t at = 4096; at < LOG_SIZE; at += 4096)
        write_entry(chain, at, at / 4096, 0, NULL, 0);
    flat_refused(&setup, chain, false, "no part of it is whole");
}

/* --- our own log, as others read it --- */

/* What was durable in the log only, when the power failed before it was written where it belongs. */
static void test_peer(void)
{
    if (!peer_has("qemu-io") || !peer_has("qemu-img"))
        return;
    struct peer_dir dir = peer_dir();
    g_autofree char *image = peer_path(&dir, "image"), *raw = peer_path(&dir, "raw");
    g_autofree uint8_t *want = g_malloc0(9 * MiB);
    AUTO(store) s = image_make(&setup);
    AUTO(disk) b = flat_good(&setup, s);
    for (unsigned i = 0; i < 4; i++) {
        uint8_t page[4096];
        store_read(s, page, sizeof(page), BAT);
        flat_write(b, i * 2 * MiB, 100000, i);
        flat_fill(want + i * 2 * MiB, 100000, i * 2 * MiB, i);
        g_assert_cmpint(block_flush(b), ==, 0);
        AUTO(store) cut = store_copy(s);
        store_write(cut, page, sizeof(page), BAT);
        int fd = open(image, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        store_save(cut, fd);
        close(fd);
        peer_run("qemu-img check -q -r all -f vhdx %s", image);
        peer_run("qemu-img convert -f vhdx -O raw %s %s", image, raw);
        peer_same_file(raw, want, 9 * MiB);
        AUTO(disk) ours = flat_good(&setup, cut);
        peer_same(ours, want, 9 * MiB);
    }
    peer_dir_gone(&dir);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/block/vhdx/log/one", test_one);
    g_test_add_func("/block/vhdx/log/sequences", test_sequences);
    g_test_add_func("/block/vhdx/log/torn", test_torn);
    g_test_add_func("/block/vhdx/log/targets", test_targets);
    g_test_add_func("/block/vhdx/log/fields", test_fields);
    g_test_add_func("/block/vhdx/log/costly", test_costly);
    g_test_add_func("/block/vhdx/log/peer", test_peer);
    return g_test_run();
}
