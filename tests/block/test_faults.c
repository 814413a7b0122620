/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The host's storage fails at every point of random sequences on images of each format: whoever is told that
 * something worked can rely on it. */
/*
 * Each sequence runs once to count what reaches the file, then again for each operation that did, which
 * fails: once or from then on, with EIO or ENOSPC, a write also after some of its sectors. Afterwards the
 * storage is well again, and the image must open and hold what was acknowledged and flushed; of what failed,
 * either.
 *
 * HOSTEL_FAULTS=N  runs for each kind of image (150)
 * HOSTEL_SEED=N    of the first sequence; printed
 */
#include <errno.h>
#include <glib.h>
#include <malloc.h>
#include <stdlib.h>

#include "base/bits.h"
#include "powercut/verify.h"

enum { NOTES = 80 };

static struct {
    unsigned runs;
    uint32_t seed;
} plan;

struct tally {
    unsigned runs, fired, told, kinds[BLOCK_FAULT_KINDS];
    GRand *rand;
};

/* One run, and a look at what it left. */
static bool run(const struct image_setup *setup, uint32_t seed, const struct script_fault *fault,
                struct tally *t)
{
    static const char *const kinds[] = {"read", "write", "flush", "discard", "zero", "resize"};
    struct script *s = script_run(setup, seed, NOTES, fault);
    const unsigned notes = block_record_count(s->record);
    const struct moment at = model_moment(s->model, notes);
    const struct verdict v = {.script = s, .at = at, .rand = t->rand};
    g_autofree char *wrong = verify(&v, s->live);
    if (wrong) {
        g_test_message("%s, HOSTEL_SEED=%u: %s %u and %u behind it fail (%s, after %u bytes): %s",
                       setup->name, seed, kinds[fault->kind], fault->first, fault->count - 1,
                       g_strerror(-fault->error), (unsigned)fault->partial, wrong);
        g_test_fail();
    }
    t->runs++;
    t->fired += script_fired(s);
    t->told += s->failed > 0;
    t->kinds[fault->kind]++;
    script_free(s);
    return !wrong;
}

/* A fault of the kind at the index. */
static struct script_fault make(struct tally *t, enum block_fault_kind kind, unsigned index)
{
    struct script_fault fault = {.kind = kind, .first = index};
    fault.count = g_rand_boolean(t->rand) ? 1 : INT_MAX;
    fault.error =
        g_rand_boolean(t->rand) && kind != BLOCK_FAULT_FLUSH && kind != BLOCK_FAULT_READ ? -ENOSPC : -EIO;
    if (kind == BLOCK_FAULT_WRITE && g_rand_boolean(t->rand))
        fault.partial = BLOCK_SECTOR * (uint64_t)g_rand_int_range(t->rand, 1, 20);
    return fault;
}

/* Every index of every kind of one sequence; false when the runs are over. */
static bool try_all(const struct image_setup *setup, uint32_t seed, struct tally *t)
{
    struct script *s = script_run(setup, seed, NOTES, NULL);
    unsigned counts[BLOCK_FAULT_KINDS];
    for (unsigned k = 0; k < BLOCK_FAULT_KINDS; k++)
        counts[k] = script_count(s, k);
    script_free(s);
    for (unsigned k = 0; k < BLOCK_FAULT_KINDS; k++) {
        /* Few runs are spread over a sequence, many go through all of it. */
        const unsigned share = MAX(plan.runs / 10, 1), step = MAX(counts[k] / share, 1);
        for (unsigned i = g_rand_int(t->rand) % step; i < counts[k];
             i += k == BLOCK_FAULT_READ ? 2 * step : step) {
            const struct script_fault fault = make(t, k, i);
            if (t->runs >= plan.runs || !run(setup, seed, &fault, t))
                return false;
        }
    }
    return true;
}

static void test_setup(gconstpointer setup)
{
    struct tally t = {.rand = g_rand_new_with_seed(plan.seed)};
    for (uint32_t seed = plan.seed; try_all(setup, seed, &t); seed++)
        ;
    g_test_message(
        "%u runs, the fault happened in %u, an operation failed in %u; %u reads, %u writes, %u flushes, "
        "%u discards, %u zeroes, %u sizes",
        t.runs, t.fired, t.told, t.kinds[0], t.kinds[1], t.kinds[2], t.kinds[3], t.kinds[4], t.kinds[5]);
    g_assert_true(g_test_failed() || t.fired > t.runs / 2);
    g_rand_free(t.rand);
}

/* --- a file that cannot be made shorter --- */

