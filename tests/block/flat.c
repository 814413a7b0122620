/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What tests of formats with one flat table share; see flat.h. */
#include "flat.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/bits.h"
#include "peer.h"
#include "rig.h"

enum { ROUNDS = 600, THREADS = 4, LONGEST = 3 << 20 };

struct disk *flat_open(const struct image_setup *setup, struct store *s, bool readonly, unsigned flags,
                       struct disk *base, struct block_refs *refs, GError **error)
{
    struct block_config config = {.name = "image",
                                  .fd = -1,
                                  .file = store_disk(s, readonly, true),
                                  .base = base,
                                  .refs = refs,
                                  .readonly = readonly,
                                  .flags = flags};
    return block_open(block_driver_find(setup->driver), &config, error);
}

struct disk *flat_good(const struct image_setup *setup, struct store *s)
{
    g_autoptr(GError) error = NULL;
    struct disk *b = flat_open(setup, s, false, 0, NULL, NULL, &error);
    g_assert_no_error(error);
    return b;
}

void flat_refused(const struct image_setup *setup, struct store *s, bool readonly, const char *words)
{
    g_autoptr(GError) error = NULL;
    g_assert_null(flat_open(setup, s, readonly, 0, NULL, NULL, &error));
    if (!strstr(error->message, words) || !strstr(error->message, "image"))
        g_error("\"%s\" does not say \"%s\"", error->message, words);
}

/* --- bytes --- */

void flat_fill(uint8_t *bytes, uint64_t size, uint64_t offset, uint32_t seed)
{
    for (uint64_t i = 0; i < size; i++) {
        const uint64_t at = offset + i;
        bytes[i] = (uint8_t)((at ^ at >> 9 ^ at >> 20) * 31 + seed * 7 + 1);
    }
}

void flat_write(struct disk *b, uint64_t offset, uint64_t size, uint32_t seed)
{
    g_autofree uint8_t *bytes = g_malloc(size);
    flat_fill(bytes, size, offset, seed);
    g_assert_cmpint(block_pwrite(b, bytes, size, offset), ==, 0);
}

static void same_bytes(struct disk *b, const uint8_t *want, uint64_t offset, uint64_t size)
{
    g_autofree uint8_t *got = g_malloc(size);
    g_assert_cmpint(block_pread(b, got, size, offset), ==, 0);
    for (uint64_t i = 0; i < size; i++)
        if (got[i] != want[i])
            g_error("%s: byte %" G_GUINT64_FORMAT " is %u, not %u", b->name, offset + i, got[i], want[i]);
}

void flat_same(struct disk *b, uint64_t offset, uint64_t size, uint32_t seed)
{
    g_autofree uint8_t *want = g_malloc(size);
    flat_fill(want, size, offset, seed);
    same_bytes(b, want, offset, size);
}

void flat_zeroes(struct disk *b, uint64_t offset, uint64_t size)
{
    g_autofree uint8_t *want = g_malloc0(size);
    same_bytes(b, want, offset, size);
}

/* --- checks --- */

static void report(void *opaque, const char *line)
{
    (void)opaque;
    g_test_message("%s", line);
}

struct block_check flat_check(const struct image_setup *setup, struct store *s, unsigned fix)
{
    g_autoptr(GError) error = NULL;
    struct block_check check = {.report = report};
    AUTO(disk) b = flat_open(setup, s, !fix, BLOCK_OPEN_REPAIR | BLOCK_OPEN_ALONE, NULL, NULL, &error);
    g_assert_no_error(error);
    b->driver->image->check(b, fix, &check, &error);
    g_assert_no_error(error);
    return check;
}

static void check_clean(const struct image_setup *setup, struct store *s)
{
    const uint64_t before = store_hash(s);
    const struct block_check check = flat_check(setup, s, 0);
    g_assert_cmpuint(check.corruptions + check.leaks + check.errors, ==, 0);
    g_assert_cmpuint(store_hash(s), ==, before); /* who only looks changes nothing */
}

/* --- a model --- */

struct model {
    const struct image_setup *setup;
    struct store *store;
    struct disk *disk;
    uint8_t *bytes;
    uint64_t size;
    GRand *rand;
};

