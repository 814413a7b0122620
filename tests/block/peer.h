/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Other people's programs as witnesses: run on images in a folder that is gone afterwards. */
#ifndef HOSTEL_TESTS_BLOCK_PEER_H
#define HOSTEL_TESTS_BLOCK_PEER_H

#include <glib.h>
#include <stdarg.h>
#include <stdbool.h>
#include <string.h>
#include <sys/wait.h>

#include "block/block.h"

struct peer_dir {
    char *path;
};

static inline struct peer_dir peer_dir(void)
{
    g_autoptr(GError) error = NULL;
    struct peer_dir d = {g_dir_make_tmp("hostel-peer-XXXXXX", &error)};
    g_assert_no_error(error);
    return d;
}

/* Owned by the caller. */
static inline char *peer_path(const struct peer_dir *d, const char *name)
{
    return g_build_filename(d->path, name, NULL);
}

static inline void peer_dir_gone(struct peer_dir *d)
{
    g_autoptr(GDir) dir = g_dir_open(d->path, 0, NULL);
    for (const char *name; (name = g_dir_read_name(dir));) {
        g_autofree char *path = peer_path(d, name);
        g_assert_cmpint(unlink(path), ==, 0);
    }
    g_assert_cmpint(rmdir(d->path), ==, 0);
    g_clear_pointer(&d->path, g_free);
}

/* Is the program there? If not, the test says that it leaves something out. */
static inline bool peer_has(const char *program)
{
    g_autofree char *path = g_find_program_in_path(program);
    if (!path)
        g_test_skip(program);
    return path;
}

/* What a shell's command says; *status is how it ended. */
__attribute__((format(printf, 2, 0))) static inline char *peer_try(int *status, const char *format,
                                                                   va_list arguments)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *command = g_strdup_vprintf(format, arguments);
    char *argv[] = {(char *)(uintptr_t) "sh", (char *)(uintptr_t) "-c", command, NULL}, *out = NULL;
    g_autofree char *err = NULL;
    g_spawn_sync(NULL, argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, &out, &err, status, &error);
    g_assert_no_error(error);
    if (*status)
        g_test_message("%s: %s%s", command, out, err);
    return out;
}

/* Owned by the caller. The command must succeed. */
__attribute__((format(printf, 1, 2))) static inline char *peer_output(const char *format, ...)
{
    int status;
    va_list arguments;
    va_start(arguments, format);
    char *out = peer_try(&status, format, arguments);
    va_end(arguments);
    g_assert_cmpint(status, ==, 0);
    return out;
}

#define peer_run(...) g_free(peer_output(__VA_ARGS__))

/* The disk holds these bytes; the file does. */
static inline void peer_same(struct disk *b, const uint8_t *bytes, size_t size)
{
    g_autofree uint8_t *back = g_malloc(size);
    g_assert_cmpint(block_pread(b, back, size, 0), ==, 0);
    for (size_t i = 0; i < size; i++)
        if (bytes[i] != back[i])
            g_error("%s: byte %zu is %u, not %u", b->name, i, back[i], bytes[i]);
}

static inline void peer_same_file(const char *path, const uint8_t *bytes, size_t size)
{
    g_autofree char *there = NULL;
    size_t there_size = 0;
    g_assert_true(g_file_get_contents(path, &there, &there_size, NULL));
    g_assert_cmpuint(there_size, ==, size);
    for (size_t i = 0; i < size; i++)
        if (bytes[i] != (uint8_t)there[i])
            g_error("%s: byte %zu is %u, not %u", path, i, (uint8_t)there[i], bytes[i]);
}

#endif
