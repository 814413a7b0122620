/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* --image-opts: an image as a graph of disks, "driver=qcow2,file.filename=x,backing.driver=raw,...". */
/*
 * Each disk of the graph has keys below its own prefix: the image itself none, the disk that it lies on
 * "file.", the one it lies over "backing."; those that a filter makes one of, "member.0.", "member.1.", ....
 * `driver` says what it is; where a disk has a filename and no driver, it is that file's bytes (or the
 * server's, of a URI). What else it has are options of its driver. A key that nobody wanted is an error,
 * since a mistyped one would otherwise be no option at all.
 */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/option_int.h"
#include "cli/image/image.h"

enum { DEPTH_MAX = 16 };

struct pair {
    char *key, *value;
    bool used;
};

struct graph {
    struct image_args *args;
    GPtrArray *pairs;
    const char *snapshot;
    unsigned mode, depth;
};

static void pair_free(void *opaque)
{
    struct pair *p = opaque;
    g_free(p->key);
    g_free(p->value);
    g_free(p);
}

/* Cuts at single commas; two stand for one. */
static GPtrArray *split(const char *text)
{
    GPtrArray *pairs = g_ptr_array_new_with_free_func(pair_free);
    while (*text) {
        g_autoptr(GString) piece = g_string_new(NULL);
        for (; *text && (*text != ',' || text[1] == ','); text++) {
            text += *text == ',';
            g_string_append_c(piece, *text);
        }
        text += *text == ',';
        const size_t length = strcspn(piece->str, "=");
        struct pair *p = g_new0(struct pair, 1);
        p->key = g_strndup(piece->str, length);
        p->value = g_strdup(piece->str[length] ? piece->str + length + 1 : "on");
        g_ptr_array_add(pairs, p);
    }
    return pairs;
}

static const char *get(struct graph *g, const char *prefix, const char *key)
{
    const size_t length = strlen(prefix);
    const char *value = NULL;
    for (unsigned i = 0; i < g->pairs->len; i++) {
        struct pair *p = g->pairs->pdata[i];
        if (strncmp(p->key, prefix, length) != 0 || strcmp(p->key + length, key) != 0)
            continue;
        p->used = true;
        value = p->value;
    }
    return value;
}

static bool has_below(const struct graph *g, const char *prefix)
{
    for (unsigned i = 0; i < g->pairs->len; i++)
        if (g_str_has_prefix(((const struct pair *)g->pairs->pdata[i])->key, prefix))
            return true;
    return false;
}

/* What the disk has left that is not another disk's: its driver's own options, as -o would have them. */
static GPtrArray *own_options(struct graph *g, const char *prefix)
{
    GPtrArray *texts = g_ptr_array_new_with_free_func(g_free);
    const size_t length = strlen(prefix);
    for (unsigned i = 0; i < g->pairs->len; i++) {
        struct pair *p = g->pairs->pdata[i];
        if (p->used || strncmp(p->key, prefix, length) != 0 || g_str_has_prefix(p->key + length, "file.") ||
            g_str_has_prefix(p->key + length, "backing.") || g_str_has_prefix(p->key + length, "member."))
            continue;
        p->used = true;
        g_auto(GStrv) pieces = g_strsplit(p->value, ",", -1);
        g_autofree char *value = g_strjoinv(",,", pieces);
        g_ptr_array_add(texts, g_strdup_printf("%s=%s", p->key + length, value));
    }
    return texts;
}

static bool is_writable(struct graph *g, const char *prefix, bool *readonly, GError **error)
{
    const char *text = get(g, prefix, "read-only");
    if (text && strcmp(text, "on") != 0 && strcmp(text, "off") != 0)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "%sread-only=%s: must be on or off", prefix, text);
    if (text && !strcmp(text, "on"))
        *readonly = true;
    return true;
}

static struct disk *open_node(struct graph *g, const char *prefix, bool readonly, struct image *image,
                              GError **error);

/* Opens the disk that stands below "PREFIXWHAT.", when there is one. */
static bool open_below(struct graph *g, const char *prefix, const char *what, bool readonly, char **name,
                       struct disk **disk, GError **error)
{
    g_autofree char *below = g_strdup_printf("%s%s.", prefix, what);
    if (!has_below(g, below))
        return true;
    struct image image = {0};
    *disk = open_node(g, below, readonly, &image, error);
    if (name && image.name)
        *name = image.name;
    else
        g_free(image.name);
    return *disk != NULL;
}

static const struct block_driver *find_driver(struct graph *g, const char *prefix, const char *filename,
                                              GError **error)
{
    const char *name = get(g, prefix, "driver");
    const struct block_driver *driver = name       ? block_driver_find(name)
                                        : filename ? block_driver_find("file")
                                                   : NULL;
    if (driver)
        return driver;
    if (name)
        hostel_fail(error, HOSTEL_ERROR_USAGE, "%sdriver=%s: there is no such driver", prefix, name);
    else
        hostel_fail(error, HOSTEL_ERROR_USAGE, "%sdriver= is missing; formats are not guessed", prefix);
    return NULL;
}

/* A disk that is not below another one: a file's, a server's, memory. */
static struct disk *open_source(struct graph *g, const char *prefix, const struct block_driver *driver,
                                const char *filename, bool readonly, const void *options, GError **error)
{
    struct block_path path = {
        .name = filename,
        .readonly = readonly,
        .flags = g->args->share ? BLOCK_OPEN_SHARED : 0,
        .options = options,
    };
    if (filename)
        return block_path_open(&path, error);
    if (driver->needs_file || driver->schemes) {
        hostel_fail(error, HOSTEL_ERROR_USAGE, "%sfilename= is missing", prefix);
        return NULL;
    }
    const char *size = get(g, prefix, "size");
    struct block_config config = {.name = driver->name, .fd = -1, .readonly = readonly, .options = options};
    if (size && !image_parse_size(size, &config.size, error))
        return NULL;
    return block_open(driver, &config, error);
}

