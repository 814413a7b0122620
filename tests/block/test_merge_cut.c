/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Images of a chain are merged, and the power is cut at any moment: the chain reads as before, byte for byte.
 */
/*
 * Three images lie over each other, of different sizes, with writes, zeroes and holes at random. Each kind of
 * merge is done with all that reaches the file it writes to noted; then every state in which that may be left
 * is put into the chain. Nothing wrong may be found in it, and who reads the chain from the top finds what
 * was there before. At the end that holds without what was merged, too.
 */
#include <glib.h>
#include <string.h>

#include "base/cleanup.h"
#include "block/filter/recorder.h"
#include "block/image.h"
#include "block/merge.h"
#include "images.h"
#include "powercut/cut.h"
#include "store.h"

enum { SIZE = 384 << 10, PIECE = 32 << 10, LAYERS = 3, CHANGES = 40, ROUNDS = 4, SUBSETS = 3 };
enum { BASE, MIDDLE, TOP };

struct chain {
    struct store *store[LAYERS];
    uint64_t size[LAYERS];
    GRand *rand;
    uint8_t view[SIZE]; /* from the top */
};

/* Images of the chain, from the lowest on; disk[i] lies over the one before that is there. */
struct opened {
    struct disk *disk[LAYERS];
    struct disk *highest; /* owned */
};

static struct image_setup setup_of(const struct chain *c, unsigned i)
{
    return (struct image_setup){
        .name = "layer", .driver = "qcow2", .options = "cluster_size=4K", .size = c->size[i]};
}

/* stores: NULL = is not there. What changes that of `noted` goes into record. */
static struct opened open_stores(struct store *const stores[LAYERS], unsigned noted,
                                 struct block_record *record)
{
    struct opened o = {0};
    for (unsigned i = 0; i < LAYERS; i++) {
        g_autoptr(GError) error = NULL;
        if (!stores[i])
            continue;
        struct disk *file = store_disk(stores[i], false, true);
        struct block_config config = {.name = "layer",
                                      .fd = -1,
                                      .file = record && i == noted ? block_recorder_new(file, record) : file,
                                      .base = o.highest};
        o.highest = o.disk[i] = block_open(block_driver_find("qcow2"), &config, &error);
        g_assert_no_error(error);
    }
    return o;
}

/* What the chain reads as, padded with zeroes. */
static void read_all(struct disk *b, uint8_t *bytes)
{
    memset(bytes, 0, SIZE);
    g_assert_cmpint(block_pread(b, bytes, b->facts.size, 0), ==, 0);
}

static void change(struct chain *c, struct disk *b)
{
    const uint64_t sectors = b->facts.size / 512;
    const uint64_t at = g_rand_int(c->rand) % sectors, most = 1 + g_rand_int(c->rand) % 40;
    const uint64_t n = MIN(most, sectors - at);
    g_autofree uint8_t *bytes = g_malloc(n * 512);
    memset(bytes, g_rand_int_range(c->rand, 1, 256), n * 512);
    const int how = g_rand_int_range(c->rand, 0, 8);
    g_assert_cmpint(how == 0   ? block_zero(b, at * 512, n * 512, BLOCK_MAY_UNMAP)
                    : how == 1 ? block_zero(b, at * 512, n * 512, 0)
                    : how == 2 ? block_discard(b, at * 512, n * 512)
                               : block_pwrite(b, bytes, n * 512, at * 512),
                    ==, 0);
}

/* middle: bytes of its disk. */
static struct chain *chain_new(uint32_t seed, uint64_t middle)
{
    struct chain *c = g_new0(struct chain, 1);
    c->rand = g_rand_new_with_seed(seed);
    c->size[BASE] = c->size[TOP] = SIZE;
    c->size[MIDDLE] = middle;
    for (unsigned i = 0; i < LAYERS; i++) {
        const struct image_setup setup = setup_of(c, i);
        c->store[i] = image_make(&setup);
        struct opened o = open_stores(c->store, 0, NULL);
        if (i == BASE) { /* nothing that is wrong above goes unseen */
            memset(c->view, 0xee, SIZE);
            g_assert_cmpint(block_pwrite(o.highest, c->view, SIZE, 0), ==, 0);
        }
        for (unsigned k = 0; k < CHANGES / (2 * i + 1); k++)
            change(c, o.highest);
        g_assert_cmpint(block_flush(o.highest), ==, 0);
        read_all(o.highest, c->view);
        block_free(o.highest);
    }
    return c;
}

static void chain_free(struct chain *c)
{
    for (unsigned i = 0; i < LAYERS; i++)
        store_free(c->store[i]);
    g_rand_free(c->rand);
    g_free(c);
}

static void merge(const struct opened *o, unsigned from, unsigned to, unsigned first, unsigned end)
{
    g_autofree uint8_t *buffer = g_malloc(BLOCK_MERGE_PIECE);
    const struct block_merge m = {.from = o->disk[from],
                                  .to = o->disk[to],
                                  .first = first,
                                  .end = end,
                                  .zeroes = true,
                                  .buffer = buffer};
    const uint64_t size = o->disk[from]->facts.size, larger = o->disk[to]->facts.size;
    for (uint64_t at = 0; at < size; at += PIECE)
        g_assert_cmpint(block_merge_range(&m, at, MIN((uint64_t)PIECE, size - at), NULL), ==, 0);
    if (larger > size)
        g_assert_cmpint(block_zero(o->disk[to], size, larger - size, BLOCK_MAY_UNMAP), ==, 0);
    g_assert_cmpint(block_flush(o->disk[to]), ==, 0);
}

