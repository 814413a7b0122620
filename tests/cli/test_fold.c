/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Which layers are merged: trees of snapshots at random, with a few cells in each layer in place of a disk.
 */
#include <glib.h>
#include <string.h>

#include "cli/fold.h"

enum { CELLS = 6, DISKS = 2, UNSET = -1 };

/* Images and layers by name; an image is called by its number. */
struct world {
    json_t *layers;
    GHashTable *files; /* of int[CELLS], owned */
    GRand *rand;
    unsigned serial;
    bool images_may, layers_may;
};

static unsigned pick(struct world *w, unsigned below)
{
    return (unsigned)g_rand_int_range(w->rand, 0, (gint32)below);
}

static int *cells_of(const struct world *w, const char *name)
{
    return g_hash_table_lookup(w->files, name);
}

static int *add_file(struct world *w, const char *name, int value)
{
    int *cells = g_new(int, CELLS);
    for (unsigned i = 0; i < CELLS; i++)
        cells[i] = value;
    g_hash_table_insert(w->files, g_strdup(name), cells);
    return cells;
}

static const char *image_of(size_t disk)
{
    static const char *const names[DISKS] = {"0", "1"};
    return names[disk];
}

static json_t *list_of(const json_t *owner, size_t disk)
{
    return json_array_get(json_object_get(owner, "disks"), disk);
}

/* What it writes to; NULL = the image. */
static const char *guests_own(const struct world *w, size_t disk)
{
    const json_t *list = list_of(w->layers, disk);
    return json_string_value(json_array_get(list, json_array_size(list) - 1));
}

/* --- what a guest and its people do --- */

static void push_all(struct world *w)
{
    for (size_t i = 0; i < DISKS; i++) {
        g_autofree char *name = g_strdup_printf("layer%u", w->serial++);
        add_file(w, name, UNSET);
        json_array_append_new(list_of(w->layers, i), json_string(name));
    }
}

/* The guest writes to its own layers, or to the images. */
static void write_some(struct world *w)
{
    for (size_t i = 0; i < DISKS; i++) {
        const json_t *list = list_of(w->layers, i);
        const size_t n = json_array_size(list);
        int *cells = cells_of(w, n ? json_string_value(json_array_get(list, n - 1)) : image_of(i));
        cells[pick(w, CELLS)] = (int)pick(w, 1000);
    }
}

static const char *any_snapshot(struct world *w)
{
    json_t *snapshots = json_object_get(w->layers, "snapshots"), *snapshot;
    const char *name;
    unsigned left = json_object_size(snapshots) ? pick(w, (unsigned)json_object_size(snapshots)) : 0;
    json_object_foreach(snapshots, name, snapshot)
    {
        if (!left--)
            return name;
    }
    return NULL;
}

/* What a disk's own image has now, or its last layer, is kept inside it. */
static void take_inside(struct world *w)
{
    g_autofree char *name = g_strdup_printf("i%u", w->serial++);
    json_t *ends = json_array();
    for (size_t i = 0; i < DISKS; i++) {
        const char *own = guests_own(w, i);
        g_autofree char *kept = g_strdup_printf("%s-%zu", name, i);
        memcpy(add_file(w, kept, 0), cells_of(w, own ? own : image_of(i)), CELLS * sizeof(int));
        json_array_append_new(ends, json_string(own ? own : image_of(i)));
    }
    json_object_set_new(json_object_get(w->layers, "snapshots"), name,
                        json_pack("{s:s,s:o,s:o}", "kind", "internal", "ends", ends, "disks",
                                  json_deep_copy(json_object_get(w->layers, "disks"))));
}

static void act(struct world *w)
{
    const char *snapshot = any_snapshot(w);
    json_t *snapshots = json_object_get(w->layers, "snapshots");
    switch (pick(w, 5)) {
    case 4: take_inside(w); break;
    case 0: {
        g_autofree char *name = g_strdup_printf("s%u", w->serial++);
        json_object_set_new(snapshots, name,
                            json_pack("{s:o}", "disks", json_deep_copy(json_object_get(w->layers, "disks"))));
        push_all(w);
        break;
    }
    case 1:
        if (snapshot && !json_object_get(json_object_get(snapshots, snapshot), "kind")) {
            json_t *disks = json_object_get(json_object_get(snapshots, snapshot), "disks");
            json_object_set_new(w->layers, "disks", json_deep_copy(disks));
            push_all(w);
        }
        break;
    case 2:
        if (snapshot)
            json_object_del(snapshots, snapshot);
        break;
    default: write_some(w);
    }
}

