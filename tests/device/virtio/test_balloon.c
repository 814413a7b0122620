/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* virtio-balloon: what goes back to the host and what must not, statistics, drivers that break rules. */
#include <sys/stat.h>

#include "base/bits.h"
#include "base/byteorder.h"
#include "device/virtio/balloon.h"
#include "driver.h"

enum { INFLATE, DEFLATE, STATS, REPORTS_UNCOUNTED, REPORTS };
enum { TARGET = R_CONFIG, ACTUAL = R_CONFIG + 4, POISON = R_CONFIG + 12 };

/* Section 5.5.3. */
#define F_MUST_TELL UINT64_C(1)
#define F_STATS UINT64_C(2)
#define F_OOM UINT64_C(4)
#define F_HINT UINT64_C(8)
#define F_POISON UINT64_C(16)
#define F_REPORTS UINT64_C(32)
#define F_ALL (VIRTIO_F_VERSION_1 | F_MUST_TELL | F_STATS | F_OOM | F_HINT | F_POISON | F_REPORTS)

enum { PAGE = 4096, PAGES = DRV_RAM_SIZE / PAGE, LIST = DRV_DATA, FIRST = DRV_DATA / PAGE + 16 };

struct bench {
    struct drv t;
    unsigned notices;
};

static void on_notice(void *opaque, enum device_notice what)
{
    g_assert_cmpint(what, ==, DEVICE_NOTICE_BALLOON);
    ((struct bench *)opaque)->notices++;
}

static void up(struct bench *b, uint64_t features)
{
    memset(b, 0, sizeof(*b));
    const struct device_wires wires = {.notice = on_notice, .opaque = b};
    drv_new_wired(&b->t, &device_virtio_balloon, &wires, NULL);
    drv_start(&b->t, features, 16);
    for (unsigned page = 0; page < FIRST; page++) /* all is there, so that what goes can be counted */
        drv_at(&b->t, DRV_RAM + page * PAGE)[PAGE - 1] = 0;
    memset(drv_at(&b->t, DRV_RAM + FIRST * PAGE), 0x5a, (PAGES - FIRST) * PAGE);
}

/* Host memory that the guest's RAM takes. */
static uint64_t resident(struct bench *b)
{
    struct stat status;
    g_assert_cmpint(fstat(mem_find(b->t.mem, GPA(DRV_RAM))->fd, &status), ==, 0);
    return (uint64_t)status.st_blocks * 512;
}

/* Turns of the main loop until the device has nothing left to do by itself. */
static void settle(struct bench *b)
{
    clock_start(b->t.clock);
    for (unsigned quiet = 0; quiet < 3;)
        quiet = g_main_context_iteration(NULL, FALSE) ? 0 : quiet + 1;
    clock_stop(b->t.clock);
}

static bool used(struct bench *b, unsigned queue)
{
    unsigned id;
    uint32_t len;
    if (!drv_used(&b->t, queue, &id, &len))
        return false;
    g_assert_cmpuint(len, ==, 0);
    return true;
}

/* Sends a list of page numbers and waits for its end. */
static void send_list(struct bench *b, unsigned queue, const uint32_t *pfn, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        st32le(drv_at(&b->t, DRV_RAM + LIST + i * 4), pfn[i]);
    drv_add(&b->t, queue, (struct drv_buffer[]){{DRV_RAM + LIST, n * 4, false}}, 1, 0);
    drv_kick(&b->t, queue);
    settle(b);
    g_assert_true(used(b, queue));
}

static uint32_t pfn_of(unsigned page)
{
    return (uint32_t)(DRV_RAM / PAGE + page);
}

/* What byte does the whole page hold? */
static int holds(struct bench *b, unsigned page)
{
    const uint8_t *p = drv_at(&b->t, DRV_RAM + (uint64_t)page * PAGE);
    for (unsigned i = 1; i < PAGE; i++)
        if (p[i] != p[0])
            return -1;
    return p[0];
}

