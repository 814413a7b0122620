/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Random operations on an image; see script.h. */
#include "script.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "base/bits.h"

enum { OPS_MAX = 400, SNAPSHOTS_MAX = 3 };

static const struct block_driver *driver_of(const struct image_setup *setup)
{
    return block_driver_find(setup->driver);
}

const char *script_kind_name(enum script_kind kind)
{
    static const char *const names[] = {"write",  "read",   "zero",   "discard",  "compressed", "flush",
                                        "resize", "reopen", "repair", "snapshot", "apply",      "delete"};
    _Static_assert(G_N_ELEMENTS(names) == SCRIPT_KINDS, "a name for each");
    return names[kind];
}

bool script_can(const struct image_setup *setup, enum script_kind kind)
{
    const struct block_driver *driver = driver_of(setup);
    switch (kind) {
    case SCRIPT_COMPRESSED: return driver->write_compressed;
    case SCRIPT_RESIZE: return driver->resize;
    case SCRIPT_REPAIR: return driver->image && driver->image->check;
    case SCRIPT_SNAPSHOT:
    case SCRIPT_APPLY:
    case SCRIPT_DELETE: /* a refcount of one bit counts no second reference */
        return driver->image && driver->image->snapshot_create &&
               !(setup->options && strstr(setup->options, "refcount_bits=1"));
    default: return true;
    }
}

static unsigned notes(struct script *s)
{
    return block_record_count(s->record);
}

static uint32_t pick(struct script *s, uint32_t below)
{
    return below ? g_rand_int(s->rand) % below : 0;
}

/* Ends the program: without a fault nothing may fail, and with one nothing may be wrong. */
static G_GNUC_PRINTF(2, 3) void stop(const struct script *s, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *line = g_strdup_vprintf(format, args);
    va_end(args);
    g_autofree char *fault = s->plan.count ? g_strdup_printf(", fault of kind %u at %u, %u times",
                                                             s->plan.kind, s->plan.first, s->plan.count)
                                           : g_strdup("");
    g_error("%s, HOSTEL_SEED=%u%s, op %u: %s", s->setup->name, s->seed, fault, s->model->ops->len - 1, line);
}

/* --- faults --- */

unsigned script_count(const struct script *s, enum block_fault_kind kind)
{
    return s->seen[kind] + (s->fault ? block_fault_count(s->fault, kind) : 0);
}

bool script_fired(const struct script *s)
{
    return s->plan.count && script_count(s, s->plan.kind) > s->plan.first;
}

/* Did the op begun last succeed? Only a fault excuses it. */
static bool did(struct script *s, int status, const char *what)
{
    if (s->plan.kind == BLOCK_FAULT_FLUSH && block_fault_count(s->fault, BLOCK_FAULT_FLUSH) > s->armed)
        s->lost = true;
    if (!status)
        return true;
    if (!script_fired(s))
        stop(s, "%s: %s, though nothing was wrong with its file", what, g_strerror(-status));
    model_fail(s->model);
    s->failed++;
    return false;
}

/* Of what tells people. */
static bool did_tell(struct script *s, bool done, GError *error)
{
    if (!done && !script_fired(s))
        stop(s, "%s, though nothing was wrong with its file", error ? error->message : "no reason");
    return did(s, done ? 0 : -EIO, "");
}

static struct disk *add_fault(struct script *s, struct disk *file)
{
    const struct script_fault *f = &s->plan;
    const unsigned past = s->seen[f->kind], after = past > f->first ? past - f->first : 0;
    s->fault = block_fault_new(file);
    s->armed = UINT_MAX;
    if (f->count > after) {
        s->armed = after ? 0 : f->first - past;
        block_fault_set(s->fault, f->kind, s->armed, f->count - after, f->error, f->partial);
    }
    return s->fault;
}

/* The filter is about to go with its disk. */
static void take_counts(struct script *s)
{
    for (unsigned i = 0; i < BLOCK_FAULT_KINDS; i++)
        s->seen[i] += block_fault_count(s->fault, i);
    s->fault = NULL;
}

/* --- opening --- */

static bool open_disk(struct script *s, unsigned flags)
{
    g_autoptr(GError) error = NULL;
    struct disk *file = block_recorder_new(store_disk(s->live, false, s->garbage), s->record);
    s->lost = false;
    s->disk = image_open(s->setup, add_fault(s, file), s->base, flags, false, NULL, &error);
    if (s->disk)
        return true;
    s->fault = NULL; /* its counts are gone, but it has happened */
    if (!s->plan.count)
        stop(s, "opening: %s", error->message);
    return false;
}

