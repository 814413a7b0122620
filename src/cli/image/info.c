/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* `hostel image info`: what an image is. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "cli/cli.h"
#include "cli/image/image.h"

static const struct image_option options[] = {
    IMAGE_OPT('f', NULL, "FORMAT", IMAGE_TEXT, format, "the image's format; without it, what it looks like"),
    IMAGE_OPT_OUTPUT,
    IMAGE_OPT(0, "backing-chain", NULL, IMAGE_FLAG, info_chain, "also of what it lies over; needs --follow"),
    IMAGE_OPT_FOLLOW,
    IMAGE_OPT_SHARE,
    IMAGE_OPT_IMAGE_OPTS,
    IMAGE_OPTS_KEY,
    IMAGE_OPT_END,
};

/* All that is known of one image. */
struct told {
    const struct image *image;
    struct block_image_info info;
    GPtrArray *snapshots, *bitmaps; /* or NULL */
    int64_t actual;                 /* bytes of the host's storage; -1 = not known */
};

static void told_clear(struct told *t)
{
    block_image_info_clear(&t->info);
    g_clear_pointer(&t->snapshots, g_ptr_array_unref);
    g_clear_pointer(&t->bitmaps, g_ptr_array_unref);
}
#define AUTO_TOLD __attribute__((cleanup(told_clear))) struct told

static bool tell(const struct image *image, struct told *t, GError **error)
{
    const struct block_image *f = image->format->image;
    struct stat status;
    t->image = image;
    t->actual = stat(image->name, &status) ? -1 : (int64_t)status.st_blocks * 512;
    if (f && f->info && strcmp(image->format->name, "raw") != 0 && !f->info(image->disk, &t->info, error))
        return false;
    if (f && f->snapshots && !(t->snapshots = f->snapshots(image->disk, error)))
        return false;
    if (f && f->bitmaps && !(t->bitmaps = f->bitmaps(image->disk, error)))
        return false;
    return true;
}

/* What the image lies over, from here; owned by the caller. */
static char *full_backing(const struct told *t)
{
    g_autofree char *full = block_path_resolve(t->image->name, t->info.backing);
    return image_shown(full);
}

/* --- JSON --- */

static json_t *snapshot_json(const struct block_snapshot *s)
{
    json_t *j =
        json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I}", "id", s->id, "name", s->name, "vm-state-size",
                  (json_int_t)s->vm_state_size, "date-sec", (json_int_t)s->seconds, "date-nsec",
                  (json_int_t)s->nanoseconds, "vm-clock-sec", (json_int_t)(s->vm_clock / 1000000000),
                  "vm-clock-nsec", (json_int_t)(s->vm_clock % 1000000000));
    if (s->icount != UINT64_MAX)
        json_object_set_new(j, "icount", json_integer((json_int_t)s->icount));
    return j;
}

/* The format's own members: with its type, as they are kept below "data". */
static json_t *specific_json(const struct told *t)
{
    if (json_object_get(t->info.specific, "data") && json_object_get(t->info.specific, "type"))
        return json_incref(t->info.specific);
    return json_pack("{s:s, s:O}", "type", t->image->format->name, "data", t->info.specific);
}

static json_t *file_json(const struct told *t)
{
    struct stat status;
    json_t *file = json_object();
    if (!stat(t->image->name, &status))
        json_object_set_new(file, "virtual-size", json_integer((json_int_t)status.st_size));
    json_object_set_new(file, "filename", json_string(t->image->name));
    json_object_set_new(file, "format", json_string("file"));
    if (t->actual >= 0)
        json_object_set_new(file, "actual-size", json_integer(t->actual));
    json_object_set_new(file, "dirty-flag", json_false());
    return json_pack("[{s:s, s:o}]", "name", "file", "info", file);
}

static void set_text(json_t *j, const char *name, const char *text)
{
    json_t *value = json_string(text); /* NULL when it is no UTF-8: a file name may be anything */
    json_object_set_new(j, name, value ? value : json_string_nocheck("?"));
}

static json_t *told_json(const struct told *t)
{
    const struct block_image_info *info = &t->info;
    json_t *j = json_object();
    json_object_set_new(j, "children", file_json(t));
    json_object_set_new(j, "virtual-size", json_integer((json_int_t)t->image->disk->facts.size));
    set_text(j, "filename", t->image->name);
    if (info->cluster)
        json_object_set_new(j, "cluster-size", json_integer(info->cluster));
    set_text(j, "format", t->image->format->name);
    if (t->actual >= 0)
        json_object_set_new(j, "actual-size", json_integer(t->actual));
    if (info->encrypted)
        json_object_set_new(j, "encrypted", json_true());
    if (info->compressed)
        json_object_set_new(j, "compressed", json_true());
    if (info->backing) {
        g_autofree char *full = full_backing(t), *backing = image_shown(info->backing);
        set_text(j, "full-backing-filename", full);
        set_text(j, "backing-filename", backing);
    }
    if (info->backing_format)
        set_text(j, "backing-filename-format", info->backing_format);
    if (t->snapshots && t->snapshots->len) {
        json_t *list = json_array();
        for (unsigned i = 0; i < t->snapshots->len; i++)
            json_array_append_new(list, snapshot_json(t->snapshots->pdata[i]));
        json_object_set_new(j, "snapshots", list);
    }
    if (info->specific)
        json_object_set_new(j, "format-specific", specific_json(t));
    json_object_set_new(j, "dirty-flag", json_boolean(info->dirty));
    return j;
}