static void test_inflate(void)
{
    /* Up, down, scattered, and the same one twice. */
    static const unsigned pages[] = {FIRST,      FIRST + 1,  FIRST + 2,  FIRST + 9, FIRST + 8,
                                     FIRST + 30, FIRST + 20, FIRST + 20, FIRST + 2, FIRST + 31};
    struct bench b;
    struct balloon_state s;
    up(&b, F_ALL);
    const uint64_t before = resident(&b);
    uint32_t pfn[G_N_ELEMENTS(pages)];
    for (unsigned i = 0; i < G_N_ELEMENTS(pages); i++)
        pfn[i] = pfn_of(pages[i]);
    send_list(&b, INFLATE, pfn, G_N_ELEMENTS(pages));
    g_assert_cmpuint(before - resident(&b), ==, 8 * PAGE);
    for (unsigned page = FIRST; page < FIRST + 64; page++) {
        bool in = false;
        for (unsigned i = 0; i < G_N_ELEMENTS(pages); i++)
            in = in || pages[i] == page;
        g_assert_cmphex((unsigned)holds(&b, page), ==, in ? 0 : 0x5a);
    }
    virtio_balloon_get(b.t.d, &s);
    g_assert_cmpuint(s.given_back, ==, 8 * PAGE);     /* once each, so neighbours were found */
    send_list(&b, DEFLATE, pfn, G_N_ELEMENTS(pages)); /* answered, and no more */
    g_assert_cmphex((unsigned)holds(&b, FIRST + 3), ==, 0x5a);
    g_assert_cmphex(drv_read(&b.t, R_STATUS), ==, 15);
    drv_free(&b.t);
}

/* Random lists against a model of which pages are gone, in both formats of rings. */
static void test_random_lists(void)
{
    for (unsigned round = 0; round < 20; round++) {
        struct bench b;
        bool gone[PAGES] = {false};
        up(&b, round & 1 ? F_ALL : F_ALL | VIRTIO_F_RING_PACKED | VIRTIO_F_EVENT_IDX);
        for (unsigned i = 0; i < 4; i++) {
            uint32_t pfn[700];
            unsigned n = (unsigned)g_test_rand_int_range(1, G_N_ELEMENTS(pfn));
            for (unsigned k = 0; k < n; k++) {
                unsigned page = (unsigned)g_test_rand_int_range(FIRST, PAGES);
                pfn[k] = pfn_of(page);
                gone[page] = true;
            }
            send_list(&b, INFLATE, pfn, n);
        }
        for (unsigned page = FIRST; page < PAGES; page++)
            g_assert_cmphex((unsigned)holds(&b, page), ==, gone[page] ? 0 : 0x5a);
        drv_free(&b.t);
    }
}

/* Pages of nobody, of ROM, at the end of everything: the others of the list are given all the same. */
static void test_wild_lists(void)
{
    struct bench b;
    up(&b, F_ALL);
    memset(b.t.rom, 0x77, DRV_ROM_SIZE);
    const uint32_t pfn[] = {0,
                            DRV_ROM / PAGE,
                            DRV_ROM / PAGE + 1,
                            UINT32_MAX,
                            UINT32_MAX - 1,
                            pfn_of(FIRST + 2),
                            pfn_of(PAGES) + 7,
                            UINT32_MAX,
                            0};
    send_list(&b, INFLATE, pfn, G_N_ELEMENTS(pfn));
    g_assert_cmphex((unsigned)holds(&b, FIRST + 2), ==, 0);
    g_assert_cmphex(b.t.rom[0], ==, 0x77);
    g_assert_cmphex(b.t.rom[PAGE], ==, 0x77);
    g_assert_cmphex(drv_read(&b.t, R_STATUS), ==, 15);
    drv_free(&b.t);
}

/* A list as long as can be, of one page: worked off in turns, and until then the device answers. */
static void test_endless_list(void)
{
    struct bench b;
    struct drv_buffer all[16];
    up(&b, F_ALL | VIRTIO_F_INDIRECT_DESC);
    for (unsigned i = 0; i < G_N_ELEMENTS(all); i++)
        all[i] = (struct drv_buffer){DRV_RAM + LIST, DRV_RAM_SIZE - LIST, false};
    drv_add(&b.t, INFLATE, all, G_N_ELEMENTS(all), DRV_RAM + LIST - PAGE);
    drv_kick(&b.t, INFLATE);
    g_assert_false(used(&b, INFLATE)); /* a kick does a bounded part of it */
    g_assert_cmphex(drv_read(&b.t, R_STATUS), ==, 15);
    drv_write(&b.t, R_STATUS, 0); /* and need not be waited for */
    settle(&b);
    drv_start(&b.t, F_ALL, 16);
    send_list(&b, INFLATE, (uint32_t[]){pfn_of(FIRST)}, 1);
    drv_free(&b.t);
}

static void report(struct bench *b, unsigned queue, unsigned page, unsigned pages)
{
    drv_add(&b->t, queue, (struct drv_buffer[]){{DRV_RAM + (uint64_t)page * PAGE, pages * PAGE, true}}, 1, 0);
    drv_kick(&b->t, queue);
    settle(b);
}

