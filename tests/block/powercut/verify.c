/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Looking at an image after a power cut; see verify.h. */
#include "verify.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/bits.h"

/* Messages are few; the first tells most. */
struct lines {
    GString *text;
};

static void add_line(void *opaque, const char *line)
{
    GString *text = ((struct lines *)opaque)->text;
    if (text->len < 600)
        g_string_append_printf(text, "%s%s", text->len ? "; " : "", line);
}

static const struct block_image *image_of(const struct verdict *v)
{
    return block_driver_find(v->script->setup->driver)->image;
}

static struct disk *open_image(const struct verdict *v, struct store *image, unsigned flags,
                               const char *snapshot, struct block_record *record, GError **error)
{
    struct disk *file = store_disk(image, snapshot != NULL, v->script->garbage);
    if (record)
        file = block_recorder_new(file, record);
    return image_open(v->script->setup, file, v->script->base, flags, snapshot != NULL, snapshot, error);
}

/* --- by our check and by QEMU's --- */

static void note_end(void *opaque, const char *line)
{
    const char *leaked = strstr(line, "of those at the end");
    const char *last = leaked ? strrchr(leaked, ' ') : NULL;
    *(bool *)opaque |= last && strtoul(last, NULL, 10) != 0;
}

/* Of a format that only appends: does its file still end in what nothing names, which a repair gives back? */
static bool ends_in_leak(struct disk *b)
{
    bool ends = false;
    struct block_check c = {.report = note_end, .opaque = &ends};
    return !b->driver->image->check(b, 0, &c, NULL) || ends;
}

static char *check(const struct verdict *v, struct disk *b, unsigned fix)
{
    const struct block_image *image = image_of(v);
    if (!image || !image->check)
        return NULL;
    g_autoptr(GError) error = NULL;
    struct lines lines = {g_string_new(NULL)};
    g_autoptr(GString) text = lines.text;
    struct block_check c = {.report = add_line, .opaque = &lines};
    if (!image->check(b, fix, &c, &error))
        return g_strdup_printf("check fails: %s", error->message);
    if (c.corruptions || c.errors)
        return g_strdup_printf("check finds %u corruptions, %u errors: %s", (unsigned)c.corruptions,
                               (unsigned)c.errors, text->str);
    if (fix && c.leaks != c.leaks_fixed && !(v->script->setup->appends && !ends_in_leak(b)))
        return g_strdup_printf("check mends %u of %u leaks", (unsigned)c.leaks_fixed, (unsigned)c.leaks);
    return NULL;
}

/* QEMU calls it an error, not a leak, when a refcount that is too high makes a flag look wrong, as it is
 * while a snapshot comes or goes. What the flag must not say, our own check finds: it counts references. */
static bool only_flags(const char *out)
{
    g_auto(GStrv) lines = g_strsplit(out, "\n", -1);
    bool any = false;
    for (char **line = lines; *line; line++) {
        if (!g_str_has_prefix(*line, "ERROR"))
            continue;
        if (!g_str_has_prefix(*line, "ERROR OFLAG_COPIED"))
            return false;
        any = true;
    }
    return any;
}

/* Exit status 0 is fine, 3 is leaks. */
static char *check_by_qemu(const struct verdict *v, struct store *image)
{
    const struct image_setup *setup = v->script->setup;
    g_autofree char *path = g_strdup_printf("%s/image.%s", v->folder, setup->qemu);
    g_autofree char *out = NULL, *err = NULL;
    const char *argv[] = {"qemu-img", "check", "-f", setup->qemu, path, NULL};
    int status, fd = g_open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    g_assert_cmpint(fd, >=, 0);
    store_save(image, fd);
    close(fd);
    if (!g_spawn_sync(NULL, (char **)(uintptr_t)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, &out, &err,
                      &status, NULL))
        return NULL;
    if (WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 3))
        return NULL;
    g_autofree char *all = g_strconcat(out, "\n", err, NULL);
    return only_flags(all) ? NULL : g_strdup_printf("qemu-img check: %s", all);
}

/* --- by what is in it --- */

static char *read_all(struct disk *b, uint8_t **bytes)
{
    const uint64_t size = b->facts.size;
    *bytes = g_malloc(size + 1);
    int status = block_pread(b, *bytes, size, 0);
    return status ? g_strdup_printf("reading it: %s", g_strerror(-status)) : NULL;
}

static char *compare(const struct model *m, struct moment at, const uint8_t *bytes, uint64_t sectors)
{
    char *wrong = model_check_size(m, at, sectors);
    for (uint64_t i = 0; i < MIN(sectors, m->sectors_max) && !wrong; i++)
        wrong = model_check(m, at, i, bytes + i * BLOCK_SECTOR);
    return wrong;
}

