/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Does single operations on an image through the block layer, as a script says: a qemu-io of ours, for tests.
 */
/*
 * disktool [-r] FORMAT FILE [BASE-FORMAT BASE] <script; -r: read-only; one operation on a line:
 *
 *   write OFFSET SIZE BYTE | compressed OFFSET SIZE BYTE | zero OFFSET SIZE | unmap OFFSET SIZE
 *   discard OFFSET SIZE | flush | resize SIZE | seal | check OFFSET SIZE BYTE | dump
 *   snapshot NAME | revert NAME | forget NAME
 *
 * `check` fails unless all bytes are BYTE; `dump` writes the disk to standard output. Ends with 1 at the
 * first operation that fails and names it.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bits.h"
#include "block/image.h"

struct beside {
    struct block_refs refs;
    char *folder;
};

static struct disk *open_file(const char *path, bool readonly, GError **error)
{
    struct block_config config = {.name = path, .readonly = readonly};
    config.fd = open(path, readonly ? O_RDONLY : O_RDWR);
    if (config.fd < 0) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAILED, "%s: %s", path, g_strerror(errno));
        return NULL;
    }
    return block_open(block_driver_find("file"), &config, error);
}

static struct disk *open_image(const char *format, const char *path, bool readonly, struct disk *base,
                               struct block_refs *refs, GError **error)
{
    const struct block_driver *driver = block_driver_find(format);
    struct block_config config = {.name = path, .fd = -1, .readonly = readonly, .base = base, .refs = refs};
    if (!driver) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAILED, "no format %s", format);
        return NULL;
    }
    config.file = open_file(path, readonly, error);
    return config.file ? block_open(driver, &config, error) : NULL;
}

static struct disk *open_beside(struct block_refs *refs, enum block_ref what, const char *reference,
                                const char *format, bool readonly, GError **error)
{
    struct beside *beside = (struct beside *)(void *)refs;
    g_autofree char *path = g_path_is_absolute(reference) ? g_strdup(reference)
                                                          : g_build_filename(beside->folder, reference, NULL);
    if (what == BLOCK_REF_DATA)
        return open_file(path, readonly, error);
    return open_image(format ? format : "raw", path, readonly, NULL, refs, error);
}

static void fail(const char *line, int status)
{
    fprintf(stderr, "%s: %s\n", line, g_strerror(-status));
    exit(1);
}

static int check(struct disk *b, uint64_t offset, const uint8_t *want, size_t size)
{
    g_autofree uint8_t *bytes = g_malloc(size);
    int status = block_pread(b, bytes, size, offset);
    return status ? status : memcmp(bytes, want, size) ? -EILSEQ : 0;
}

static int dump(struct disk *b)
{
    static uint8_t bytes[MiB];
    const uint64_t size = b->facts.size;
    for (uint64_t at = 0; at < size; at += sizeof(bytes)) {
        const size_t now = MIN(sizeof(bytes), size - at);
        int status = block_pread(b, bytes, now, at);
        if (status)
            return status;
        if (fwrite(bytes, 1, now, stdout) != now)
            return -EIO;
    }
    return fflush(stdout) ? -EIO : 0;
}

static int on_snapshot(struct disk *b, const char *verb, const char *name)
{
    const struct block_image *image = b->driver->image;
    g_autoptr(GError) error = NULL;
    bool done = !strcmp(verb, "snapshot") ? image->snapshot_create(b, name, &error)
                : !strcmp(verb, "revert") ? image->snapshot_apply(b, name, &error)
                                          : image->snapshot_delete(b, name, &error);
    if (!done)
        fprintf(stderr, "%s\n", error->message);
    return done ? 0 : -EIO;
}

static int do_line(struct disk *b, const char *line)
{
    char verb[16], name[64];
    uint64_t offset = 0, size = 0;
    unsigned byte = 0;
    if (sscanf(line, "%15s %63s", verb, name) == 2 &&
        (!strcmp(verb, "snapshot") || !strcmp(verb, "revert") || !strcmp(verb, "forget")))
        return on_snapshot(b, verb, name);
    int n = sscanf(line, "%15s %" SCNu64 " %" SCNu64 " %u", verb, &offset, &size, &byte);
    g_autofree uint8_t *bytes = n == 4 ? g_malloc(size + 1) : NULL;
    if (bytes)
        memset(bytes, (int)byte, size);
    if (n == 4 && !strcmp(verb, "write"))
        return block_pwrite(b, bytes, size, offset);
    if (n == 4 && !strcmp(verb, "compressed"))
        return block_write_compressed(b, bytes, offset, size);
    if (n == 4 && !strcmp(verb, "check"))
        return check(b, offset, bytes, size);
    if (n == 3 && (!strcmp(verb, "zero") || !strcmp(verb, "unmap")))
        return block_zero(b, offset, size, *verb == 'u' ? BLOCK_MAY_UNMAP : 0);
    if (n == 3 && !strcmp(verb, "discard"))
        return block_discard(b, offset, size);
    if (n == 2 && !strcmp(verb, "resize"))
        return block_resize(b, offset);
    if (n == 1 && !strcmp(verb, "flush"))
        return block_flush(b);
    if (n == 1 && !strcmp(verb, "seal"))
        return block_seal(b);
    if (n == 1 && !strcmp(verb, "dump"))
        return dump(b);
    return -EINVAL;
}

int main(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    struct disk *base = NULL;
    char line[256];
    const bool readonly = argc > 1 && !strcmp(argv[1], "-r");
    argc -= readonly;
    argv += readonly;
    if (argc != 3 && argc != 5) {
        fprintf(stderr, "usage: disktool [-r] FORMAT FILE [BASE-FORMAT BASE] <script\n");
        return 2;
    }
    g_autofree char *folder = g_path_get_dirname(argv[2]);
    struct beside beside = {.refs = {.open = open_beside}, .folder = folder};
    if (argc == 5)
        base = open_image(argv[3], argv[4], true, NULL, &beside.refs, &error);
    AUTO(disk) b = error ? NULL : open_image(argv[1], argv[2], readonly, base, &beside.refs, &error);
    if (!b) {
        fprintf(stderr, "%s\n", error->message);
        return 1;
    }
    while (fgets(line, sizeof(line), stdin)) {
        int status = do_line(b, g_strchomp(line));
        if (status)
            fail(line, status);
    }
    int status = block_flush(b);
    if (status)
        fail("flush at the end", status);
    return 0;
}