/* Reports, in the queue as the specification numbers it and as drivers do that count only what there is. */
static void test_reports(void)
{
    static const struct {
        uint64_t without;
        unsigned queue;
    } kinds[] = {
        {0, REPORTS}, {0, REPORTS_UNCOUNTED}, {F_STATS, STATS}, {F_STATS, REPORTS}, {F_HINT, REPORTS}};
    for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++) {
        struct bench b;
        up(&b, F_ALL & ~kinds[i].without);
        const uint64_t before = resident(&b);
        report(&b, kinds[i].queue, FIRST + 8, 450); /* more than a portion */
        g_assert_true(used(&b, kinds[i].queue));
        g_assert_cmpuint(before - resident(&b), ==, 450 * PAGE);
        g_assert_cmphex((unsigned)holds(&b, FIRST + 7), ==, 0x5a);
        g_assert_cmphex((unsigned)holds(&b, FIRST + 8), ==, 0);
        g_assert_cmphex((unsigned)holds(&b, FIRST + 457), ==, 0);
        g_assert_cmphex((unsigned)holds(&b, FIRST + 458), ==, 0x5a);
        drv_free(&b.t);
    }
}

/* Without the feature there is no such queue. */
static void test_no_reports(void)
{
    struct bench b;
    up(&b, F_ALL & ~F_REPORTS);
    report(&b, REPORTS, FIRST, 100);
    g_assert_false(used(&b, REPORTS));
    g_assert_cmphex((unsigned)holds(&b, FIRST), ==, 0x5a);
    drv_free(&b.t);
}

/* Parts of pages stay; a guest that poisons its free pages keeps them. */
static void test_poison(void)
{
    struct bench b;
    up(&b, F_ALL);
    drv_add(&b.t, REPORTS, (struct drv_buffer[]){{DRV_RAM + FIRST * PAGE + 1, 2 * PAGE, true}}, 1, 0);
    drv_kick(&b.t, REPORTS);
    g_assert_true(used(&b, REPORTS));
    g_assert_cmphex((unsigned)holds(&b, FIRST), ==, 0x5a);
    g_assert_cmphex((unsigned)holds(&b, FIRST + 1), ==, 0);
    g_assert_cmphex((unsigned)holds(&b, FIRST + 2), ==, 0x5a);
    drv_write(&b.t, POISON, 0xaaaaaaaa);
    g_assert_cmphex(drv_read(&b.t, POISON), ==, 0xaaaaaaaa);
    report(&b, REPORTS, FIRST + 8, 4);
    g_assert_true(used(&b, REPORTS));
    g_assert_cmphex((unsigned)holds(&b, FIRST + 8), ==, 0x5a);
    drv_write(&b.t, POISON, 0);
    report(&b, REPORTS, FIRST + 8, 4);
    g_assert_cmphex((unsigned)holds(&b, FIRST + 8), ==, 0);
    drv_free(&b.t);
}

static void put_stat(struct bench *b, unsigned i, uint16_t tag, uint64_t value)
{
    st16le(drv_at(&b->t, DRV_RAM + LIST + i * 10), tag);
    st64le(drv_at(&b->t, DRV_RAM + LIST + i * 10 + 2), value);
}

static void give_stats(struct bench *b, unsigned n)
{
    const uint16_t old = b->t.q[STATS].added;
    const bool wrap = b->t.q[STATS].added_wrap;
    drv_add(&b->t, STATS, (struct drv_buffer[]){{DRV_RAM + LIST, n * 10, false}}, 1, 0);
    g_assert_true(drv_kick_wanted(&b->t, STATS, old, wrap));
    drv_kick(&b->t, STATS);
}

static void check_statistics(uint64_t features)
{
    struct bench b;
    struct balloon_state s;
    up(&b, features);
    virtio_balloon_ask(b.t.d); /* nothing to ask yet: as soon as there is */
    put_stat(&b, 0, 4, 111);
    put_stat(&b, 1, 0x1234, 5); /* unknown */
    put_stat(&b, 2, 5, UINT64_MAX);
    give_stats(&b, 3);
    g_assert_true(used(&b, STATS));
    for (uint64_t round = 0; round < 40; round++) {
        put_stat(&b, 0, 4, round);
        give_stats(&b, 3);
        g_assert_false(used(&b, STATS)); /* the device keeps it */
        virtio_balloon_get(b.t.d, &s);
        g_assert_cmphex(s.stats_known, ==, 1 << 4 | 1 << 5);
        g_assert_cmpuint(s.stats[BALLOON_STAT_FREE], ==, round);
        g_assert_cmphex(s.stats[BALLOON_STAT_TOTAL], ==, UINT64_MAX);
        g_assert_cmpint(s.stats_time, >, 0);
        drv_acknowledge(&b.t);
        drv_interrupts(&b.t, STATS, true);
        virtio_balloon_ask(b.t.d);
        g_assert_true(drv_pin(&b.t));
        g_assert_true(used(&b, STATS));
    }
    drv_write(&b.t, R_STATUS, 0);
    virtio_balloon_get(b.t.d, &s);
    g_assert_cmpuint(s.stats_known, ==, 0);
    virtio_balloon_ask(b.t.d);
    drv_free(&b.t);
}