static void close_disk(struct script *s)
{
    /* What close does to the file is seen, too: the filter lives until the disk's file is freed. */
    take_counts(s);
    block_free(STEAL(s->disk));
}

static void note_line(void *opaque, const char *line)
{
    g_strlcpy(opaque, line, 200);
}

static void check(struct script *s, unsigned fix)
{
    char last[200] = "";
    g_autoptr(GError) error = NULL;
    struct block_check c = {.report = note_line, .opaque = last};
    const bool looked = driver_of(s->setup)->image->check(s->disk, fix, &c, &error);
    if (!did_tell(s, looked, error))
        return;
    if (c.corruptions || (c.errors && !script_fired(s)))
        stop(s, "check finds %u corruptions, %u errors; the last: %s", (unsigned)c.corruptions,
             (unsigned)c.errors, last);
}

/* A resize that failed may have happened. */
static void find_size(struct script *s)
{
    const struct moment now = {s->model->ops->len, s->model->ops->len, false};
    const uint64_t sectors = s->disk->facts.size / BLOCK_SECTOR;
    g_autofree char *wrong = model_check_size(s->model, now, sectors);
    if (wrong)
        stop(s, "%s", wrong);
    if (sectors != model_sectors(s->model))
        model_found_size(s->model, sectors);
}

static void do_reopen(struct script *s, bool repair)
{
    model_begin(s->model, notes(s));
    const bool flushed = did(s, block_flush(s->disk), "flush");
    model_end(s->model, notes(s), flushed, false);
    if (!flushed)
        model_lose(s->model);
    model_begin(s->model, notes(s));
    close_disk(s);
    if (repair && open_disk(s, BLOCK_OPEN_REPAIR)) {
        check(s, BLOCK_FIX_LEAKS | BLOCK_FIX_ERRORS);
        did(s, block_flush(s->disk), "flush");
        close_disk(s);
    }
    const bool opened = open_disk(s, 0);
    model_end(s->model, notes(s), false, false);
    model_begin(s->model, notes(s));
    if (opened)
        find_size(s);
    model_end(s->model, notes(s), false, false);
}

/* --- the disk --- */

/* Small ones, large ones, whole clusters; half of all near each other. */
static uint64_t range(struct script *s, uint64_t *count)
{
    const uint64_t sectors = model_sectors(s->model), cluster = s->disk->facts.cluster / BLOCK_SECTOR;
    const uint32_t align =
        s->disk->facts.alignment > BLOCK_SECTOR ? s->disk->facts.alignment / BLOCK_SECTOR : 1;
    uint64_t at = pick(s, (uint32_t)(pick(s, 2) ? sectors : MIN(sectors, 200)));
    *count = 1 + pick(s, pick(s, 3) ? 12 : 300);
    if (cluster && !pick(s, 3)) {
        at -= at % cluster;
        *count = cluster * (1 + pick(s, 3));
        if (*count > 600)
            *count = 600;
    }
    at -= at % align;
    *count = MAX(*count, align);
    *count = MIN(*count, sectors - at);
    *count -= *count % align;
    return at;
}

static void fill(uint8_t *bytes, uint32_t writer, uint64_t sector, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        image_stamp(bytes + i * BLOCK_SECTOR, writer, sector + i);
}

static void do_write(struct script *s)
{
    uint64_t count, at = range(s, &count);
    g_autofree uint8_t *bytes = g_malloc(count * BLOCK_SECTOR + 1);
    const uint32_t op = model_begin(s->model, notes(s));
    fill(bytes, op, at, count);
    did(s, block_pwrite(s->disk, bytes, count * BLOCK_SECTOR, at * BLOCK_SECTOR), "write");
    model_put(s->model, at, count, VERSION_STAMP);
    model_end(s->model, notes(s), false, false);
}

