/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* mem: the block map and copies against a plain array; the tracking protocol against a model listener. */
#include <errno.h>
#include <glib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bits.h"
#include "mem/mem.h"
#include "os/memfile.h"

enum {
    RAM_BASE = 0x80000000,
    RAM_SIZE = 64 * 4096,
    SECOND_BASE = RAM_BASE + RAM_SIZE,
    ROM_BASE = 0x1000,
    ROM_SIZE = 4096
};

struct spy {
    struct mem_listener l;
    unsigned revokes, writes;
    uint64_t revoked_start, revoked_size, written_start, written_size;
};

static void spy_revoke(struct mem_listener *l, struct gpa start, uint64_t size)
{
    struct spy *s = CONTAINER_OF(l, struct spy, l);
    s->revokes++;
    s->revoked_start = start.v;
    s->revoked_size = size;
}

static void spy_written(struct mem_listener *l, struct gpa start, uint64_t size)
{
    struct spy *s = CONTAINER_OF(l, struct spy, l);
    s->writes++;
    s->written_start = start.v;
    s->written_size = size;
}

static struct mem *new_ram(struct spy *spy)
{
    struct mem *m = mem_new();
    g_assert_nonnull(mem_add(m, "second", GPA(SECOND_BASE), 4096, false, NULL));
    g_assert_nonnull(mem_add(m, "ram", GPA(RAM_BASE), RAM_SIZE, false, NULL));
    g_assert_nonnull(mem_add(m, "rom", GPA(ROM_BASE), ROM_SIZE, true, NULL));
    *spy = (struct spy){.l = {.revoke = spy_revoke, .written = spy_written}};
    mem_listen(m, &spy->l);
    return m;
}

static void test_refusals(void)
{
    struct spy spy;
    AUTO(mem) m = new_ram(&spy);
    static const struct {
        uint64_t base, size;
    } bad[] = {
        {RAM_BASE + 4096, 4096},   {RAM_BASE - 4096, 8192}, {0x800, 4096}, {0x10000, 100}, {0x10000, 0},
        {UINT64_MAX - 4095, 8192}, {0, 0x200000},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        GError *error = NULL;
        g_assert_null(mem_add(m, "bad", GPA(bad[i].base), bad[i].size, false, &error));
        g_assert_nonnull(error);
        g_error_free(error);
    }
    unsigned n;
    mem_blocks(m, &n);
    g_assert_cmpuint(n, ==, 3);
}

static void test_copies(void)
{
    struct spy spy;
    AUTO(mem) m = new_ram(&spy);
    static uint8_t model[RAM_SIZE + 4096], got[RAM_SIZE];
    for (unsigned i = 0; i < 20000; i++) {
        uint8_t chunk[300];
        unsigned size = (unsigned)g_test_rand_int_range(0, sizeof(chunk));
        uint64_t at = (uint64_t)g_test_rand_int_range(0, (gint)(sizeof(model) + 200));
        for (unsigned j = 0; j < size; j++)
            chunk[j] = (uint8_t)g_test_rand_int();
        bool fits = at + size <= sizeof(model);
        g_assert_cmpint(mem_write(m, GPA(RAM_BASE + at), chunk, size), ==, fits || !size ? 0 : -EFAULT);
        if (fits)
            memcpy(model + at, chunk, size);
        at = (uint64_t)g_test_rand_int_range(0, (gint)sizeof(model) - 300);
        g_assert_cmpint(mem_read(m, GPA(RAM_BASE + at), got, 300), ==, 0);
        g_assert_cmpmem(got, 300, model + at, 300);
    }
    g_assert_cmpint(mem_read(m, GPA(RAM_BASE - 1), got, 2), ==, -EFAULT);
    g_assert_cmpint(mem_read(m, GPA(UINT64_MAX), got, 2), ==, -EFAULT);
    g_assert_null(mem_host_read(m, GPA(RAM_BASE + RAM_SIZE - 4), 8)); /* crosses blocks */
    g_assert_nonnull(mem_host_read(m, GPA(RAM_BASE + RAM_SIZE - 8), 8));
}