/* A format's disk, on a file of its own or on the disk below "file.". */
static struct disk *open_format(struct graph *g, const char *prefix, const struct block_driver *driver,
                                const char *filename, bool readonly, const void *options, struct image *image,
                                GError **error)
{
    const bool alone = g->mode & IMAGE_ALONE && !*prefix;
    struct block_path path = {
        .format = driver,
        .readonly = readonly,
        .flags = (alone ? BLOCK_OPEN_ALONE : 0u) | (g->mode & IMAGE_REPAIR ? BLOCK_OPEN_REPAIR : 0u) |
                 (g->args->share ? BLOCK_OPEN_SHARED : 0u),
        .follow = g->args->follow,
        .options = options,
        .key = g->args->key,
        .key_size = g->args->key_size,
        .snapshot = *prefix ? NULL : g->snapshot,
        .chain = image->chain,
    };
    if (filename)
        image->name = image_shown(filename);
    else if (!open_below(g, prefix, "file", readonly, &image->name, &path.file, error))
        return NULL;
    if (!filename && !path.file) {
        hostel_fail(error, HOSTEL_ERROR_USAGE, "%sfile.filename= is missing", prefix);
        return NULL;
    }
    if (!open_below(g, prefix, "backing", true, NULL, &path.base, error)) {
        block_free(path.file);
        return NULL;
    }
    path.name = filename ? filename : image->name ? image->name : driver->name;
    return block_path_open(&path, error);
}

/* A filter over the disk below "file.", or those below "member.N.". */
static struct disk *open_filter(struct graph *g, const char *prefix, const struct block_driver *driver,
                                bool readonly, const void *options, struct image *image, GError **error)
{
    struct disk *members[DEPTH_MAX] = {NULL};
    struct block_config config = {
        .name = driver->name, .fd = -1, .members = members, .readonly = readonly, .options = options};
    bool opened =
        driver->members || open_below(g, prefix, "file", readonly, &image->name, &config.file, error);
    while (opened && driver->members && config.n_members < DEPTH_MAX) {
        const unsigned i = config.n_members;
        g_autofree char *what = g_strdup_printf("member.%u", i);
        opened = open_below(g, prefix, what, readonly, i ? NULL : &image->name, &members[i], error);
        if (!members[i])
            break;
        config.n_members++;
    }
    if (opened)
        return block_open(driver, &config, error);
    for (unsigned i = 0; i < config.n_members; i++)
        block_free(members[i]);
    return NULL;
}

static struct disk *open_node(struct graph *g, const char *prefix, bool readonly, struct image *image,
                              GError **error)
{
    AUTO_VALUES v = {0};
    if (++g->depth > DEPTH_MAX) {
        hostel_fail(error, HOSTEL_ERROR_USAGE, "--image-opts: more than %d disks", DEPTH_MAX);
        return NULL;
    }
    const char *filename = get(g, prefix, "filename");
    const struct block_driver *driver = find_driver(g, prefix, filename, error);
    /* What people write for QEMU and what is so anyway, or changes no result. */
    static const char *const without_effect[] = {"node-name", "cache.direct", "cache.no-flush", "aio", NULL};
    for (unsigned i = 0; without_effect[i]; i++)
        get(g, prefix, without_effect[i]);
    if (!driver || !is_writable(g, prefix, &readonly, error))
        return NULL;
    image->format = driver;
    if (!filename && driver->kind == BLOCK_PROTOCOL && driver->schemes)
        filename = get(g, prefix, "uri");
    if (driver->kind == BLOCK_PROTOCOL)
        get(g, prefix, "size"); /* no option of a driver; asked for again where it is used */
    g_autoptr(GPtrArray) texts = own_options(g, prefix);
    if (!image_values_parse(&v, driver->options, driver->options_size, texts, driver->name, error))
        return NULL;
    if (driver->kind == BLOCK_FORMAT && driver->needs_file)
        return open_format(g, prefix, driver, filename, readonly, v.values, image, error);
    if (driver->kind == BLOCK_FILTER)
        return open_filter(g, prefix, driver, readonly, v.values, image, error);
    image->name = filename ? image_shown(filename) : NULL;
    return open_source(g, prefix, driver, filename, readonly, v.values, error);
}

bool image_graph_open(struct image_args *args, const char *text, const char *snapshot, unsigned mode,
                      struct image *out, GError **error)
{
    struct graph g = {.args = args, .pairs = split(text), .mode = mode, .snapshot = snapshot};
    out->chain = g_ptr_array_new_with_free_func((GDestroyNotify)block_path_link_free);
    out->disk = open_node(&g, "", !(mode & IMAGE_WRITE), out, error);
    if (!out->name)
        out->name = image_shown(text);
    for (unsigned i = 0; out->disk && i < g.pairs->len; i++) {
        const struct pair *p = g.pairs->pdata[i];
        if (!p->used) {
            hostel_fail(error, HOSTEL_ERROR_USAGE, "--image-opts: nothing has an option '%s'", p->key);
            block_free(STEAL(out->disk));
        }
    }
    g_ptr_array_unref(g.pairs);
    return out->disk != NULL;
}
