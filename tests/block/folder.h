/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Tests of formats whose images are files in a folder: opening them with what they refer to, random
 * operations against a flat model, and several threads on neighbouring clusters. */
#ifndef HOSTEL_TESTS_BLOCK_FOLDER_H
#define HOSTEL_TESTS_BLOCK_FOLDER_H

#include <fcntl.h>
#include <glib.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "base/bits.h"
#include "block/block.h"
#include "block/image.h"
#include "peer.h"

/* Everything in one folder may be referred to. */
struct folder {
    struct block_refs refs;
    const char *path;
};

static inline int folder_fd(const char *path, const char *name, int flags)
{
    g_autofree char *base = g_path_get_basename(name);
    g_autofree char *full = g_build_filename(path, base, NULL);
    return open(full, flags | O_CLOEXEC, 0600);
}

static inline struct disk *folder_open_ref(struct block_refs *refs, enum block_ref what,
                                           const char *reference, const char *format, bool readonly,
                                           GError **error)
{
    struct folder *f = (struct folder *)(void *)refs;
    struct block_config config = {.name = reference,
                                  .fd = folder_fd(f->path, reference, readonly ? O_RDONLY : O_RDWR),
                                  .readonly = readonly,
                                  .refs = refs};
    g_assert_true(what == BLOCK_REF_DATA || format);
    return block_open(block_driver_find(format ? format : "file"), &config, error);
}

static inline struct disk *folder_create_ref(struct block_refs *refs, const char *reference, GError **error)
{
    struct folder *f = (struct folder *)(void *)refs;
    struct block_config config = {.name = reference,
                                  .fd = folder_fd(f->path, reference, O_RDWR | O_CREAT | O_EXCL)};
    return block_open(block_driver_find("file"), &config, error);
}

static inline struct folder folder_of(const struct peer_dir *d)
{
    return (struct folder){{folder_open_ref, folder_create_ref}, d->path};
}

/* NULL with *error. */
static inline struct disk *folder_try(struct folder *f, const char *driver, const char *name, bool readonly,
                                      unsigned flags, GError **error)
{
    struct block_config config = {.name = name,
                                  .fd = folder_fd(f->path, name, readonly ? O_RDONLY : O_RDWR),
                                  .readonly = readonly,
                                  .flags = flags,
                                  .refs = &f->refs};
    return block_open(block_driver_find(driver), &config, error);
}

static inline struct disk *folder_open(struct folder *f, const char *driver, const char *name, bool readonly)
{
    g_autoptr(GError) error = NULL;
    struct disk *b = folder_try(f, driver, name, readonly, 0, &error);
    g_assert_no_error(error);
    return b;
}

/* options: values of the driver's create_options, or NULL. */
static inline void folder_create(struct folder *f, const char *driver, const char *name, uint64_t size,
                                 const void *options, const char *backing, const char *backing_format)
{
    g_autoptr(GError) error = NULL;
    AUTO(disk) file = folder_create_ref(&f->refs, name, &error);
    g_assert_no_error(error);
    const struct block_create c = {.name = name,
                                   .file = file,
                                   .size = size,
                                   .backing = backing,
                                   .backing_format = backing_format,
                                   .options = options,
                                   .refs = &f->refs};
    block_driver_find(driver)->image->create(&c, &error);
    g_assert_no_error(error);
}

/* --- a model --- */

static inline void folder_random(GRand *rand, uint8_t *bytes, uint64_t size)
{
    const guint32 seed = g_rand_int(rand);
    const bool packs = seed & 1;
    for (uint64_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)(packs ? seed >> 8 : g_rand_int(rand));
}

/* One random change of the disk, and of bytes. */
static inline void folder_step(struct disk *b, GRand *rand, uint8_t *bytes, uint64_t size)
{
    const uint64_t offset = (uint64_t)g_rand_int_range(rand, 0, (gint32)size) & ~UINT64_C(511);
    const uint64_t most = g_rand_boolean(rand) ? 8192 : 300000;
    const uint64_t wish = ((uint64_t)g_rand_int_range(rand, 0, (gint32)most) | 511) + 1;
    const uint64_t n = MIN(size - offset, wish);
    switch (g_rand_int_range(rand, 0, 8)) {
    case 0:
        g_assert_cmpint(block_zero(b, offset, n, g_rand_boolean(rand) ? BLOCK_MAY_UNMAP : 0), ==, 0);
        memset(bytes + offset, 0, n);
        break;
    case 1: g_assert_cmpint(block_flush(b), ==, 0); break;
    default:
        folder_random(rand, bytes + offset, n);
        g_assert_cmpint(block_pwrite(b, bytes + offset, n, offset), ==, 0);
    }
}

static inline void folder_check(struct disk *b, bool leaks_allowed)
{
    g_autoptr(GError) error = NULL;
    struct block_check check = {0};
    if (!b->driver->image->check)
        return;
    g_assert_true(b->driver->image->check(b, 0, &check, &error));
    g_assert_no_error(error);
    g_assert_cmpuint(check.corruptions, ==, 0);
    g_assert_cmpuint(check.errors, ==, 0);
    g_assert_true(leaks_allowed || !check.leaks);
}

