/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* hostel-files: the files on a disk, without mounting it. */
/*
 * A program by itself, because only these two subcommands link a library of file systems, and because what
 * that reads is hostile.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/error.h"
#include "base/log.h"
#include "block/partition.h"
#include "cli/cli.h"
#include "cli/image/ext.h"
#include "cli/image/files.h"

/* --- which part of the disk --- */

static const struct block_partition *only_one(const GPtrArray *list, unsigned number)
{
    const struct block_partition *found = NULL;
    for (unsigned i = 0; i < list->len; i++) {
        const struct block_partition *p = list->pdata[i];
        if (number ? p->number == number : true) {
            if (found)
                return NULL;
            found = p;
        }
    }
    return found;
}

/* The partition that was asked for; the only one; or the whole disk when there is no table. */
static bool find_place(const struct image_args *args, const struct image *image, const GPtrArray *list,
                       uint64_t *offset, uint64_t *size, GError **error)
{
    *offset = 0;
    *size = image->disk->facts.size;
    if (!list->len && !args->partition)
        return true;
    const struct block_partition *p = only_one(list, args->partition);
    if (!p && args->partition)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "%s: has no partition %u; 'hostel image ls %s' lists them", image->name,
                           args->partition, image->name);
    if (!p)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "%s: has %u partitions; choose one with -P N; 'hostel image ls %s' lists them",
                           image->name, list->len, image->name);
    *offset = p->offset;
    *size = p->size;
    return true;
}

static struct ext *open_files(const struct image_args *args, const struct image *image, const GPtrArray *list,
                              GError **error)
{
    uint64_t offset, size;
    if (!find_place(args, image, list, &offset, &size, error))
        return NULL;
    struct ext *x = ext_open(image->disk, offset, size, error);
    if (x && ext_dirty(x))
        log_warn(LOG_CLI, "%s: its file system was not unmounted; what only its journal has is not seen",
                 image->name);
    return x;
}

/* --- ls --- */

static void print_partitions(const struct image_args *args, const GPtrArray *list)
{
    json_t *array = json_array();
    for (unsigned i = 0; i < list->len; i++) {
        const struct block_partition *p = list->pdata[i];
        if (args->output[0] == 'j')
            json_array_append_new(array, json_pack("{s:i,s:I,s:I,s:s,s:s}", "number", (int)p->number, "start",
                                                   (json_int_t)p->offset, "length", (json_int_t)p->size,
                                                   "type", p->type, "name", p->name));
        else
            printf("%-4u%14" PRIu64 "%16" PRIu64 "  %s%s%s\n", p->number, p->offset, p->size, p->type,
                   *p->name ? "  " : "", p->name);
    }
    if (args->output[0] == 'j')
        image_print_json(json_incref(array));
    json_decref(array);
}

/* "-rw-r--r--". */
static void mode_text(uint32_t mode, char out[11])
{
    static const char letters[] = "rwxrwxrwx";
    out[0] = S_ISDIR(mode)    ? 'd'
             : S_ISLNK(mode)  ? 'l'
             : S_ISREG(mode)  ? '-'
             : S_ISCHR(mode)  ? 'c'
             : S_ISBLK(mode)  ? 'b'
             : S_ISFIFO(mode) ? 'p'
                              : 's';
    for (unsigned i = 0; i < 9; i++)
        out[i + 1] = mode >> (8 - i) & 1 ? letters[i] : '-';
    out[10] = '\0';
}

static char *time_text(int64_t seconds)
{
    char text[32] = "?";
    struct tm tm;
    const time_t when = (time_t)seconds;
    if (localtime_r(&when, &tm))
        strftime(text, sizeof(text), "%Y-%m-%d %H:%M", &tm);
    return g_strdup(text);
}

