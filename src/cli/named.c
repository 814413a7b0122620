/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Guests that have a name. */
#include "cli/named.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/error.h"
#include "os/fd.h"

enum { NAME_MAX_LENGTH = 63 };

bool named_is_valid(const char *name)
{
    static const char first[] = G_CSET_a_2_z G_CSET_A_2_Z G_CSET_DIGITS;
    static const char others[] = G_CSET_a_2_z G_CSET_A_2_Z G_CSET_DIGITS "._-";
    return *name && strchr(first, *name) && strspn(name, others) == strlen(name) &&
           strlen(name) <= NAME_MAX_LENGTH;
}

static char *guests_folder(void)
{
    return g_build_filename(g_get_user_data_dir(), "hostel", "guests", NULL);
}

static char *lock_path(const char *folder, const char *name)
{
    g_autofree char *file = g_strdup_printf(".%s.lock", name);
    return g_build_filename(folder, file, NULL);
}

/* Removes a folder of files; there are no folders in it. */
static bool remove_folder(const char *path)
{
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    for (const char *file; dir && (file = g_dir_read_name(dir));) {
        g_autofree char *full = g_build_filename(path, file, NULL);
        unlink(full);
    }
    return rmdir(path) == 0;
}

static bool take_lock(struct named *n, const char *guests, GError **error)
{
    g_autofree char *path = lock_path(guests, n->name);
    n->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (n->lock < 0)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot open it: %s", path, g_strerror(errno));
    if (!flock(n->lock, LOCK_EX | LOCK_NB))
        return true;
    return hostel_fail(error, HOSTEL_ERROR_HOST,
                       "guest '%s' is in use by another hostel; end it there, or choose another --name",
                       n->name);
}

/* What a hostel that was killed while it made this guest left behind; we hold the lock. */
static char *unfinished(const char *guests, const char *name)
{
    g_autofree char *file = g_strdup_printf(".%s.new", name);
    return g_build_filename(guests, file, NULL);
}

static bool find(struct named *n, const char *guests, GError **error)
{
    n->folder = g_build_filename(guests, n->name, NULL);
    g_autofree char *definition = g_build_filename(n->folder, "definition", NULL);
    if (g_file_test(n->folder, G_FILE_TEST_IS_DIR)) {
        g_autoptr(GError) why = NULL;
        n->made = true;
        return g_key_file_load_from_file(n->definition, definition, G_KEY_FILE_NONE, &why) ||
               hostel_fail(error, HOSTEL_ERROR_INPUT,
                           "%s: %s; if nothing in the guest is needed: hostel remove %s", definition,
                           why->message, n->name);
    }
    g_free(n->folder);
    n->folder = unfinished(guests, n->name);
    remove_folder(n->folder);
    return g_mkdir(n->folder, 0700) == 0 ||
           hostel_fail(error, HOSTEL_ERROR_HOST, "cannot make %s: %s", n->folder, g_strerror(errno));
}

struct named *named_open(const char *name, GError **error)
{
    if (!named_is_valid(name)) {
        hostel_fail(error, HOSTEL_ERROR_USAGE,
                    "--name %s: must be letters, digits, '.', '_' and '-', beginning with a letter or digit",
                    name);
        return NULL;
    }
    g_autofree char *guests = guests_folder();
    if (g_mkdir_with_parents(guests, 0700)) {
        hostel_fail(error, HOSTEL_ERROR_HOST, "cannot make %s: %s", guests, g_strerror(errno));
        return NULL;
    }
    AUTO(named) n = g_new0(struct named, 1);
    n->lock = -1;
    n->name = g_strdup(name);
    n->definition = g_key_file_new();
    return take_lock(n, guests, error) && find(n, guests, error) ? STEAL(n) : NULL;
}

void named_free(struct named *n)
{
    if (!n)
        return;
    if (n->folder && !n->made)
        remove_folder(n->folder);
    fd_close(&n->lock);
    g_key_file_unref(n->definition);
    g_free(n->folder);
    g_free(n->name);
    g_free(n);
}

char *named_path(const struct named *n, const char *file)
{
    return g_build_filename(n->folder, file, NULL);
}

bool named_keep(struct named *n, GError **error)
{
    g_autofree char *guests = guests_folder();
    g_autofree char *final = g_build_filename(guests, n->name, NULL);
    g_autofree char *definition = named_path(n, "definition");
    g_autoptr(GError) why = NULL;
    if (!g_key_file_save_to_file(n->definition, definition, &why))
        return hostel_fail(error, HOSTEL_ERROR_HOST, "%s", why->message);
    if (!n->made && rename(n->folder, final))
        return hostel_fail(error, HOSTEL_ERROR_HOST, "cannot make %s: %s", final, g_strerror(errno));
    n->made = true;
    g_free(n->folder);
    n->folder = g_steal_pointer(&final);
    return true;
}

bool named_remove(struct named *n, GError **error)
{
    /* First out of sight, so that half a guest is never seen. */
    g_autofree char *guests = guests_folder();
    g_autofree char *gone = unfinished(guests, n->name);
    remove_folder(gone);
    if (n->made && rename(n->folder, gone))
        return hostel_fail(error, HOSTEL_ERROR_HOST, "cannot remove %s: %s", n->folder, g_strerror(errno));
    n->made = true; /* nothing is left to do for named_free() */
    return remove_folder(gone) ||
           hostel_fail(error, HOSTEL_ERROR_HOST, "cannot remove all of %s: %s", gone, g_strerror(errno));
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

GStrv named_list(void)
{
    g_autofree char *guests = guests_folder();
    g_autoptr(GDir) dir = g_dir_open(guests, 0, NULL);
    GPtrArray *names = g_ptr_array_new();
    for (const char *name; dir && (name = g_dir_read_name(dir));)
        if (named_is_valid(name))
            g_ptr_array_add(names, g_strdup(name));
    g_ptr_array_sort(names, by_name);
    g_ptr_array_add(names, NULL);
    return (GStrv)g_ptr_array_free(names, FALSE);
}

bool named_is_busy(const char *name)
{
    g_autofree char *guests = guests_folder();
    g_autofree char *path = lock_path(guests, name);
    AUTO_FD lock = open(path, O_RDWR | O_CLOEXEC);
    return lock >= 0 && flock(lock, LOCK_EX | LOCK_NB) != 0;
}