/* --- cuts --- */

static void say(void *opaque, const char *line)
{
    g_string_append_printf(opaque, "%s\n", line);
}

static void check(const struct chain *c, struct store *const stores[LAYERS], const char *how)
{
    g_autofree uint8_t *bytes = g_malloc(SIZE);
    struct opened o = open_stores(stores, 0, NULL);
    for (unsigned i = 0; i < LAYERS; i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(GString) said = g_string_new(NULL);
        struct block_check result = {.report = say, .opaque = said};
        if (!o.disk[i])
            continue;
        if (!o.disk[i]->driver->image->check(o.disk[i], 0, &result, &error) || result.corruptions ||
            result.errors)
            g_error("%s: image %u: %s", how, i, error ? error->message : said->str);
    }
    read_all(o.highest, bytes);
    for (unsigned at = 0; at < SIZE; at++)
        if (bytes[at] != c->view[at])
            g_error("%s: byte %u reads as %u and was %u", how, at, bytes[at], c->view[at]);
    block_free(o.highest);
}

/* The chain with each state in which image `cut`, which was `first`, may have been left. */
static unsigned check_cuts(struct chain *c, unsigned cut, const struct store *first,
                           const struct block_record *record)
{
    struct store *stores[LAYERS];
    struct cutter cutter;
    unsigned tried = 0;
    memcpy(stores, c->store, sizeof(stores));
    cutter_init(&cutter, record, first, true, g_rand_int(c->rand));
    do {
        for (unsigned i = 0; i <= SUBSETS; i++, tried++) {
            g_autofree char *how = NULL;
            AUTO(store) left = i ? cutter_subset(&cutter, &how) : cutter_prefix(&cutter, &how);
            stores[cut] = left;
            check(c, stores, how);
        }
    } while (cutter_step(&cutter));
    cutter_fini(&cutter);
    return tried;
}

/* Without an image that has been merged. */
static void check_without(struct chain *c, unsigned gone)
{
    store_free(STEAL(c->store[gone]));
    check(c, c->store, "at the end");
}

/* --- the kinds --- */

static unsigned stream(struct chain *c)
{
    AUTO(block_record) record = block_record_new();
    AUTO(store) first = store_copy(c->store[TOP]);
    struct opened o = open_stores(c->store, TOP, record);
    merge(&o, TOP, TOP, 1, 2);
    block_free(o.highest);
    const unsigned tried = check_cuts(c, TOP, first, record);
    check_without(c, MIDDLE);
    return tried;
}

static unsigned commit(struct chain *c)
{
    AUTO(block_record) record = block_record_new();
    AUTO(store) first = store_copy(c->store[BASE]);
    struct opened o = open_stores(c->store, BASE, record);
    merge(&o, MIDDLE, BASE, 0, 1);
    block_free(o.highest);
    const unsigned tried = check_cuts(c, BASE, first, record);
    check_without(c, MIDDLE);
    return tried;
}

/* The topmost, over the base alone: it is emptied in the end. */
static unsigned active(struct chain *c)
{
    AUTO(block_record) down = block_record_new();
    AUTO(block_record) empty = block_record_new();
    store_free(STEAL(c->store[MIDDLE]));
    struct opened o = open_stores(c->store, 0, NULL);
    read_all(o.highest, c->view);
    block_free(o.highest);
    AUTO(store) base = store_copy(c->store[BASE]);
    AUTO(store) top = store_copy(c->store[TOP]);
    o = open_stores(c->store, BASE, down);
    merge(&o, TOP, BASE, 0, 1);
    block_free(o.highest);
    unsigned tried = check_cuts(c, BASE, base, down);
    o = open_stores(c->store, TOP, empty);
    g_assert_true(o.highest->driver->image->empty(o.highest, NULL));
    block_free(o.highest);
    tried += check_cuts(c, TOP, top, empty);
    check_without(c, TOP);
    return tried;
}

static void test(gconstpointer kind)
{
    /* The middle as large as the others, ending with a cluster, and within one. */
    static const uint64_t sizes[] = {SIZE, SIZE - 8 * 4096, SIZE - 21 * 512};
    unsigned (*const run)(struct chain * c) = *(unsigned (*const *)(struct chain * c)) kind;
    unsigned tried = 0;
    for (unsigned i = 0; i < ROUNDS * G_N_ELEMENTS(sizes); i++) {
        struct chain *c = chain_new((uint32_t)g_test_rand_int(), sizes[i % G_N_ELEMENTS(sizes)]);
        tried += run(c);
        chain_free(c);
    }
    g_test_message("%u images", tried);
    g_assert_cmpuint(tried, >, 200);
}

int main(int argc, char **argv)
{
    static unsigned (*const kinds[])(struct chain * c) = {stream, commit, active};
    g_test_init(&argc, &argv, NULL);
    g_test_add_data_func("/merge-cut/stream", &kinds[0], test);
    g_test_add_data_func("/merge-cut/commit", &kinds[1], test);
    g_test_add_data_func("/merge-cut/active", &kinds[2], test);
    return g_test_run();
}