static void print_entry(void *opaque, const struct ext_entry *e)
{
    char mode[11];
    g_autofree char *when = time_text(e->seconds), *name = g_strescape(e->name, NULL);
    (void)opaque;
    mode_text(e->mode, mode);
    printf("%s %5" PRIu32 " %5" PRIu32 " %12" PRIu64 " %s %s\n", mode, e->uid, e->gid, e->size, when, name);
}

static void add_entry(void *opaque, const struct ext_entry *e)
{
    g_autofree char *name = g_utf8_make_valid(e->name, -1);
    json_array_append_new(opaque, json_pack("{s:s,s:i,s:I,s:I,s:I,s:I}", "name", name, "mode", (int)e->mode,
                                            "uid", (json_int_t)e->uid, "gid", (json_int_t)e->gid, "size",
                                            (json_int_t)e->size, "mtime", (json_int_t)e->seconds));
}

static bool print_files(const struct image_args *args, struct ext *x, const char *path, GError **error)
{
    if (args->output[0] != 'j')
        return ext_list(x, path, print_entry, NULL, error);
    json_t *array = json_array();
    bool ok = ext_list(x, path, add_entry, array, error);
    if (ok)
        image_print_json(json_incref(array));
    json_decref(array);
    return ok;
}

static bool ls(struct image_args *args, GError **error)
{
    if (args->n < 1 || args->n > 2)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "expected an image and perhaps a path, found %u arguments", args->n);
    AUTO_IMAGE image = {0};
    if (!image_open(args, args->names[0], args->format, args->snapshot, IMAGE_READ, &image, error))
        return false;
    if (!image_confine(args, error))
        return false;
    g_autoptr(GPtrArray) list = block_partitions(image.disk, error);
    if (!list)
        return false;
    if (args->n == 1 && list->len && !args->partition) {
        print_partitions(args, list);
        return true;
    }
    AUTO(ext) x = open_files(args, &image, list, error);
    return x && print_files(args, x, args->n == 2 ? args->names[1] : "/", error);
}

static int run_ls(struct image_args *args)
{
    GError *error = NULL;
    return ls(args, &error) ? CLI_OK : image_fail(error, CLI_FAILURE);
}

/* --- cat --- */

static bool write_out(void *opaque, const void *bytes, size_t size, GError **error)
{
    (void)opaque;
    return fwrite(bytes, 1, size, stdout) == size ||
           hostel_fail(error, HOSTEL_ERROR_HOST, "cannot write standard output: %s", g_strerror(errno));
}

static bool cat(struct image_args *args, GError **error)
{
    if (args->n != 2)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "expected an image and a path, found %u arguments",
                           args->n);
    AUTO_IMAGE image = {0};
    if (!image_open(args, args->names[0], args->format, args->snapshot, IMAGE_READ, &image, error))
        return false;
    if (!image_confine(args, error))
        return false;
    g_autoptr(GPtrArray) list = block_partitions(image.disk, error);
    if (!list)
        return false;
    AUTO(ext) x = open_files(args, &image, list, error);
    return x && ext_read(x, args->names[1], write_out, NULL, error);
}

static int run_cat(struct image_args *args)
{
    GError *error = NULL;
    return cat(args, &error) ? CLI_OK : image_fail(error, CLI_FAILURE);
}

/* --- the program --- */

int image_files_main(char **argv)
{
    static const struct {
        const struct image_command *command;
        int (*run)(struct image_args *args);
    } verbs[] = {{&image_command_ls, run_ls}, {&image_command_cat, run_cat}};
    log_set_program("hostel");
    for (unsigned i = 0; argv[0] && i < G_N_ELEMENTS(verbs); i++) {
        if (strcmp(argv[0], verbs[i].command->name) != 0)
            continue;
        struct image_command command = *verbs[i].command;
        command.run = verbs[i].run;
        return image_run(&command, argv);
    }
    log_error(LOG_CLI, "this program is started by 'hostel image ls' and 'hostel image cat'");
    return CLI_USAGE;
}