static void test_statistics(void)
{
    check_statistics(F_ALL);
    check_statistics(F_ALL | VIRTIO_F_EVENT_IDX);
    check_statistics(F_ALL | VIRTIO_F_EVENT_IDX | VIRTIO_F_RING_PACKED);
}

static void test_sizes(void)
{
    struct bench b;
    struct balloon_state s;
    up(&b, F_ALL);
    g_assert_cmphex(b.t.features & (F_MUST_TELL | F_HINT), ==, 0);
    virtio_balloon_set_target(b.t.d, 300);
    g_assert_cmphex(drv_acknowledge(&b.t), ==, 2); /* the configuration has changed */
    g_assert_cmpuint(drv_read(&b.t, TARGET), ==, 300);
    drv_write(&b.t, TARGET, 5); /* not the driver's */
    g_assert_cmpuint(drv_read(&b.t, TARGET), ==, 300);
    drv_write(&b.t, ACTUAL, 256);
    drv_write(&b.t, ACTUAL, 256); /* no news */
    g_assert_cmpuint(b.notices, ==, 1);
    virtio_balloon_get(b.t.d, &s);
    g_assert_true(s.driven && s.target == 300 && s.actual == 256);
    device_reset(b.t.d); /* the wish stays, the pages are the guest's again */
    g_assert_cmpuint(b.notices, ==, 2);
    virtio_balloon_get(b.t.d, &s);
    g_assert_true(!s.driven && s.target == 300 && !s.actual);
    drv_free(&b.t);
}

/* Saved with a long list half done and a buffer of statistics waiting: the copy goes on with both. */
static void test_saved_half_way(void)
{
    struct bench a, b;
    struct balloon_state s;
    up(&a, F_ALL);
    up(&b, F_ALL);
    put_stat(&a, 0, 4, 99);
    give_stats(&a, 1);
    for (unsigned i = 0; i < 2000; i++)
        st32le(drv_at(&a.t, DRV_RAM + LIST + PAGE + i * 4), i == 1999 ? pfn_of(PAGES - 1) : pfn_of(FIRST));
    drv_add(&a.t, INFLATE, (struct drv_buffer[]){{DRV_RAM + LIST + PAGE, 8000, false}}, 1, 0);
    drv_kick(&a.t, INFLATE);
    g_assert_cmphex((unsigned)holds(&a, PAGES - 1), ==, 0x5a);
    g_autofree uint8_t *state = g_malloc(device_state_size(a.t.d->type));
    device_state_save(a.t.d, state);
    memcpy(b.t.ram, a.t.ram, DRV_RAM_SIZE);
    memcpy(b.t.q, a.t.q, sizeof(a.t.q));
    for (unsigned i = 0; i < 5; i++) {
        b.t.q[i].desc = b.t.ram + (a.t.q[i].desc - a.t.ram);
        b.t.q[i].driver = b.t.ram + (a.t.q[i].driver - a.t.ram);
        b.t.q[i].device = b.t.ram + (a.t.q[i].device - a.t.ram);
    }
    g_assert_true(device_state_load(b.t.d, state));
    settle(&b);
    g_assert_true(used(&b, INFLATE));
    g_assert_cmphex((unsigned)holds(&b, PAGES - 1), ==, 0);
    virtio_balloon_get(b.t.d, &s);
    g_assert_cmpuint(s.stats[BALLOON_STAT_FREE], ==, 99);
    virtio_balloon_ask(b.t.d);
    g_assert_true(used(&b, STATS));
    drv_free(&a.t);
    drv_free(&b.t);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/balloon/inflate", test_inflate);
    g_test_add_func("/balloon/random-lists", test_random_lists);
    g_test_add_func("/balloon/wild-lists", test_wild_lists);
    g_test_add_func("/balloon/endless-list", test_endless_list);
    g_test_add_func("/balloon/reports", test_reports);
    g_test_add_func("/balloon/no-reports", test_no_reports);
    g_test_add_func("/balloon/poison", test_poison);
    g_test_add_func("/balloon/statistics", test_statistics);
    g_test_add_func("/balloon/sizes", test_sizes);
    g_test_add_func("/balloon/saved-half-way", test_saved_half_way);
    return g_test_run();
}