/* What the disk gave up stays in the file then, and is no zeroes for who comes after it. */
static void test_cut(gconstpointer opaque)
{
    const struct image_setup *setup = opaque;
    const uint64_t unit = 64 * KiB, half = setup->size / 2;
    g_autoptr(GError) error = NULL;
    AUTO(store) image = image_make(setup);
    struct disk *fault = block_fault_new(store_disk(image, false, true));
    struct disk *b = image_open(setup, fault, NULL, 0, false, NULL, &error);
    g_assert_no_error(error);
    g_autofree uint8_t *bytes = g_malloc(half);
    memset(bytes, 0x77, half);
    g_assert_cmpint(block_pwrite(b, bytes, half, half), ==, 0);
    g_assert_cmpint(block_flush(b), ==, 0);
    block_fault_set(fault, BLOCK_FAULT_RESIZE, 0, UINT_MAX, -ENOSPC, 0);
    int status = block_resize(b, half);
    block_fault_set(fault, BLOCK_FAULT_RESIZE, 0, 0, 0, 0);
    if (status)
        g_test_skip("it cannot become smaller, or says that it did not");
    for (uint64_t at = 0; !status && at < half; at += unit) {
        g_assert_cmpint(block_pwrite(b, bytes, BLOCK_SECTOR, at), ==, 0);
        g_assert_cmpint(block_pread(b, bytes + BLOCK_SECTOR, unit - BLOCK_SECTOR, at + BLOCK_SECTOR), ==, 0);
        for (uint64_t k = BLOCK_SECTOR; k < unit; k++)
            g_assert_cmpuint(bytes[k], ==, 0);
        memset(bytes, 0x77, unit);
    }
    block_free(b);
}

/* --- zeroes, if that is fast --- */

/* Bytes written to the file by what was noted from note `from` on. */
static uint64_t written(struct block_record *record, unsigned from)
{
    uint64_t sum = 0;
    for (unsigned i = from; i < block_record_count(record); i++) {
        const struct block_note *note = block_record_note(record, i);
        sum += note->kind == BLOCK_NOTE_WRITE ? note->size : 0;
    }
    return sum;
}

/* With BLOCK_ONLY_FAST a range is made zero without being written, or that is refused; over a base, too, and
 * where a part of it has a place and another one has none. */
static void test_fast_zero(gconstpointer opaque)
{
    enum { ROUNDS = 60, MOST = 128 * KiB };
    const struct image_setup *setup = opaque;
    g_autoptr(GError) error = NULL;
    AUTO(store) image = image_make(setup);
    AUTO(store) base = setup->base_size ? image_base(setup) : NULL;
    AUTO(block_record) record = block_record_new();
    struct disk *file = block_recorder_new(store_disk(image, false, false), record);
    struct disk *b = image_open(setup, file, base, 0, false, NULL, &error);
    g_assert_no_error(error);
    g_autofree uint8_t *bytes = g_malloc(MOST);
    GRand *rand = g_rand_new_with_seed(plan.seed);
    unsigned done = 0;
    for (unsigned i = 0; i < ROUNDS; i++) {
        const uint64_t size = (uint64_t)g_rand_int_range(rand, 32, MOST / BLOCK_SECTOR) * BLOCK_SECTOR;
        const uint64_t last = (b->facts.size - size) / BLOCK_SECTOR;
        const uint64_t at = (uint64_t)g_rand_int_range(rand, 0, (gint32)last) * BLOCK_SECTOR;
        memset(bytes, 0x5a, size);
        if (i % 3 == 0)
            g_assert_cmpint(block_pwrite(b, bytes, size / 4, at), ==, 0);
        const unsigned from = block_record_count(record);
        int status = block_zero(b, at, size, BLOCK_ONLY_FAST | (i % 2 ? BLOCK_MAY_UNMAP : 0));
        g_assert_true(status == 0 || status == -EOPNOTSUPP);
        g_assert_cmpuint(written(record, from), <=, size / 4);
        if (status)
            continue;
        done++;
        g_assert_cmpint(block_pread(b, bytes, size, at), ==, 0);
        for (uint64_t k = 0; k < size; k++)
            g_assert_cmpuint(bytes[k], ==, 0);
    }
    g_test_message("%u of %u were fast", done, (unsigned)ROUNDS);
    block_free(b);
    g_rand_free(rand);
}

static unsigned number(const char *name, unsigned otherwise)
{
    const char *text = g_getenv(name);
    return text && *text ? (unsigned)strtoul(text, NULL, 0) : otherwise;
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    mallopt(M_MMAP_THRESHOLD, 1 << 30); /* whole disks come and go: their pages should stay */
    mallopt(M_TRIM_THRESHOLD, 1 << 30);
    plan.runs = number("HOSTEL_FAULTS", 150);
    plan.seed = number("HOSTEL_SEED", (unsigned)g_test_rand_int());
    g_test_message("HOSTEL_SEED=%u", plan.seed);
    for (const struct image_setup *s = image_setups; s->name; s++)
        if (image_can(s)) {
            g_autofree char *path = g_strdup_printf("/block/faults/%s", s->name);
            g_test_add_data_func(path, s, test_setup);
            g_autofree char *fast = g_strdup_printf("/block/fast-zero/%s", s->name);
            g_test_add_data_func(fast, s, test_fast_zero);
            g_autofree char *cut = g_strdup_printf("/block/cut/%s", s->name);
            if (!s->base_size)
                g_test_add_data_func(cut, s, test_cut);
        }
    return g_test_run();
}