/* --- for people --- */

static void print_value(const char *name, const json_t *value, int indent);

static void print_members(const json_t *object, int indent)
{
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, name, value)
    {
        g_autofree char *words = g_strdelimit(g_strdup(name), "-", ' ');
        print_value(words, value, indent);
    }
}

static void print_value(const char *name, const json_t *value, int indent)
{
    enum { DEPTH_MAX = 32 };
    printf("%*s%s:", indent, "", name);
    if (json_is_string(value))
        printf(" %s\n", json_string_value(value));
    else if (json_is_integer(value))
        printf(" %" JSON_INTEGER_FORMAT "\n", json_integer_value(value));
    else if (json_is_boolean(value))
        printf(" %s\n", json_is_true(value) ? "true" : "false");
    else
        putchar('\n');
    if (json_is_object(value) && indent < DEPTH_MAX)
        print_members(value, indent + 4);
    if (json_is_array(value) && indent < DEPTH_MAX) {
        for (size_t i = 0; i < json_array_size(value); i++) {
            g_autofree char *number = g_strdup_printf("[%zu]", i);
            print_value(number, json_array_get(value, i), indent + 4);
        }
    }
}

static void print_told(const struct told *t)
{
    const struct block_image_info *info = &t->info;
    const uint64_t size = t->image->disk->facts.size;
    g_autofree char *virtual_size = progress_size_text(size);
    g_autofree char *disk_size =
        t->actual >= 0 ? progress_size_text((uint64_t)t->actual) : g_strdup("unavailable");
    printf("image: %s\nfile format: %s\nvirtual size: %s (%" PRIu64 " bytes)\ndisk size: %s\n",
           t->image->name, t->image->format->name, virtual_size, size, disk_size);
    if (info->encrypted)
        printf("encrypted: yes\n");
    if (info->cluster)
        printf("cluster_size: %u\n", info->cluster);
    if (info->dirty)
        printf("cleanly shut down: no\n");
    if (info->backing) {
        g_autofree char *full = full_backing(t), *backing = image_shown(info->backing);
        printf("backing file: %s", backing);
        printf(strcmp(full, backing) != 0 ? " (actual path: %s)\n" : "\n", full);
    }
    if (info->backing_format)
        printf("backing file format: %s\n", info->backing_format);
    if (t->snapshots && t->snapshots->len) {
        printf("Snapshot list:\n");
        image_print_snapshots(t->snapshots);
    }
    if (info->specific) {
        const json_t *data = json_object_get(info->specific, "data");
        printf("Format specific information:\n");
        print_members(data ? data : info->specific, 4);
    }
}

/* --- the command --- */

/* Those it lies over, which were all opened as --follow allows it. */
static bool open_chain(struct image_args *args, struct image *top, GPtrArray *chain, GError **error)
{
    AUTO_IMAGE whole = {0};
    if (!image_open(args, args->names[0], top->format->name, NULL, IMAGE_READ, &whole, error))
        return false;
    for (unsigned i = 0; i < whole.chain->len; i++)
        g_ptr_array_add(chain, g_steal_pointer(&whole.chain->pdata[i]));
    return true;
}

static bool tell_one(const struct image *image, json_t *list, bool first, GError **error)
{
    AUTO_TOLD t = {0};
    if (!tell(image, &t, error))
        return false;
    if (list) {
        json_array_append_new(list, told_json(&t));
        return true;
    }
    if (!first)
        putchar('\n');
    print_told(&t);
    return true;
}

static bool tell_chain(struct image_args *args, struct image *top, json_t *list, GError **error)
{
    g_autoptr(GPtrArray) chain = g_ptr_array_new_with_free_func((GDestroyNotify)block_path_link_free);
    if (!open_chain(args, top, chain, error))
        return false;
    for (unsigned i = 0; i < chain->len; i++) {
        const struct block_path_link *link = chain->pdata[i];
        AUTO_IMAGE image = {0};
        if (!image_open(args, link->name, link->format->name, NULL, IMAGE_READ | IMAGE_ALONE, &image,
                        error) ||
            !tell_one(&image, list, false, error))
            return false;
    }
    return true;
}

static bool info(struct image_args *args, GError **error)
{
    if (args->n != 1)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "expected one image, found %u arguments", args->n);
    AUTO_IMAGE image = {0};
    if (!image_open(args, args->names[0], args->format, NULL, IMAGE_READ | IMAGE_ALONE | IMAGE_GUESS, &image,
                    error))
        return false;
    if (!args->info_chain && !image_confine(args, error))
        return false;
    json_t *list = args->output[0] == 'j' ? json_array() : NULL;
    const bool ok =
        tell_one(&image, list, true, error) && (!args->info_chain || tell_chain(args, &image, list, error));
    if (ok && list)
        image_print_json(json_incref(args->info_chain ? list : json_array_get(list, 0)));
    json_decref(list);
    return ok;
}

static int run(struct image_args *args)
{
    GError *error = NULL;
    return info(args, &error) ? CLI_OK : image_fail(error, CLI_FAILURE);
}

const struct image_command image_command_info = {
    .name = "info",
    .synopsis = "[-f FORMAT] [--output human|json] FILE",
    .help = "tell what an image is",
    .options = options,
    .run = run,
    .usage = CLI_FAILURE,
};
