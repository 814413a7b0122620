/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Guests that have a name. */
#include "cli/named.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/option.h"
#include "os/fd.h"

enum { NAME_MAX_LENGTH = 63 };

bool named_is_valid(const char *name)
{
    static const char first[] = G_CSET_a_2_z G_CSET_A_2_Z G_CSET_DIGITS;
    static const char others[] = G_CSET_a_2_z G_CSET_A_2_Z G_CSET_DIGITS "._-";
    return *name && strchr(first, *name) && strspn(name, others) == strlen(name) &&
           strlen(name) <= NAME_MAX_LENGTH;
}

char *named_folder(void)
{
    return g_build_filename(g_get_user_data_dir(), "hostel", "guests", NULL);
}

static char *lock_path(const char *folder, const char *name)
{
    g_autofree char *file = g_strdup_printf(".%s.lock", name);
    return g_build_filename(folder, file, NULL);
}

static int remove_one(const char *path, const struct stat *status G_GNUC_UNUSED, int kind G_GNUC_UNUSED,
                      struct FTW *walk G_GNUC_UNUSED)
{
    return remove(path);
}

/* Removes a folder with all that is in it. Links are not followed. */
static bool remove_folder(const char *path)
{
    enum { DESCRIPTORS = 8 };
    return nftw(path, remove_one, DESCRIPTORS, FTW_DEPTH | FTW_PHYS | FTW_MOUNT) == 0;
}

/* What was written in a folder, names above all, outlives a power cut. */
static bool sync_folder(const char *path, GError **error)
{
    AUTO_FD fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return (fd >= 0 && !fsync(fd)) ||
           hostel_fail(error, HOSTEL_ERROR_HOST, "cannot write %s: %s", path, g_strerror(errno));
}

static bool take_lock(struct named *n, const char *guests, GError **error)
{
    g_autofree char *path = lock_path(guests, n->name);
    n->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (n->lock < 0)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot open it: %s", path, g_strerror(errno));
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (!fcntl(n->lock, F_OFD_SETLK, &whole))
        return true;
    return hostel_fail(
        error, HOSTEL_ERROR_HOST,
        "guest '%s' is in use by another hostel; 'hostel stop %s' ends it, or choose another name", n->name,
        n->name);
}

/* What a hostel that was killed while it made this guest left behind; we hold the lock. */
static char *unfinished(const char *guests, const char *name)
{
    g_autofree char *file = g_strdup_printf(".%s.new", name);
    return g_build_filename(guests, file, NULL);
}

/* Reads the definition; n->folder is the guest's. */
static bool load(struct named *n, GError **error)
{
    g_autofree char *definition = g_build_filename(n->folder, "definition", NULL);
    g_autoptr(GError) why = NULL;
    n->made = true;
    return g_key_file_load_from_file(n->definition, definition, G_KEY_FILE_NONE, &why) ||
           hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: %s; if nothing in the guest is needed: hostel rm %s",
                       definition, why->message, n->name);
}

static bool find(struct named *n, const char *guests, GError **error)
{
    n->folder = g_build_filename(guests, n->name, NULL);
    if (g_file_test(n->folder, G_FILE_TEST_IS_DIR))
        return load(n, error);
    g_free(n->folder);
    n->folder = unfinished(guests, n->name);
    remove_folder(n->folder);
    return g_mkdir(n->folder, 0700) == 0 ||
           hostel_fail(error, HOSTEL_ERROR_HOST, "cannot make %s: %s", n->folder, g_strerror(errno));
}

static bool check_name(const char *name, GError **error)
{
    return named_is_valid(name) ||
           hostel_fail(
               error, HOSTEL_ERROR_USAGE,
               "--name %s: must be letters, digits, '.', '_' and '-', beginning with a letter or digit",
               name);
}

static struct named *named_new(const char *name)
{
    struct named *n = g_new0(struct named, 1);
    n->lock = -1;
    n->name = g_strdup(name);
    n->definition = g_key_file_new();
    return n;
}

/* One that is there, not locked and its definition not read. NULL with *error. */
static struct named *find_made(const char *name, GError **error)
{
    if (!named_exists(name)) {
        named_fail_unknown(name, error);
        return NULL;
    }
    g_autofree char *guests = named_folder();
    struct named *n = named_new(name);
    n->folder = g_build_filename(guests, name, NULL);
    n->made = true;
    return n;
}

struct named *named_open(const char *name, GError **error)
{
    if (!check_name(name, error))
        return NULL;
    g_autofree char *guests = named_folder();
    if (g_mkdir_with_parents(guests, 0700)) {
        hostel_fail(error, HOSTEL_ERROR_HOST, "cannot make %s: %s", guests, g_strerror(errno));
        return NULL;
    }
    AUTO(named) n = named_new(name);
    return take_lock(n, guests, error) && find(n, guests, error) ? STEAL(n) : NULL;
}

struct named *named_open_made(const char *name, GError **error)
{
    if (!named_exists(name)) { /* before a lock file is made for it */
        named_fail_unknown(name, error);
        return NULL;
    }
    AUTO(named) n = named_open(name, error);
    if (n && !n->made)
        named_fail_unknown(name, error);
    return n && n->made ? STEAL(n) : NULL;
}