/* --- what is seen --- */

/* inside: the last of them, in place of what the list has; NULL = as the list has it. */
static void see(const struct world *w, const json_t *list, size_t disk, const char *inside, GString *out)
{
    const size_t n = json_array_size(list);
    for (unsigned k = 0; k < CELLS; k++) {
        int value = cells_of(w, inside && !n ? inside : image_of(disk))[k];
        for (size_t i = 0; i < n; i++) {
            const char *name = json_string_value(json_array_get(list, i));
            const int *cells = cells_of(w, inside && i + 1 == n ? inside : name);
            g_assert_nonnull(cells);
            value = cells[k] == UNSET ? value : cells[k];
        }
        g_string_append_printf(out, " %d", value);
    }
}

static void see_snapshot(const struct world *w, const char *name, const json_t *snapshot, size_t disk,
                         GString *out)
{
    const json_t *list = list_of(snapshot, disk);
    const char *end = json_string_value(json_array_get(json_object_get(snapshot, "ends"), disk));
    const size_t n = json_array_size(list);
    g_autofree char *inside = end ? g_strdup_printf("%s-%zu", name, disk) : NULL;
    if (end) /* it is still where it is */
        g_assert_cmpstr(end, ==, n ? json_string_value(json_array_get(list, n - 1)) : image_of(disk));
    see(w, list, disk, inside, out);
}

/* All that the guest and its snapshots have; owned. */
static char *see_all(const struct world *w)
{
    GString *out = g_string_new(NULL);
    json_t *snapshot;
    const char *name;
    for (size_t i = 0; i < DISKS; i++) {
        see(w, list_of(w->layers, i), i, NULL, out);
        json_object_foreach(json_object_get(w->layers, "snapshots"), name, snapshot)
        {
            g_string_append_printf(out, " %s:", name);
            see_snapshot(w, name, snapshot, i, out);
        }
    }
    return g_string_free(out, FALSE);
}

/* --- merging --- */

static bool may(void *opaque, size_t disk, const char *file)
{
    const struct world *w = opaque;
    (void)disk;
    return file ? w->layers_may : w->images_may;
}

static void merge(struct world *w, const struct fold *f)
{
    int *into = cells_of(w, f->into ? f->into : image_of(f->disk));
    const char *own = guests_own(w, f->disk);
    g_assert_true(f->into ? w->layers_may || !g_strcmp0(f->into, own) : w->images_may);
    for (unsigned k = 0; k < CELLS; k++) {
        int value = UNSET;
        for (guint i = 0; i < f->gone->len; i++) {
            const int *cells = cells_of(w, f->gone->pdata[i]);
            value = cells[k] == UNSET ? value : cells[k];
        }
        if (value != UNSET && (!f->into || into[k] == UNSET))
            into[k] = value;
    }
    /* The guest's own is emptied; then it must lie over the image alone. */
    if (!f->into && own && !strcmp(own, f->gone->pdata[f->gone->len - 1])) {
        g_assert_cmpuint(f->gone->len, ==, 1);
        g_assert_cmpuint(json_array_size(list_of(w->layers, f->disk)), ==, 1);
        for (unsigned k = 0; k < CELLS; k++)
            cells_of(w, own)[k] = UNSET;
    }
}

/* Would a list of files, without `file`, say the same if the one above it there had all of it? */
static bool is_covered(const json_t *owner, size_t disk, const char *file, const char **above)
{
    const json_t *list = list_of(owner, disk);
    const size_t n = json_array_size(list);
    for (size_t i = 0; i < n; i++) {
        if (strcmp(json_string_value(json_array_get(list, i)), file) != 0)
            continue;
        const char *next = i + 1 < n ? json_string_value(json_array_get(list, i + 1)) : NULL;
        if (!next || (*above && strcmp(*above, next) != 0))
            return false;
        *above = next;
    }
    return true;
}