static void do_read(struct script *s)
{
    uint64_t count, at = range(s, &count);
    g_autofree uint8_t *bytes = g_malloc(count * BLOCK_SECTOR + 1);
    model_begin(s->model, notes(s));
    model_end(s->model, notes(s), false, false);
    const struct moment now = {s->model->ops->len, s->model->ops->len, false};
    if (!did(s, block_pread(s->disk, bytes, count * BLOCK_SECTOR, at * BLOCK_SECTOR), "read"))
        return;
    for (uint64_t i = 0; i < count; i++) {
        g_autofree char *wrong = model_check(s->model, now, at + i, bytes + i * BLOCK_SECTOR);
        if (wrong)
            stop(s, "without any power cut: %s", wrong);
    }
}

static void do_zero(struct script *s)
{
    uint64_t count, at = range(s, &count);
    model_begin(s->model, notes(s));
    const unsigned flags = pick(s, 2) ? BLOCK_MAY_UNMAP : 0;
    did(s, block_zero(s->disk, at * BLOCK_SECTOR, count * BLOCK_SECTOR, flags), "zero");
    model_put(s->model, at, count, VERSION_ZERO);
    model_end(s->model, notes(s), false, false);
}

static void do_discard(struct script *s)
{
    uint64_t count, at = range(s, &count);
    model_begin(s->model, notes(s));
    did(s, block_discard(s->disk, at * BLOCK_SECTOR, count * BLOCK_SECTOR), "discard");
    model_put(s->model, at, count, VERSION_ANY);
    model_end(s->model, notes(s), false, false);
}

/* Only where nothing was ever put: the format may insist on it. */
static void do_compressed(struct script *s)
{
    const uint64_t cluster = s->disk->facts.cluster / BLOCK_SECTOR, sectors = model_sectors(s->model);
    const uint64_t at = pick(s, (uint32_t)(sectors / cluster)) * cluster, count = MIN(cluster, sectors - at);
    for (uint64_t i = at; i < at + count; i++)
        if (s->model->versions[i]->len > 1)
            return;
    g_autofree uint8_t *bytes = g_malloc(count * BLOCK_SECTOR);
    const uint32_t op = model_begin(s->model, notes(s));
    fill(bytes, op, at, count);
    int status = block_write_compressed(s->disk, bytes, at * BLOCK_SECTOR, count * BLOCK_SECTOR);
    if (status == -EOPNOTSUPP) { /* there are formats that have it for some images only */
        s->done[SCRIPT_COMPRESSED]--;
    } else {
        did(s, status, "compressed");
        model_put(s->model, at, count, VERSION_STAMP);
    }
    model_end(s->model, notes(s), false, false);
}

static void do_flush(struct script *s)
{
    model_begin(s->model, notes(s));
    const bool lost = s->lost, flushed = did(s, block_flush(s->disk), "flush");
    if (lost && flushed)
        stop(s, "a flush succeeds after one has failed");
    model_end(s->model, notes(s), flushed, false);
}

/* Mostly longer; formats may refuse, as with snapshots there are. */
static void do_resize(struct script *s)
{
    const uint64_t now = model_sectors(s->model), more = s->model->sectors_max - now;
    const uint64_t unit = 128; /* 64 KiB */
    const uint64_t size = pick(s, 3) ? now + pick(s, (uint32_t)(more / unit) + 1) * unit
                                     : MAX(now - pick(s, 5) * unit, s->model->sectors_max / 4);
    if (size == now)
        return;
    model_begin(s->model, notes(s));
    int status = block_resize(s->disk, size * BLOCK_SECTOR);
    if (status == -EOPNOTSUPP || status == -EBUSY || status == -EINVAL) {
        s->done[SCRIPT_RESIZE]--;
    } else {
        did(s, status, "resize");
        model_size(s->model, size);
    }
    g_assert_cmpuint(s->disk->facts.size, ==, model_sectors(s->model) * BLOCK_SECTOR);
    model_end(s->model, notes(s), false, false);
}

/* --- snapshots --- */

static struct frozen *some_frozen(struct script *s, unsigned *count)
{
    struct frozen *found = NULL;
    *count = 0;
    for (unsigned i = 0; i < s->model->frozen->len; i++) {
        struct frozen *f = s->model->frozen->pdata[i];
        if (f->deleted == UINT32_MAX && !pick(s, ++*count))
            found = f;
    }
    return found;
}

static void do_snapshot(struct script *s)
{
    unsigned count;
    g_autoptr(GError) error = NULL;
    some_frozen(s, &count);
    if (count == SNAPSHOTS_MAX)
        return;
    g_autofree char *name = g_strdup_printf("s%u", s->names++);
    model_begin(s->model, notes(s));
    const bool done = driver_of(s->setup)->image->snapshot_create(s->disk, name, &error);
    if (did_tell(s, done, error))
        model_freeze(s->model, name);
    model_end(s->model, notes(s), done, false);
}