struct named *named_open_unread(const char *name, GError **error)
{
    g_autofree char *guests = named_folder();
    AUTO(named) n = find_made(name, error);
    return n && take_lock(n, guests, error) ? STEAL(n) : NULL;
}

struct named *named_edit(const char *name, GError **error)
{
    AUTO(named) n = find_made(name, error);
    if (!n)
        return NULL;
    g_autofree char *path = named_path(n, "definition.lock");
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    n->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (n->lock < 0 || fcntl(n->lock, F_OFD_SETLKW, &whole)) {
        hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot lock it: %s", path, g_strerror(errno));
        return NULL;
    }
    return load(n, error) ? STEAL(n) : NULL;
}

struct named *named_look(const char *name, GError **error)
{
    AUTO(named) n = find_made(name, error);
    return n && load(n, error) ? STEAL(n) : NULL;
}

struct named *named_open_new(GError **error)
{
    enum { TRIES = 100000 };
    for (unsigned i = 1; i < TRIES; i++) {
        g_autofree char *name = g_strdup_printf("guest-%u", i);
        if (named_exists(name) || named_is_busy(name))
            continue;
        g_autoptr(GError) why = NULL;
        AUTO(named) n = named_open(name, &why);
        if (n && !n->made)
            return STEAL(n);
        if (!n && !named_is_busy(name) && !named_exists(name)) { /* no other was faster */
            g_propagate_error(error, STEAL(why));
            return NULL;
        }
    }
    hostel_fail(error, HOSTEL_ERROR_HOST, "there are %d guests without a name of their own; remove some",
                TRIES);
    return NULL;
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

void named_leave(struct named *n)
{
    n->made = true;
    named_free(n);
}

char *named_path(const struct named *n, const char *file)
{
    return g_build_filename(n->folder, file, NULL);
}

bool named_keep(struct named *n, GError **error)
{
    g_autofree char *guests = named_folder();
    g_autofree char *final = g_build_filename(guests, n->name, NULL);
    g_autofree char *definition = named_path(n, "definition");
    g_autofree char *text = g_key_file_to_data(n->definition, NULL, NULL);
    g_autoptr(GError) why = NULL;
    if (!g_file_set_contents_full(definition, text, -1,
                                  G_FILE_SET_CONTENTS_CONSISTENT | G_FILE_SET_CONTENTS_DURABLE, 0600, &why))
        return hostel_fail(error, HOSTEL_ERROR_HOST, "%s", why->message);
    if (!sync_folder(n->folder, error))
        return false;
    if (n->made)
        return true;
    if (rename(n->folder, final))
        return hostel_fail(error, HOSTEL_ERROR_HOST, "cannot make %s: %s", final, g_strerror(errno));
    n->made = true;
    g_free(n->folder);
    n->folder = g_steal_pointer(&final);
    return sync_folder(guests, error);
}

bool named_rename(struct named *n, const char *name, GError **error)
{
    /* Locked, so that nobody makes it meanwhile. */
    AUTO(named) other = named_exists(name) ? NULL : named_open(name, error);
    if (named_exists(name))
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "there is a guest '%s' already; choose another name",
                           name);
    if (!other)
        return false;
    g_autofree char *guests = named_folder(), *final = g_build_filename(guests, name, NULL);
    if (rename(n->folder, final))
        return hostel_fail(error, HOSTEL_ERROR_HOST, "cannot make %s: %s", final, g_strerror(errno));
    g_free(n->folder);
    n->folder = g_steal_pointer(&final);
    g_free(n->name);
    n->name = g_strdup(name);
    return sync_folder(guests, error);
}

bool named_remove(struct named *n, GError **error)
{
    /* First out of sight, so that half a guest is never seen. */
    g_autofree char *guests = named_folder();
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
    g_autofree char *guests = named_folder();
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
    g_autofree char *guests = named_folder();
    g_autofree char *path = lock_path(guests, name);
    AUTO_FD lock = open(path, O_RDONLY | O_CLOEXEC);
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    return lock >= 0 && !fcntl(lock, F_OFD_GETLK, &whole) && whole.l_type != F_UNLCK;
}

bool named_exists(const char *name)
{
    g_autofree char *guests = named_folder(), *path = g_build_filename(guests, name, NULL);
    return named_is_valid(name) && g_file_test(path, G_FILE_TEST_IS_DIR);
}

bool named_fail_unknown(const char *name, GError **error)
{
    g_auto(GStrv) names = named_list();
    const char *near = NULL;
    unsigned best = OPTION_FAR;
    for (char **other = names; *other; other++) {
        const unsigned d = option_distance(name, *other);
        if (d < best && d < strlen(*other)) {
            best = d;
            near = *other;
        }
    }
    if (near)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "there is no guest '%s'; did you mean %s?", name, near);
    return hostel_fail(error, HOSTEL_ERROR_USAGE, "there is no guest '%s'; 'hostel ps -a' lists them", name);
}
