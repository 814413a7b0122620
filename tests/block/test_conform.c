/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Every row of drivers.def against a flat array of bytes: random operations, and what all must refuse. */
#include <errno.h>
#include <glib.h>
#include <string.h>

#include "base/bits.h"
#include "rig.h"

enum {
    SIZE = 306 * 1024, /* not whole clusters; 9 cylinders, 4 heads, 17 sectors, as vpc rounds up to */
    ROUNDS = 3000,
    PIECES = 5,
};

struct model {
    struct disk *disk;
    uint8_t *bytes; /* what must be read */
    uint8_t *any;   /* 1 where a discard left it open what is read */
    GRand *rand;
};

static uint64_t random_range(struct model *m, uint64_t *size)
{
    const uint32_t unit = m->disk->facts.alignment;
    uint64_t most = g_rand_boolean(m->rand) ? 70000 : 2000;
    uint64_t offset = (uint64_t)g_rand_int_range(m->rand, 0, SIZE) / unit * unit;
    uint64_t wish = (uint64_t)g_rand_int_range(m->rand, 0, (gint32)most);
    *size = MIN(wish, SIZE - offset) / unit * unit;
    return offset;
}

/* Cuts bytes into a few buffers of random sizes, some of them empty. */
static unsigned cut(struct model *m, uint8_t *bytes, uint64_t size, struct iovec *iov)
{
    unsigned n = 0;
    while (n < PIECES - 1) {
        size_t part = (size_t)g_rand_int_range(m->rand, 0, (gint32)size + 1);
        iov[n++] = (struct iovec){bytes, part};
        bytes += part;
        size -= part;
    }
    iov[n++] = (struct iovec){bytes, size};
    return n;
}

static void do_write(struct model *m)
{
    uint64_t size, offset = random_range(m, &size);
    g_autofree uint8_t *data = g_malloc(size + 1);
    struct iovec iov[PIECES];
    for (uint64_t i = 0; i < size; i++)
        data[i] = (uint8_t)g_rand_int(m->rand);
    g_assert_cmpint(block_write(m->disk, iov, cut(m, data, size, iov), offset), ==, 0);
    memcpy(m->bytes + offset, data, size);
    memset(m->any + offset, 0, size);
}

static void do_read(struct model *m, unsigned flags)
{
    uint64_t size, offset = random_range(m, &size);
    g_autofree uint8_t *data = g_malloc(size + 1);
    struct iovec iov[PIECES];
    memset(data, 0xee, size + 1);
    int status = block_read(m->disk, iov, cut(m, data, size, iov), offset, flags);
    g_assert_cmpint(data[size], ==, 0xee);
    if (status == -EAGAIN && flags & BLOCK_NOWAIT)
        return;
    g_assert_cmpint(status, ==, 0);
    for (uint64_t i = 0; i < size; i++)
        if (data[i] != m->bytes[offset + i] && !m->any[offset + i])
            g_error("%s: byte %u is %u, not %u", m->disk->driver->name, (unsigned)(offset + i), data[i],
                    m->bytes[offset + i]);
}

static void do_zero(struct model *m, unsigned flags)
{
    uint64_t size, offset = random_range(m, &size);
    g_assert_cmpint(block_zero(m->disk, offset, size, flags), ==, 0);
    memset(m->bytes + offset, 0, size);
    memset(m->any + offset, 0, size);
}

static void do_discard(struct model *m)
{
    uint64_t size, offset = random_range(m, &size);
    g_assert_cmpint(block_discard(m->disk, offset, size), ==, 0);
    memset(m->any + offset, 1, size);
}

/* What is said to read as zeroes does; the pieces cover the disk. */
static void check_extents(struct model *m)
{
    g_autofree uint8_t *data = g_malloc(SIZE);
    const struct iovec iov = {data, SIZE};
    g_assert_cmpint(block_read(m->disk, &iov, 1, 0, 0), ==, 0);
    for (uint64_t offset = 0; offset < SIZE;) {
        struct block_extent extent;
        g_assert_cmpint(block_extent(m->disk, offset, SIZE - offset, &extent), ==, 0);
        g_assert_cmpuint(extent.size, >, 0);
        g_assert_cmpuint(extent.size, <=, SIZE - offset);
        for (uint64_t i = 0; extent.zero && i < extent.size; i++)
            g_assert_cmpuint(data[offset + i], ==, 0);
        offset += extent.size;
    }
}