static void test_words(void)
{
    struct spy spy;
    AUTO(mem) m = new_ram(&spy);
    uint64_t v = 0, old = 5;
    g_assert_cmpint(mem_cas64(m, GPA(RAM_BASE + 8), &old, 7), ==, -EAGAIN);
    g_assert_cmpuint(old, ==, 0);
    g_assert_cmpint(mem_cas64(m, GPA(RAM_BASE + 8), &old, UINT64_C(0x0102030405060708)), ==, 0);
    g_assert_cmpint(mem_load64(m, GPA(RAM_BASE + 8), &v), ==, 0);
    g_assert_cmphex(v, ==, UINT64_C(0x0102030405060708));
    uint8_t first;
    mem_read(m, GPA(RAM_BASE + 8), &first, 1);
    g_assert_cmpuint(first, ==, 8); /* little-endian in guest memory on every host */
    g_assert_cmpint(mem_load64(m, GPA(RAM_BASE + 4), &v), ==, -EFAULT);
    g_assert_cmpint(mem_load64(m, GPA(0), &v), ==, -EFAULT);
    g_assert_cmpint(mem_cas64(m, GPA(ROM_BASE), &old, 1), ==, -EROFS);
}

/* The rule of tracking: whoever may write without telling is asked back before anybody relies on it. */
static void test_code_tracking(void)
{
    struct spy spy;
    AUTO(mem) m = new_ram(&spy);
    struct gpa page = GPA(RAM_BASE + 3 * 4096);
    const struct mem_block *b = mem_find(m, page);
    mem_track_code(m, b, page);
    g_assert_cmpuint(spy.revokes, ==, 0); /* nobody had permission */
    g_assert_false(mem_hand_out(b, page));
    mem_write(m, GPA(page.v - 8), "0123456789abcdef", 16);
    g_assert_cmpuint(spy.writes, ==, 1);
    g_assert_cmphex(spy.written_start, ==, page.v); /* only the part on the tracked page */
    g_assert_cmpuint(spy.written_size, ==, 8);
    mem_untrack_code(b, page);
    g_assert_true(mem_hand_out(b, page));
    mem_write(m, page, "x", 1);
    g_assert_cmpuint(spy.writes, ==, 1);
    mem_track_code(m, b, GPA(page.v + 100));
    g_assert_cmpuint(spy.revokes, ==, 1);
    g_assert_cmphex(spy.revoked_start, ==, page.v);
    g_assert_cmphex(spy.revoked_size, ==, 4096);
    const struct mem_block *rom = mem_find(m, GPA(ROM_BASE));
    g_assert_false(mem_hand_out(rom, GPA(ROM_BASE)));
}

static void test_watch(void)
{
    struct spy spy;
    AUTO(mem) m = new_ram(&spy);
    struct gpa page = GPA(RAM_BASE);
    const struct mem_block *b = mem_find(m, page);
    g_assert_true(mem_hand_out(b, page));
    mem_watch(m, page, 4097, true);
    g_assert_cmpuint(spy.revokes, ==, 1);
    g_assert_false(mem_hand_out(b, page));
    g_assert_false(mem_hand_out(b, GPA(page.v + 4096)));
    mem_watch(m, page, 4097, false);
    g_assert_true(mem_hand_out(b, page));
}

/* Memory with a chip behind it: stores are the chip's, loads while it is hidden. Everybody else reaches it.
 */
static void test_hiding(void)
{
    struct spy spy;
    AUTO(mem) m = new_ram(&spy);
    uint64_t value;
    const struct mem_block *rom = mem_find(m, GPA(ROM_BASE)), *ram = mem_find(m, GPA(RAM_BASE));
    g_assert_false(mem_is_chip(ram, true));
    g_assert_true(mem_is_chip(rom, true));
    g_assert_false(mem_is_chip(rom, false));
    mem_hide(m, GPA(ROM_BASE), true);
    g_assert_true(mem_is_chip(rom, false));
    g_assert_cmpuint(spy.revokes, ==, 1);
    g_assert_cmphex(spy.revoked_start, ==, ROM_BASE);
    g_assert_cmphex(spy.revoked_size, ==, rom->size);
    g_assert_true(mem_find(m, GPA(ROM_BASE)) == rom);
    g_assert_cmpint(mem_read(m, GPA(ROM_BASE), &value, 8), ==, 0);
    mem_hide(m, GPA(ROM_BASE), true);
    mem_hide(m, GPA(ROM_BASE), false);
    g_assert_false(mem_is_chip(rom, false));
    g_assert_cmpuint(spy.revokes, ==, 1); /* already; and nobody minds seeing it again */
    mem_hide(m, GPA(RAM_BASE), true);     /* nothing is behind RAM */
    g_assert_false(mem_is_chip(ram, false));
    g_assert_cmpuint(spy.revokes, ==, 1);
}