static void place(struct model *m, uint64_t *offset, uint64_t *size)
{
    const guint32 longest = g_rand_boolean(m->rand) ? LONGEST : 9000;
    *offset = (((uint64_t)g_rand_int(m->rand) << 32) | g_rand_int(m->rand)) % m->size;
    const guint32 wish = g_rand_int(m->rand) % longest;
    *size = MIN(m->size - *offset, wish);
    if (g_rand_boolean(m->rand)) {
        *offset &= ~UINT64_C(511);
        *size &= ~UINT64_C(511);
    }
}

static void reopen(struct model *m)
{
    block_free(m->disk);
    check_clean(m->setup, m->store);
    m->disk = flat_good(m->setup, m->store);
    g_assert_cmpuint(m->disk->facts.size, ==, m->size);
}

static void step(struct model *m, uint32_t seed)
{
    uint64_t offset, size;
    place(m, &offset, &size);
    switch (g_rand_int_range(m->rand, 0, 20)) {
    case 0: reopen(m); break;
    case 1: g_assert_cmpint(block_flush(m->disk), ==, 0); break;
    case 2:
    case 3:
        g_assert_cmpint(block_zero(m->disk, offset, size, seed % 2 ? BLOCK_MAY_UNMAP : 0), ==, 0);
        memset(m->bytes + offset, 0, size);
        break;
    case 4: /* what a discard leaves there is not known, so that it is written */
        g_assert_cmpint(block_discard(m->disk, offset, size), ==, 0);
        g_assert_cmpint(block_pwrite(m->disk, m->bytes + offset, size, offset), ==, 0);
        break;
    case 5:
    case 6:
    case 7:
    case 8: same_bytes(m->disk, m->bytes + offset, offset, size); break;
    default:
        flat_fill(m->bytes + offset, size, offset, seed);
        g_assert_cmpint(block_pwrite(m->disk, m->bytes + offset, size, offset), ==, 0);
    }
}

void flat_test_model(gconstpointer data)
{
    struct model m = {.setup = data, .rand = g_rand_new_with_seed((guint32)g_test_rand_int())};
    m.store = image_make(m.setup);
    m.disk = flat_good(m.setup, m.store);
    m.size = m.disk->facts.size;
    m.bytes = g_malloc0(m.size);
    flat_zeroes(m.disk, 0, m.size);
    for (uint32_t i = 0; i < ROUNDS; i++)
        step(&m, i);
    reopen(&m);
    same_bytes(m.disk, m.bytes, 0, m.size);
    block_free(m.disk);
    g_rand_free(m.rand);
    g_free(m.bytes);
    store_free(m.store);
}

/* --- threads --- */

struct worker {
    pthread_t thread;
    struct disk *disk;
    unsigned index;
};

/* Every THREADS-th 20 KiB is this thread's, so that all of them meet in each block. */
static void *work(void *opaque)
{
    enum { PIECE = 20 * 1024 };
    const struct worker *w = opaque;
    for (uint64_t at = w->index * (uint64_t)PIECE; at + PIECE <= w->disk->facts.size; at += THREADS * PIECE) {
        flat_write(w->disk, at, PIECE, w->index);
        flat_same(w->disk, at, PIECE, w->index);
        if (at / PIECE % 64 == w->index)
            g_assert_cmpint(block_flush(w->disk), ==, 0);
    }
    return NULL;
}

void flat_test_threads(gconstpointer data)
{
    enum { PIECE = 20 * 1024 };
    const struct image_setup *setup = data;
    g_autoptr(GError) error = NULL;
    AUTO(store) s = image_make(setup);
    int fd = rig_file(0);
    store_save(s, fd);
    struct block_config config = {.name = "image", .fd = dup(fd)};
    struct disk *b = block_open(block_driver_find(setup->driver), &config, &error);
    g_assert_no_error(error);
    struct worker workers[THREADS];
    for (unsigned i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){.disk = b, .index = i};
        g_assert_cmpint(pthread_create(&workers[i].thread, NULL, work, &workers[i]), ==, 0);
    }
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(workers[i].thread, NULL);
    block_free(b);
    store_load(s, fd);
    close(fd);
    check_clean(setup, s);
    b = flat_good(setup, s);
    for (uint64_t at = 0; at + PIECE <= b->facts.size; at += PIECE)
        flat_same(b, at, PIECE, (uint32_t)(at / PIECE % THREADS));
    block_free(b);
}

