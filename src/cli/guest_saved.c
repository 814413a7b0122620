/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Files of saved guests. */
#include "cli/guest_saved.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "cli/guest_run.h"
#include "cli/saved_file.h"
#include "cli/stop.h"
#include "cli/watch.h"
#include "cli/words.h"
#include "os/fd.h"

#define SAVED_FILE "saved"

/* --- of a guest's folder --- */

char *guest_saved_path(const struct named *guest)
{
    g_autofree char *path = named_path(guest, SAVED_FILE);
    return faccessat(AT_FDCWD, path, F_OK, AT_SYMLINK_NOFOLLOW) ? NULL : g_steal_pointer(&path);
}

bool guest_saved_exists(const char *name)
{
    g_autofree char *folder = named_folder(), *path = g_build_filename(folder, name, SAVED_FILE, NULL);
    return !faccessat(AT_FDCWD, path, F_OK, AT_SYMLINK_NOFOLLOW);
}

void guest_saved_forget(int folder)
{
    unlinkat(folder, SAVED_FILE, 0);
}

bool guest_saved_link(const struct named *guest, const char *file, GError **error)
{
    g_autofree char *whole = g_canonicalize_filename(file, NULL), *path = named_path(guest, SAVED_FILE);
    return !symlink(whole, path) ||
           hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot make it: %s%s", path, g_strerror(errno),
                       errno == EEXIST
                           ? "; 'hostel start' lets the guest go on from it, 'hostel start --fresh' "
                             "does without"
                           : "");
}

bool guest_saved_keep(const struct named *guest, const char *file, GError **error)
{
    g_autofree char *path = named_path(guest, SAVED_FILE), *other = named_path(guest, "." SAVED_FILE);
    struct stat link_status, saved, own;
    if (lstat(path, &link_status) || !S_ISLNK(link_status.st_mode) || stat(path, &saved) ||
        stat(file, &own) || saved.st_dev != own.st_dev || saved.st_ino != own.st_ino)
        return true;
    unlink(other);
    return (!link(file, other) && !rename(other, path)) ||
           hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot be made: %s", path, g_strerror(errno));
}

/* --- what is kept about a guest --- */

json_t *guest_about(const struct named *guest)
{
    g_autoptr(GPtrArray) words = guest_words(guest);
    g_autofree char *system = guest_system(guest);
    g_autoptr(GDateTime) now = g_date_time_new_now_utc();
    g_autofree char *time = g_date_time_format_iso8601(now);
    json_t *list = json_array();
    for (unsigned i = 0; i < words->len; i++) {
        g_autofree char *valid = g_utf8_make_valid(words->pdata[i], -1);
        json_array_append_new(list, json_string(valid));
    }
    return json_pack("{s:s,s:s,s:s,s:s,s:o}", "name", guest->name, "system", system, "time", time, "version",
                     HOSTEL_VERSION, "words", list);
}

json_t *guest_about_read(const char *file, bool verify, GError **error)
{
    AUTO_FD fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) {
        hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot open it: %s", file, g_strerror(errno));
        return NULL;
    }
    g_autofree char *text = saved_file_about(fd, verify, error);
    if (!text) {
        g_prefix_error(error, "%s: ", file);
        return NULL;
    }
    json_t *json = json_loads(text, 0, NULL);
    if (json_is_object(json))
        return json;
    json_decref(json);
    hostel_fail(
        error, HOSTEL_ERROR_INPUT,
        "%s: does not say what guest it is; 'hostel run --incoming %s' with its options lets it go on", file,
        file);
    return NULL;
}

/* --- saving --- */

static bool sync_folder_of(const char *path, GError **error)
{
    g_autofree char *folder = g_path_get_dirname(path);
    AUTO_FD fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return (fd >= 0 && !fsync(fd)) ||
           hostel_fail(error, HOSTEL_ERROR_HOST, "cannot write %s: %s", folder, g_strerror(errno));
}

/* What query-migrate told. */
static void show(struct progress *progress, const json_t *told, bool ended)
{
    const json_t *ram = json_object_get(told, "ram");
    const json_int_t total = json_integer_value(json_object_get(ram, "total")),
                     done = json_integer_value(json_object_get(ram, "transferred"));
    if (total <= 0 || done < 0)
        return;
    progress->total = (uint64_t)total;
    progress_at(progress,
                (uint64_t)(ended ? total : MIN(done, total))); /* what has changed is written again */
}

static void show_on_the_way(struct watch *w, const json_t *told)
{
    show(&w->progress, told, false);
}

