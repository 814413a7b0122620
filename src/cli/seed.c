/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A guest's seed, as a cpio archive in the "new ASCII" format. */
#include "cli/seed.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "os/fd.h"

enum { CPIO_ALIGNMENT = 4 };

static void pad(GByteArray *out)
{
    static const guint8 zeroes[CPIO_ALIGNMENT];
    guint rest = out->len % CPIO_ALIGNMENT;
    if (rest)
        g_byte_array_append(out, zeroes, CPIO_ALIGNMENT - rest);
}

/* Everything belongs to root and has no time; names are told apart by name, so inodes need no numbers. */
static void add_entry(GByteArray *out, const char *name, unsigned mode, const void *bytes, size_t size)
{
    char header[6 + 13 * 8 + 1];
    g_snprintf(header, sizeof(header), "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X", 0u, mode,
               0u, 0u, 1u, 0u, (unsigned)size, 0u, 0u, 0u, 0u, (unsigned)strlen(name) + 1, 0u);
    g_byte_array_append(out, (const guint8 *)header, sizeof(header) - 1);
    g_byte_array_append(out, (const guint8 *)name, (guint)strlen(name) + 1);
    pad(out);
    if (size)
        g_byte_array_append(out, bytes, (guint)size);
    pad(out);
}

GByteArray *seed_new(void)
{
    GByteArray *seed = g_byte_array_new();
    add_entry(seed, "seed", S_IFDIR | 0700, NULL, 0);
    return seed;
}

void seed_add(GByteArray *seed, const char *name, const void *bytes, size_t size)
{
    g_autofree char *path = g_strconcat("seed/", name, NULL);
    add_entry(seed, path, S_IFREG | 0600, bytes, size);
}

void seed_add_text(GByteArray *seed, const char *name, const char *text)
{
    seed_add(seed, name, text, strlen(text));
}

void seed_end(GByteArray *seed)
{
    add_entry(seed, "TRAILER!!!", 0, NULL, 0);
}

static bool write_all(int fd, const char *bytes, size_t size)
{
    while (size) {
        ssize_t n = write(fd, bytes, size);
        if (n < 0 && errno != EINTR)
            return false;
        if (n > 0) {
            bytes += n;
            size -= (size_t)n;
        }
    }
    return true;
}

int seed_append(const char *initrd, const char *seed, GError **error)
{
    static const char zeroes[CPIO_ALIGNMENT];
    AUTO_FD fd = memfd_create("initrd", MFD_CLOEXEC);
    const char *const files[] = {initrd, seed};
    for (unsigned i = 0; fd >= 0 && i < G_N_ELEMENTS(files); i++) {
        g_autoptr(GError) why = NULL;
        g_autoptr(GMappedFile) map = g_mapped_file_new(files[i], FALSE, &why);
        if (!map) {
            hostel_fail(error, HOSTEL_ERROR_HOST, "%s", why->message);
            return -1;
        }
        size_t size = g_mapped_file_get_length(map);
        if (!write_all(fd, g_mapped_file_get_contents(map), size) ||
            !write_all(fd, zeroes, -size % CPIO_ALIGNMENT))
            fd_close(&fd);
    }
    if (fd < 0)
        hostel_fail(error, HOSTEL_ERROR_HOST, "cannot make a memory file: %s", g_strerror(errno));
    return fd_steal(&fd);
}