static void test_dirty_log(void)
{
    struct spy spy;
    AUTO(mem) m = new_ram(&spy);
    const struct mem_block *b = mem_find(m, GPA(RAM_BASE));
    uint8_t bitmap[RAM_SIZE / 4096 / 8], model[sizeof(bitmap)];
    mem_write(m, GPA(RAM_BASE), "before", 6);
    mem_log_start(m);
    for (unsigned round = 0; round < 200; round++) {
        memset(model, 0, sizeof(model));
        for (unsigned i = 0; i < 10; i++) {
            uint64_t at = (uint64_t)g_test_rand_int_range(0, RAM_SIZE - 8), old = 0;
            switch (g_test_rand_int_range(0, 3)) {
            case 0:
                mem_write(m, GPA(RAM_BASE + at), "abcdefgh", 8);
                model[(at + 7) / 4096 / 8] |= (uint8_t)(1 << (at + 7) / 4096 % 8);
                break;
            case 1: /* whoever may write freely may do so at any time: dirty from the permission on */
                g_assert_true(mem_hand_out(b, GPA(RAM_BASE + at)));
                break;
            default:
                at &= ~UINT64_C(7);
                mem_load64(m, GPA(RAM_BASE + at), &old);
                mem_cas64(m, GPA(RAM_BASE + at), &old, old + 1);
                break;
            }
            model[at / 4096 / 8] |= (uint8_t)(1 << at / 4096 % 8);
        }
        unsigned revokes = spy.revokes;
        mem_log_take(m, b, bitmap);
        g_assert_cmpmem(bitmap, sizeof(bitmap), model, sizeof(model));
        g_assert_cmpuint(spy.revokes, ==, revokes + 1);
    }
}

/* Pages go and read as zeroes; who watches writes is told, and what is no writable RAM stays. */
static void test_discard(void)
{
    struct spy spy;
    AUTO(mem) m = new_ram(&spy);
    const struct mem_block *b = mem_find(m, GPA(RAM_BASE));
    uint8_t bitmap[RAM_SIZE / 4096 / 8] = {0};
    struct stat status;
    memset(b->host, 0xa5, RAM_SIZE);
    mem_track_code(m, b, GPA(RAM_BASE + 5 * 4096));
    mem_log_start(m);
    g_assert_cmpint(mem_discard(m, GPA(RAM_BASE + 4096), 9 * 4096), ==, 0);
    g_assert_cmpint(fstat(b->fd, &status), ==, 0);
    g_assert_cmpint(status.st_blocks * 512, ==, RAM_SIZE - 9 * 4096);
    for (unsigned i = 0; i < RAM_SIZE; i++)
        g_assert_cmphex(b->host[i], ==, i < 4096 || i >= 10 * 4096 ? 0xa5 : 0);
    g_assert_cmpuint(spy.writes, ==, 1);
    g_assert_cmphex(spy.written_start, ==, RAM_BASE + 5 * 4096);
    g_assert_cmphex(spy.written_size, ==, 4096);
    mem_log_take(m, b, bitmap);
    g_assert_cmphex(bitmap[0] | bitmap[1] << 8, ==, 0x3fe);
    /* Across the border of two blocks. */
    g_assert_cmpint(mem_discard(m, GPA(SECOND_BASE - 4096), 8192), ==, 0);
    g_assert_cmphex(b->host[RAM_SIZE - 1], ==, 0);
    /* What cannot be. */
    g_assert_cmpint(mem_discard(m, GPA(RAM_BASE + 1), 4096), ==, -EINVAL);
    g_assert_cmpint(mem_discard(m, GPA(RAM_BASE), 4097), ==, -EINVAL);
    g_assert_cmpint(mem_discard(m, GPA(ROM_BASE), 4096), ==, -EROFS);
    g_assert_cmpint(mem_discard(m, GPA(RAM_BASE - 4096), 8192), ==, -EFAULT);
    g_assert_cmpint(mem_discard(m, GPA(UINT64_MAX - 4095), 8192), ==, -EFAULT);
    g_assert_cmpint(mem_discard(m, GPA(RAM_BASE), 0), ==, 0);
    g_assert_cmphex(b->host[0], ==, 0xa5);
}