static void do_apply(struct script *s)
{
    unsigned count;
    g_autoptr(GError) error = NULL;
    struct frozen *f = some_frozen(s, &count);
    if (!f)
        return;
    model_begin(s->model, notes(s));
    bool applied = driver_of(s->setup)->image->snapshot_apply(s->disk, f->name, &error);
    if (applied) {
        model_thaw(s->model, f);
    } else if (f->sectors == model_sectors(s->model) || script_fired(s)) { /* another size may be refused */
        did_tell(s, false, error);
        model_thaw(s->model, f); /* it may have happened */
    }
    g_assert_cmpuint(s->disk->facts.size, ==, model_sectors(s->model) * BLOCK_SECTOR);
    model_end(s->model, notes(s), applied, true);
}

static void do_delete(struct script *s)
{
    unsigned count;
    g_autoptr(GError) error = NULL;
    struct frozen *f = some_frozen(s, &count);
    if (!f)
        return;
    model_begin(s->model, notes(s));
    const bool done = driver_of(s->setup)->image->snapshot_delete(s->disk, f->name, &error);
    did_tell(s, done, error);
    model_delete(s->model, f); /* after a failure it may be there or not */
    model_end(s->model, notes(s), done, false);
}

/* --- the whole --- */

static enum script_kind next(struct script *s)
{
    static const unsigned weights[SCRIPT_KINDS] = {40, 4, 8, 8, 6, 12, 3, 1, 1, 3, 2, 2};
    for (;;) {
        unsigned at = pick(s, 90);
        enum script_kind kind = 0;
        while (kind < SCRIPT_KINDS && at >= weights[kind])
            at -= weights[kind++];
        if (kind < SCRIPT_KINDS && script_can(s->setup, kind))
            return kind;
    }
}

static void step(struct script *s)
{
    const enum script_kind kind = next(s);
    s->done[kind]++;
    switch (kind) {
    case SCRIPT_WRITE: do_write(s); break;
    case SCRIPT_READ: do_read(s); break;
    case SCRIPT_ZERO: do_zero(s); break;
    case SCRIPT_DISCARD: do_discard(s); break;
    case SCRIPT_COMPRESSED: do_compressed(s); break;
    case SCRIPT_FLUSH: do_flush(s); break;
    case SCRIPT_RESIZE: do_resize(s); break;
    case SCRIPT_REOPEN: do_reopen(s, false); break;
    case SCRIPT_REPAIR: do_reopen(s, true); break;
    case SCRIPT_SNAPSHOT: do_snapshot(s); break;
    case SCRIPT_APPLY: do_apply(s); break;
    case SCRIPT_DELETE: do_delete(s); break;
    case SCRIPT_KINDS: g_assert_not_reached();
    }
}

struct script *script_run(const struct image_setup *setup, uint32_t seed, unsigned wanted,
                          const struct script_fault *fault)
{
    struct script *s = g_new0(struct script, 1);
    const uint64_t sectors = setup->size / BLOCK_SECTOR;
    s->setup = setup;
    s->seed = seed;
    s->rand = g_rand_new_with_seed(seed);
    s->garbage = pick(s, 2);
    s->base = image_base(setup);
    s->live = image_make(setup);
    s->first = store_copy(s->live);
    s->record = block_record_new();
    s->model = model_new(sectors, setup->base_size / BLOCK_SECTOR,
                         script_can(setup, SCRIPT_RESIZE) ? sectors * 2 : sectors);
    if (fault)
        s->plan = *fault;
    open_disk(s, 0);
    for (unsigned i = 0; i < OPS_MAX && notes(s) < wanted && s->disk; i++)
        step(s);
    if (!s->disk)
        return s;
    do_flush(s);
    if (script_can(setup, SCRIPT_REPAIR) && !script_fired(s)) /* else what is in memory may be given up */
        check(s, 0);
    close_disk(s);
    return s;
}

void script_free(struct script *s)
{
    block_record_free(s->record);
    model_free(s->model);
    store_free(s->first);
    store_free(s->live);
    store_free(s->base);
    g_rand_free(s->rand);
    g_free(s);
}