/* The arguments are taken. */
static bool save_watched(struct guest_call *call, const char *name, json_t *arguments,
                         enum progress_form form, GError **error)
{
    struct watch w = {
        .name = name, .query = "query-migrate", .show = show_on_the_way, .cancel = "migrate_cancel"};
    cli_stop_catch();
    watch_begin(&w, call, form);
    json_t *told = guest_call(call, "x-save", arguments, error);
    const bool done = told != NULL;
    if (done && form == PROGRESS_JSON)
        show(&w.progress, told, true);
    watch_end(&w, call, done);
    json_decref(told);
    if (!done && w.cancelled && g_error_matches(*error, HOSTEL_ERROR, HOSTEL_ERROR_INPUT)) { /* as it says */
        g_clear_error(error);
        hostel_fail(error, HOSTEL_ERROR_HOST, "stopped; the guest goes on");
    }
    return done;
}

static bool write_state(struct guest_call *call, const char *name, int fd, const struct guest_save_how *how,
                        GError **error)
{
    char *text = json_dumps(how->about, JSON_COMPACT);
    json_t *arguments = json_pack("{s:s,s:s,s:b}", "fdname", "saved", "about", text, "run-on", how->run_on);
    free(text);
    if (how->disks)
        json_object_set(arguments, "disks", how->disks);
    if (how->compress) /* what is to be kept is another file */
        json_object_set_new(arguments, "fast", json_true());
    if (guest_call_give(call, "saved", fd, error))
        return save_watched(call, name, arguments, how->progress, error);
    json_decref(arguments);
    return false;
}

/* A file without a name, of which nothing is left when we are killed; where there are none, one with a
 * temporary name. */
static int open_new(const char *folder, const char *temporary, bool *nameless)
{
    int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    *nameless = fd >= 0;
    return fd >= 0 ? fd : open(temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
}

/* The guest has written itself into `raw`, without a sync; *keep becomes the file that is to have the name.
 * A moment of a guest that has gone on is not lost because it cannot be made small. */
static bool compress(const struct guest_save_how *how, int raw, int fd, int *keep, GError **error)
{
    g_autoptr(GError) why = NULL;
    if (saved_file_pack(raw, fd, how->progress, &why))
        return !fdatasync(fd) || hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot be written: %s", how->path,
                                             g_strerror(errno));
    if (!how->run_on) {
        g_propagate_error(error, g_steal_pointer(&why));
        g_prefix_error(error, "%s: ", how->path);
        return false;
    }
    log_warn(LOG_CLI, "%s: %s; it is kept as it is", how->path, why->message);
    *keep = raw;
    return !fdatasync(raw) ||
           hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot be written: %s", how->path, g_strerror(errno));
}

static bool is_running(struct guest_call *call)
{
    json_t *told = guest_call(call, "query-status", NULL, NULL);
    const bool running = json_is_true(json_object_get(told, "running"));
    json_decref(told);
    return running;
}

static bool write_small(struct guest_call *call, const char *name, int raw, int fd, int *keep,
                        const struct guest_save_how *how, GError **error)
{
    const bool running = is_running(call);
    if (!write_state(call, name, raw, how, error))
        return false;
    if (compress(how, raw, fd, keep, error))
        return true;
    if (running && !how->run_on)
        guest_call_do(call, "cont", NULL, NULL);
    if (atomic_load(&cli_stopped)) {
        g_clear_error(error);
        hostel_fail(error, HOSTEL_ERROR_HOST, "stopped; the guest goes on");
    }
    return false;
}

bool guest_save_to(struct guest_call *call, const char *name, const struct guest_save_how *how,
                   GError **error)
{
    const char *path = how->path;
    g_autofree char *folder = g_path_get_dirname(path), *file = g_path_get_basename(path);
    g_autofree char *temporary = g_strdup_printf("%s/.%s.%08x", folder, file, g_random_int());
    bool nameless;
    AUTO_FD fd = open_new(folder, temporary, &nameless);
    if (fd < 0)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot be made: %s", path, g_strerror(errno));
    AUTO_FD raw = how->compress ? saved_file_scratch(error) : -1;
    int keep = fd;
    bool good = !how->compress ? write_state(call, name, fd, how, error)
                : raw >= 0     ? write_small(call, name, raw, fd, &keep, how, error)
                               : false;
    if (keep == raw) /* which has no name */
        nameless = nameless || !unlink(temporary);
    g_autofree char *own = g_strdup_printf("/proc/self/fd/%d", keep);
    if (good && ((nameless && linkat(AT_FDCWD, own, AT_FDCWD, temporary, AT_SYMLINK_FOLLOW)) ||
                 rename(temporary, path)))
        good = hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot be made: %s", path, g_strerror(errno));
    if (!good)
        unlink(temporary);
    return good && sync_folder_of(path, error);
}