/* An operation on the whole disk that was running has happened, or it has not. */
static char *compare_all(const struct verdict *v, const uint8_t *bytes, uint64_t sectors)
{
    const struct model *m = v->script->model;
    struct moment at = v->at;
    if (!at.running || !g_array_index(m->ops, struct op, at.begun - 1).whole)
        return compare(m, at, bytes, sectors);
    at.begun--;
    g_autofree char *not_before = compare(m, at, bytes, sectors);
    if (!not_before)
        return NULL;
    at.floor = ++at.begun;
    g_autofree char *not_after = compare(m, at, bytes, sectors);
    return not_after ? g_strdup_printf("neither before (%s) nor after (%s)", not_before, not_after) : NULL;
}

static char *check_snapshot(const struct verdict *v, struct store *image, const struct frozen *f)
{
    const struct moment at = v->at;
    const bool must = f->made < at.begun - at.running && f->deleted >= at.begun;
    const bool may = f->made < at.begun && (f->deleted >= at.begun - at.running);
    g_autoptr(GError) error = NULL;
    g_autofree uint8_t *bytes = NULL;
    if (!may && !must)
        return NULL;
    AUTO(disk) b = open_image(v, image, 0, f->name, NULL, &error);
    if (!b)
        return must ? g_strdup_printf("snapshot %s: %s", f->name, error->message) : NULL;
    char *wrong = read_all(b, &bytes);
    if (!wrong && b->facts.size != f->sectors * BLOCK_SECTOR)
        wrong =
            g_strdup_printf("snapshot %s has %u sectors", f->name, (unsigned)(b->facts.size / BLOCK_SECTOR));
    for (uint64_t i = 0; i < f->sectors && !wrong; i++)
        wrong = model_check_frozen(v->script->model, f, i, bytes + i * BLOCK_SECTOR);
    return wrong;
}

static char *check_snapshots(const struct verdict *v, struct store *image)
{
    char *wrong = NULL;
    for (unsigned i = 0; i < v->script->model->frozen->len && !wrong; i++)
        wrong = check_snapshot(v, image, v->script->model->frozen->pdata[i]);
    return wrong;
}

/* A few sectors: they hold it, all others hold what they did. */
static char *use(const struct verdict *v, struct disk *b, uint8_t *bytes)
{
    enum { WRITES = 6, WRITER = 0xeeeeeee0 };
    const uint64_t sectors = b->facts.size / BLOCK_SECTOR;
    for (unsigned i = 0; i < WRITES; i++) {
        const uint64_t sector = g_rand_int(v->rand) % sectors;
        image_stamp(bytes + sector * BLOCK_SECTOR, WRITER + i, sector);
        int status = block_pwrite(b, bytes + sector * BLOCK_SECTOR, BLOCK_SECTOR, sector * BLOCK_SECTOR);
        if (status)
            return g_strdup_printf("writing to it: %s", g_strerror(-status));
    }
    int status = block_flush(b);
    if (status)
        return g_strdup_printf("flushing it: %s", g_strerror(-status));
    g_autofree uint8_t *now = NULL;
    char *wrong = read_all(b, &now);
    for (uint64_t i = 0; i < sectors && !wrong; i++)
        if (memcmp(now + i * BLOCK_SECTOR, bytes + i * BLOCK_SECTOR, BLOCK_SECTOR) != 0)
            wrong = g_strdup_printf("writing to it afterwards changed sector %u", (unsigned)i);
    return wrong ? wrong : check(v, b, 0);
}

char *verify(const struct verdict *v, struct store *image)
{
    const struct image_setup *setup = v->script->setup;
    g_autoptr(GError) error = NULL;
    g_autofree uint8_t *bytes = NULL;
    char *wrong = NULL;
    if (v->qemu && !setup->settles)
        wrong = check_by_qemu(v, image);
    if (wrong)
        return wrong;
    struct disk *b = open_image(v, image, 0, NULL, NULL, &error);
    if (!b)
        return g_strdup_printf("it does not open: %s", error->message);
    wrong = check(v, b, 0);
    if (!wrong)
        wrong = read_all(b, &bytes);
    if (!wrong)
        wrong = compare_all(v, bytes, b->facts.size / BLOCK_SECTOR);
    if (!wrong)
        wrong = use(v, b, bytes);
    block_free(b);
    if (!wrong)
        wrong = check_snapshots(v, image);
    if (!wrong && v->qemu && (setup->settles || !g_rand_int_range(v->rand, 0, 4)))
        wrong = check_by_qemu(v, image);
    return wrong;
}

char *verify_repair(const struct verdict *v, struct store *image, struct block_record *record)
{
    g_autoptr(GError) error = NULL;
    AUTO(disk) b = open_image(v, image, BLOCK_OPEN_REPAIR, NULL, record, &error);
    if (!b)
        return g_strdup_printf("it does not open to be mended: %s", error->message);
    char *wrong = check(v, b, BLOCK_FIX_LEAKS | BLOCK_FIX_ERRORS);
    if (!wrong && block_flush(b))
        wrong = g_strdup("it cannot be flushed after the repair");
    return wrong;
}