/* Rounds of random changes, each by another opening of the image; it holds bytes before and after. */
static inline void folder_model(struct folder *f, const char *driver, const char *name, GRand *rand,
                                uint8_t *bytes, uint64_t size, unsigned rounds)
{
    while (rounds--) {
        AUTO(disk) b = folder_open(f, driver, name, false);
        g_assert_cmpuint(b->facts.size, ==, size);
        peer_same(b, bytes, size);
        for (unsigned i = 0; i < 40; i++)
            folder_step(b, rand, bytes, size);
        peer_same(b, bytes, size);
    }
    AUTO(disk) b = folder_open(f, driver, name, true);
    peer_same(b, bytes, size);
    folder_check(b, true);
}

/* --- several threads --- */

enum { FOLDER_THREADS = 4, FOLDER_PIECE = 12 * 1024 };

struct folder_thread {
    pthread_t id;
    struct disk *disk;
    uint64_t size;
    unsigned nr;
};

/* Every fourth piece of the disk; pieces are smaller than clusters, so neighbours meet in each. */
static inline void *folder_thread(void *opaque)
{
    struct folder_thread *t = opaque;
    uint8_t bytes[FOLDER_PIECE], back[FOLDER_PIECE];
    for (uint64_t at = t->nr * (uint64_t)FOLDER_PIECE; at + FOLDER_PIECE <= t->size;
         at += FOLDER_THREADS * (uint64_t)FOLDER_PIECE) {
        memset(bytes, (int)(1 + at / FOLDER_PIECE % 255), sizeof(bytes));
        g_assert_cmpint(block_pwrite(t->disk, bytes, sizeof(bytes), at), ==, 0);
        g_assert_cmpint(block_pread(t->disk, back, sizeof(back), at), ==, 0);
        g_assert_cmpmem(bytes, sizeof(bytes), back, sizeof(back));
        if (at % 7 == 0)
            g_assert_cmpint(block_flush(t->disk), ==, 0);
    }
    return NULL;
}

static inline void folder_threads(struct folder *f, const char *driver, const char *name, uint64_t size)
{
    struct folder_thread threads[FOLDER_THREADS];
    AUTO(disk) b = folder_open(f, driver, name, false);
    for (unsigned i = 0; i < FOLDER_THREADS; i++) {
        threads[i] = (struct folder_thread){.disk = b, .size = size, .nr = i};
        g_assert_cmpint(pthread_create(&threads[i].id, NULL, folder_thread, &threads[i]), ==, 0);
    }
    for (unsigned i = 0; i < FOLDER_THREADS; i++)
        pthread_join(threads[i].id, NULL);
    g_clear_pointer(&b, block_free);
    b = folder_open(f, driver, name, true);
    for (uint64_t at = 0; at + FOLDER_PIECE <= size; at += FOLDER_PIECE) {
        uint8_t bytes[FOLDER_PIECE];
        g_assert_cmpint(block_pread(b, bytes, sizeof(bytes), at), ==, 0);
        for (unsigned i = 0; i < FOLDER_PIECE; i++)
            g_assert_cmpuint(bytes[i], ==, 1 + at / FOLDER_PIECE % 255);
    }
    folder_check(b, false);
}

/* --- hostile bytes --- */

/* Every number of 4 bytes of the image's first `head` becomes one of those that are wrong in most places:
 * whatever opens is read in full, and nothing is written to it. */
static inline void folder_hostile(struct folder *f, const char *driver, const char *name, unsigned head)
{
    static const uint32_t wrong[] = {0, 1, 0x7fffffff, 0x80000000, 0xffffffff, 0xfffffffe, 0x1000};
    const struct block_driver *d = block_driver_find(driver);
    int fd = folder_fd(f->path, name, O_RDWR);
    for (unsigned at = 0; at < head; at += 4)
        for (unsigned i = 0; i < ARRAY_SIZE(wrong) * 2; i++) {
            g_autoptr(GError) error = NULL;
            uint32_t old, value = i % 2 ? GUINT32_SWAP_LE_BE(wrong[i / 2]) : wrong[i / 2];
            uint8_t bytes[4096];
            g_assert_cmpint(pread(fd, &old, 4, at), ==, 4);
            g_assert_cmpint(pwrite(fd, &value, 4, at), ==, 4);
            AUTO(disk) b = folder_try(f, driver, name, true, BLOCK_OPEN_SHARED, &error);
            g_assert_true(b || error);
            for (uint64_t o = 0; b && o + sizeof(bytes) <= MIN(b->facts.size, 2 * MiB); o += sizeof(bytes)) {
                int status = block_pread(b, bytes, sizeof(bytes), o);
                g_assert_true(status <= 0);
            }
            struct block_check check = {0};
            struct block_image_info info = {0};
            if (b && b->facts.size < GiB && d->image->check)
                d->image->check(b, 0, &check, NULL);
            if (b && d->image->info(b, &info, NULL))
                block_image_info_clear(&info);
            g_assert_cmpint(pwrite(fd, &old, 4, at), ==, 4);
        }
    close(fd);
}

#endif
