/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Which layers can be merged (fold.h has the theory). */
#include "cli/fold.h"

#include <stdint.h>
#include <string.h>

/* --- the tree of one disk --- */

struct node {
    const char *below; /* NULL: it is the image */
    const char *above; /* the first that was seen */
    bool fork;         /* there is another one */
    unsigned ends;     /* lists that end here */
    bool inside;       /* one of them is of a snapshot inside it */
};

/* By name; the image is "". */
struct tree {
    GHashTable *nodes; /* of struct node, owned */
    const char *guest; /* what it writes to */
};

static struct node *node_of(const struct tree *t, const char *file)
{
    struct node *node = g_hash_table_lookup(t->nodes, file);
    if (!node) {
        node = g_new0(struct node, 1);
        g_hash_table_insert(t->nodes, (gpointer)(uintptr_t)file, node);
    }
    return node;
}

/* Is it inside the last image of its list, where it reads what lies below that? */
static bool is_inside(const json_t *snapshot)
{
    return !g_strcmp0(json_string_value(json_object_get(snapshot, "kind")), "internal");
}

/* One list of files; the last one's name. */
static const char *add_list(const struct tree *t, const json_t *owner, size_t disk)
{
    const json_t *list = json_array_get(json_object_get(owner, "disks"), disk);
    struct node *below = node_of(t, "");
    const char *last = "";
    for (size_t i = 0; i < json_array_size(list); i++) {
        last = json_string_value(json_array_get(list, i));
        below->fork |= below->above && strcmp(below->above, last) != 0;
        below->above = last;
        below = node_of(t, last);
        below->below = i ? json_string_value(json_array_get(list, i - 1)) : "";
    }
    below->ends++;
    below->inside |= is_inside(owner);
    return last;
}

static struct tree tree_new(const json_t *layers, size_t disk)
{
    struct tree t = {.nodes = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, g_free)};
    const char *name;
    json_t *snapshot;
    t.guest = add_list(&t, layers, disk);
    json_object_foreach(json_object_get(layers, "snapshots"), name, snapshot)
    {
        add_list(&t, snapshot, disk);
    }
    return t;
}

/* Is it only there for the one above it? */
static bool is_loose(const struct node *node)
{
    return node->above && !node->fork && !node->ends;
}

/* --- the plan --- */

static struct fold *fold_new(GPtrArray *out, size_t disk, const char *into)
{
    struct fold *f = g_new0(struct fold, 1);
    f->disk = disk;
    f->into = into;
    f->gone = g_ptr_array_new();
    g_ptr_array_add(out, f);
    return f;
}

static void fold_free(gpointer fold)
{
    struct fold *f = fold;
    g_ptr_array_unref(f->gone);
    g_free(f);
}

static void add_gone(struct fold *f, const char *file)
{
    g_ptr_array_add(f->gone, (gpointer)(uintptr_t)file);
}

/* The layers from `first` up: the loose ones into the first that is not. */
static void plan_up(const struct tree *t, size_t disk, const char *first, fold_may *may, void *opaque,
                    GPtrArray *out)
{
    const char *into = first;
    while (is_loose(node_of(t, into)))
        into = node_of(t, into)->above;
    if (into == first || node_of(t, into)->inside ||
        (strcmp(into, t->guest) != 0 && !may(opaque, disk, into)))
        return;
    struct fold *f = fold_new(out, disk, into);
    const char *below = node_of(t, first)->below;
    f->below = *below ? below : NULL;
    for (const char *at = first; at != into; at = node_of(t, at)->above)
        add_gone(f, at);
}

/* Those right over the image, up to the first that is not loose, into it. False: it must stay as it is. */
static bool plan_down(const struct tree *t, size_t disk, fold_may *may, void *opaque, GPtrArray *out)
{
    const struct node *at = node_of(t, "");
    struct fold *f = NULL;
    if (!is_loose(at) || !may(opaque, disk, NULL))
        return false;
    for (bool loose = true; loose; loose = is_loose(at)) {
        const char *file = at->above;
        const bool guest = !strcmp(file, t->guest);
        at = node_of(t, file);
        if (at->inside || (guest && (at->ends > 1 || at->above))) /* not its alone: it stays the guest's */
            break;
        if (!f || guest)
            f = fold_new(out, disk, NULL);
        add_gone(f, file);
        f->needed = !guest && !is_loose(at);
    }
    return true;
}

/* Runs of loose layers begin over what is not loose, or over the image. */
static void plan_disk(const json_t *layers, size_t disk, fold_may *may, void *opaque, GPtrArray *up,
                      GPtrArray *down)
{
    struct tree t = tree_new(layers, disk);
    GHashTableIter i;
    gpointer file, value;
    const bool down_too = plan_down(&t, disk, may, opaque, down);
    g_autoptr(GPtrArray) firsts = g_ptr_array_new();
    g_hash_table_iter_init(&i, t.nodes);
    while (g_hash_table_iter_next(&i, &file, &value)) {
        const struct node *node = value;
        if (node->below && is_loose(node) && !(*node->below ? is_loose(node_of(&t, node->below)) : down_too))
            g_ptr_array_add(firsts, file);
    }
    for (guint k = 0; k < firsts->len; k++)
        plan_up(&t, disk, firsts->pdata[k], may, opaque, up);
    g_hash_table_unref(t.nodes);
}

GPtrArray *fold_plan(const json_t *layers, fold_may *may, void *opaque)
{
    GPtrArray *up = g_ptr_array_new_with_free_func(fold_free), *down = g_ptr_array_new();
    for (size_t i = 0; i < json_array_size(json_object_get(layers, "disks")); i++)
        plan_disk(layers, i, may, opaque, up, down);
    g_ptr_array_extend_and_steal(up, down);
    return up;
}

/* --- when it is done --- */

static void apply_to(const struct fold *f, const json_t *owner)
{
    json_t *list = json_array_get(json_object_get(owner, "disks"), f->disk);
    for (size_t i = json_array_size(list); i-- > 0;) {
        const char *file = json_string_value(json_array_get(list, i));
        if (g_ptr_array_find_with_equal_func(f->gone, file, g_str_equal, NULL))
            json_array_remove(list, i);
    }
}

void fold_apply(const struct fold *f, json_t *layers)
{
    const char *name;
    json_t *snapshot;
    apply_to(f, layers);
    json_object_foreach(json_object_get(layers, "snapshots"), name, snapshot)
    {
        apply_to(f, snapshot);
    }
}