static void test_model(gconstpointer driver)
{
    if (!strcmp(((const struct block_driver *)driver)->name, "null")) {
        g_test_skip("it keeps nothing");
        return;
    }
    struct model m = {.disk = rig_disk(driver, SIZE),
                      .bytes = g_malloc0(SIZE),
                      .any = g_malloc0(SIZE),
                      .rand = g_rand_new_with_seed((guint32)g_test_rand_int())};
    g_assert_cmpuint(m.disk->facts.size, ==, SIZE);
    for (unsigned i = 0; i < ROUNDS; i++) {
        switch (g_rand_int_range(m.rand, 0, 12)) {
        case 0: do_zero(&m, 0); break;
        case 1: do_zero(&m, BLOCK_MAY_UNMAP); break;
        case 2: do_discard(&m); break;
        case 3: g_assert_cmpint(block_flush(m.disk), ==, 0); break;
        case 4: do_read(&m, BLOCK_NOWAIT); break;
        case 5:
        case 6:
        case 7:
        case 8: do_write(&m); break;
        default: do_read(&m, 0); break;
        }
        if (i % 500 == 0)
            check_extents(&m);
    }
    g_rand_free(m.rand);
    g_free(m.any);
    g_free(m.bytes);
    block_free(m.disk);
}

static void test_bounds(gconstpointer driver)
{
    AUTO(disk) b = rig_disk(driver, SIZE);
    static const struct {
        uint64_t offset, size;
        int status;
    } cases[] = {
        {SIZE - 512, 512, 0},
        {SIZE, 0, 0},
        {SIZE - 512, 1024, -EINVAL},
        {SIZE, 512, -EINVAL},
        {SIZE + 512, 0, -EINVAL},
        {UINT64_MAX - 511, 512, -EINVAL},
        {UINT64_MAX - 511, 1024, -EINVAL},
        {UINT64_C(1) << 63, 512, -EINVAL},
    };
    uint8_t bytes[1024] = {0};
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        const struct iovec iov = {bytes, cases[i].size};
        g_assert_cmpint(block_read(b, &iov, 1, cases[i].offset, 0), ==, cases[i].status);
        if (!b->facts.growable || cases[i].offset > INT64_MAX)
            g_assert_cmpint(block_write(b, &iov, 1, cases[i].offset), ==, cases[i].status);
        g_assert_cmpint(block_zero(b, cases[i].offset, cases[i].size, 0), ==, cases[i].status);
        g_assert_cmpint(block_discard(b, cases[i].offset, cases[i].size), ==, cases[i].status);
    }
    g_assert_cmpint(block_zero(b, 512, UINT64_MAX, 0), ==, -EINVAL);
    struct block_extent extent;
    g_assert_cmpint(block_extent(b, SIZE, 1, &extent), ==, -EINVAL);
    g_assert_cmpint(block_extent(b, 0, 0, &extent), ==, -EINVAL);
}

/* The shared sheet of a row: it can be found, and asks for a size that makes sense. */
static void test_row(gconstpointer driver)
{
    const struct block_driver *d = driver;
    g_assert_true(block_driver_find(d->name) == d);
    g_assert_nonnull(d->help);
    if (d->kind == BLOCK_PROTOCOL && d->needs_file)
        return; /* files have all sizes */
    const uint64_t wrong[] = {0, 1, 511, 513, 1000};
    for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++) {
        g_autoptr(GError) error = NULL;
        struct block_config config = {
            .name = "odd", .fd = d->needs_file ? rig_file(wrong[i]) : -1, .size = wrong[i]};
        g_assert_null(block_open(d, &config, &error));
        g_assert_nonnull(strstr(error->message, "odd"));
        g_assert_cmpint(config.fd, ==, -1);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    static const struct {
        const char *name;
        GTestDataFunc run;
    } tests[] = {{"row", test_row}, {"model", test_model}, {"bounds", test_bounds}};
    for (unsigned i = 0; block_drivers[i]; i++)
        for (unsigned t = 0; t < ARRAY_SIZE(tests) && rig_can(block_drivers[i]); t++) {
            g_autofree char *path = g_strdup_printf("/block/%s/%s", block_drivers[i]->name, tests[t].name);
            g_test_add_data_func(path, block_drivers[i], tests[t].run);
        }
    return g_test_run();
}