/* --- qemu-img --- */

static void save(struct store *s, const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    g_assert_cmpint(fd, >=, 0);
    store_save(s, fd);
    close(fd);
}

static void load(struct store *s, const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    g_assert_cmpint(fd, >=, 0);
    store_resize(s, 0);
    store_load(s, fd);
    close(fd);
}

/* What the disk holds, as qemu-img reads the image. */
static void same_there(const struct image_setup *setup, const char *image, const char *raw,
                       const uint8_t *bytes, uint64_t size)
{
    peer_run("qemu-img convert -f %s -O raw %s %s", setup->driver, image, raw);
    peer_same_file(raw, bytes, size);
    if (setup->qemu)
        peer_run("qemu-img check -q -f %s %s", setup->qemu, image);
}

static void both_ways(const struct image_setup *setup, struct store *s, const char *image, const char *raw)
{
    AUTO(disk) first = flat_good(setup, s);
    const uint64_t size = first->facts.size, piece = 600000, inside = size / 3;
    g_autofree uint8_t *bytes = g_malloc0(size);
    flat_fill(bytes + inside, piece, inside, 1);
    flat_fill(bytes + size - 1024, 1024, size - 1024, 2);
    flat_write(first, inside, piece, 1);
    flat_write(first, size - 1024, 1024, 2);
    g_assert_cmpint(block_zero(first, inside + 65536, 65536, BLOCK_MAY_UNMAP), ==, 0);
    memset(bytes + inside + 65536, 0, 65536);
    block_free(STEAL(first));
    save(s, image);
    same_there(setup, image, raw, bytes, size);
    peer_run("qemu-io -f %s -c 'write -P 7 4096 300000' -c 'write -P 9 %u 512' %s", setup->driver,
             (unsigned)(size - 4096), image);
    memset(bytes + 4096, 7, 300000);
    memset(bytes + size - 4096, 9, 512);
    load(s, image);
    check_clean(setup, s);
    AUTO(disk) second = flat_good(setup, s);
    same_bytes(second, bytes, 0, size);
    flat_write(second, 100000, 2 * piece, 3);
    flat_fill(bytes + 100000, 2 * piece, 100000, 3);
    block_free(STEAL(second));
    save(s, image);
    same_there(setup, image, raw, bytes, size);
}

void flat_test_qemu(gconstpointer data)
{
    const struct image_setup *setup = data;
    if (!peer_has("qemu-img") || !peer_has("qemu-io"))
        return;
    struct peer_dir dir = peer_dir();
    g_autofree char *image = peer_path(&dir, "image"), *raw = peer_path(&dir, "raw");
    AUTO(store) ours = image_make(setup);
    both_ways(setup, ours, image, raw);
    AUTO(store) theirs = store_new(0);
    peer_run("qemu-img create -q -f %s -o %s%ssize=%u %s", setup->driver,
             setup->options ? setup->options : "", setup->options ? "," : "", (unsigned)setup->size, image);
    load(theirs, image);
    both_ways(setup, theirs, image, raw);
    peer_dir_gone(&dir);
}

void flat_add(const struct image_setup *setups)
{
    static const struct {
        const char *name;
        GTestDataFunc run;
    } tests[] = {{"model", flat_test_model}, {"threads", flat_test_threads}, {"qemu", flat_test_qemu}};
    for (; setups->name; setups++)
        for (unsigned t = 0; t < ARRAY_SIZE(tests); t++) {
            if (tests[t].run == flat_test_qemu && setups->options && strstr(setups->options, "=4K"))
                continue; /* qemu-img opens blocks of one size only */
            g_autofree char *path =
                g_strdup_printf("/block/%s/%s/%s", setups->driver, setups->name, tests[t].name);
            g_test_add_data_func(path, setups, tests[t].run);
        }
}