/* What merges into an image need of their last layer, unless that is the guest's own. */
static void check_needed(const struct world *w, const struct fold *f)
{
    const char *last = f->gone->pdata[f->gone->len - 1], *above = NULL, *name;
    const json_t *own = list_of(w->layers, f->disk);
    json_t *snapshot;
    if (!strcmp(json_string_value(json_array_get(own, json_array_size(own) - 1)), last)) {
        g_assert_false(f->needed);
        return;
    }
    bool covered = is_covered(w->layers, f->disk, last, &above);
    json_object_foreach(json_object_get(w->layers, "snapshots"), name, snapshot)
    {
        covered = is_covered(snapshot, f->disk, last, &above) && covered;
    }
    g_assert_cmpint(f->needed, ==, !covered);
}

/* At every step all is seen as before, whether layers.json tells the step already or not. */
static unsigned merge_all(struct world *w)
{
    g_autofree char *before = see_all(w);
    json_t *plan_of = json_deep_copy(w->layers);
    g_autoptr(GPtrArray) folds = fold_plan(plan_of, may, w);
    for (guint i = 0; i < folds->len; i++) {
        const struct fold *f = folds->pdata[i];
        g_assert_cmpuint(f->gone->len, >, 0);
        if (i && f->into)
            g_assert_nonnull(((const struct fold *)folds->pdata[i - 1])->into);
        if (!f->into)
            check_needed(w, f);
        merge(w, f);
        g_autofree char *during = see_all(w);
        g_assert_cmpstr(during, ==, before);
        fold_apply(f, w->layers);
        for (guint k = 0; k < f->gone->len; k++)
            g_hash_table_remove(w->files, f->gone->pdata[k]); /* nobody looks at it any more */
        g_autofree char *after = see_all(w);
        g_assert_cmpstr(after, ==, before);
    }
    const unsigned done = folds->len;
    json_decref(plan_of);
    return done;
}

static struct world *world_new(void)
{
    struct world *w = g_new0(struct world, 1);
    w->layers = json_pack("{s:[[],[]],s:{}}", "disks", "snapshots");
    w->files = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    w->rand = g_rand_new_with_seed((guint32)g_test_rand_int());
    for (size_t i = 0; i < DISKS; i++)
        add_file(w, image_of(i), 0);
    return w;
}

static void world_free(struct world *w)
{
    json_decref(w->layers);
    g_hash_table_unref(w->files);
    g_rand_free(w->rand);
    g_free(w);
}

static void test_random(void)
{
    unsigned folds = 0;
    for (unsigned i = 0; i < 400; i++) {
        struct world *w = world_new();
        for (unsigned k = 0; k < 60; k++) {
            act(w);
            if (pick(w, 6))
                continue;
            w->images_may = pick(w, 2);
            w->layers_may = pick(w, 4);
            folds += merge_all(w);
            g_assert_cmpuint(merge_all(w), ==, 0); /* nothing is left to be done */
        }
        /* Without snapshots one layer is left at most, and none when the image may be written to. */
        json_object_clear(json_object_get(w->layers, "snapshots"));
        w->images_may = i % 2;
        w->layers_may = true;
        merge_all(w);
        for (size_t d = 0; d < DISKS; d++)
            g_assert_cmpuint(json_array_size(list_of(w->layers, d)), <=, w->images_may ? 0 : 1);
        world_free(w);
    }
    g_test_message("%u merges", folds);
    g_assert_cmpuint(folds, >, 1000);
}

/* A snapshot from before a disk was there needs its image as it is. */
static void test_late_disk(void)
{
    struct world *w = world_new();
    json_t *layers = json_pack("{s:[[s,s]],s:{s:{s:[]}}}", "disks", "a", "b", "snapshots", "one", "disks");
    json_decref(w->layers);
    w->layers = layers;
    w->images_may = w->layers_may = true;
    g_autoptr(GPtrArray) folds = fold_plan(layers, may, w);
    g_assert_cmpuint(folds->len, ==, 1);
    const struct fold *f = folds->pdata[0];
    g_assert_cmpstr(f->into, ==, "b");
    g_assert_null(f->below);
    world_free(w);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/fold/random", test_random);
    g_test_add_func("/fold/late-disk", test_late_disk);
    return g_test_run();
}