/* A restored block: zeroes, and never what the file holds; small pieces stay as they are. */
static void test_discard_private(void)
{
    enum { PIECE = 16 * 4096 };
    struct spy spy;
    AUTO(mem) m = new_ram(&spy);
    const struct mem_block *b = mem_find(m, GPA(RAM_BASE));
    const int fd = memfile_create("saved", RAM_SIZE);
    static uint8_t saved[RAM_SIZE];
    uint64_t start, end;
    memset(saved, 0x11, sizeof(saved));
    g_assert_cmpint(pwrite(fd, saved, RAM_SIZE / 2, 0), ==, RAM_SIZE / 2);
    mem_write(m, GPA(RAM_BASE + RAM_SIZE - 4096), saved, 1); /* dirty before */
    g_assert_cmpint(mem_restore(m, b, dup(fd), 0), ==, 0);
    g_assert_true(mem_next_data(b, 0, &start, &end) && !start && end == RAM_SIZE / 2);
    g_assert_false(mem_next_data(b, end, &start, &end));
    for (unsigned round = 0; round < 3; round++) {
        memset(b->host + PIECE, 0x22, PIECE);
        g_assert_cmpint(mem_discard(m, GPA(RAM_BASE + PIECE), PIECE), ==, 0);
        for (unsigned i = 0; i < 2 * PIECE; i++)
            g_assert_cmphex(b->host[i], ==, i < PIECE ? 0x11 : 0);
    }
    g_assert_cmpint(mem_discard(m, GPA(RAM_BASE + PIECE + 4096), 4096), ==, 0); /* of a piece that went */
    g_assert_cmpint(mem_discard(m, GPA(RAM_BASE + 4096), 4096), ==, -ENOSPC);
    g_assert_cmphex(b->host[4096], ==, 0x11);
    /* Half of it went before, and the half of it that the file has no data for. */
    g_assert_cmpint(mem_discard(m, GPA(RAM_BASE + PIECE / 2), PIECE), ==, 0);
    g_assert_cmpint(mem_discard(m, GPA(RAM_BASE + RAM_SIZE / 2 - 4096), PIECE), ==, 0);
    g_assert_cmphex(b->host[PIECE / 2 - 1], ==, 0x11);
    g_assert_cmphex(b->host[PIECE / 2] | b->host[2 * PIECE - 1] | b->host[RAM_SIZE / 2 - 1], ==, 0);
    /* What is written into holes of the file is data from then on, as before. */
    mem_write(m, GPA(RAM_BASE + RAM_SIZE - 4096), saved, 1);
    g_assert_true(mem_next_data(b, RAM_SIZE - 8192, &start, &end) && start == RAM_SIZE - 4096);
    uint8_t byte;
    g_assert_cmpint(pread(fd, &byte, 1, PIECE), ==, 1);
    g_assert_cmphex(byte, ==, 0x11); /* nobody touched the file */
    close(fd);
}

/* Emptied, whatever it was before; a file that it was mapped from is not touched. */
static void test_clear(void)
{
    struct spy spy;
    AUTO(mem) m = new_ram(&spy);
    const struct mem_block *b = mem_find(m, GPA(RAM_BASE));
    const int fd = memfile_create("saved", RAM_SIZE);
    static uint8_t ones[RAM_SIZE], zeroes[RAM_SIZE];
    uint64_t start, end;
    memset(ones, 0x11, sizeof(ones));
    g_assert_cmpint(pwrite(fd, ones, RAM_SIZE, 0), ==, RAM_SIZE);
    for (unsigned private = 0; private < 2; private ++) {
        if (private)
            g_assert_cmpint(mem_restore(m, b, dup(fd), 0), ==, 0);
        mem_write(m, GPA(RAM_BASE), ones, RAM_SIZE / 2);
        g_assert_cmpint(mem_clear(m, b), ==, 0);
        g_assert_cmpmem(b->host, RAM_SIZE, zeroes, RAM_SIZE);
        mem_write(m, GPA(RAM_BASE + 8192), ones, 4096);
        g_assert_true(mem_next_data(b, 0, &start, &end) && start <= 8192 && end >= 12288);
        g_assert_cmpint(mem_discard(m, GPA(RAM_BASE + 8192), 4096), ==, 0);
        g_assert_cmphex(b->host[8192], ==, 0);
    }
    uint8_t byte;
    g_assert_cmpint(pread(fd, &byte, 1, 8192), ==, 1);
    g_assert_cmphex(byte, ==, 0x11);
    close(fd);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/mem/refusals", test_refusals);
    g_test_add_func("/mem/copies", test_copies);
    g_test_add_func("/mem/words", test_words);
    g_test_add_func("/mem/code-tracking", test_code_tracking);
    g_test_add_func("/mem/watch", test_watch);
    g_test_add_func("/mem/dirty-log", test_dirty_log);
    g_test_add_func("/mem/discard", test_discard);
    g_test_add_func("/mem/discard-private", test_discard_private);
    g_test_add_func("/mem/clear", test_clear);
    g_test_add_func("/mem/hiding", test_hiding);
    return g_test_run();
}
