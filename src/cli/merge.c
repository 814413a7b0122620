/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* `hostel snapshot merge`: layers that no moment needs by themselves become one. */
/*
 * Theory of operation
 *
 * fold.h says what can be merged, the guest's process does it (merge_job.h); a guest that does not run is run
 * for it, standing still. What this file is about is the order of things, so that whoever is killed, and
 * whenever, leaves layers.json true:
 *
 * 1. Copying into layers changes nothing that anybody sees, so until all of it is done the snapshot is there,
 *    and whoever is interrupted has lost nothing.
 *
 * 2. layers.json is replaced: the snapshot is forgotten, and the lists are shorter. Then files go.
 *
 * 3. Images that are written into have no moment of their own any more. Each is merged, then layers.json
 *    tells it. Until then it names layers that say the same as the image, or are empty.
 *
 * The guest goes on in the image when its own layer has been merged into it; from then on it must not be run
 * from the layers.json of before *and* have the layer removed. So its process must still be there when the
 * new one is stored: if it is not, the guest may have been run again in between, and the layer, empty or not,
 * is kept.
 */
#include "cli/merge.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "cli/fold.h"
#include "cli/freeze.h"
#include "cli/guest.h"
#include "cli/guest_run.h"
#include "cli/guest_saved.h"
#include "cli/layers.h"
#include "cli/merge_job.h"
#include "cli/progress.h"
#include "cli/stop.h"
#include "cli/table.h"
#include "cli/words.h"
#include "os/fd.h"

struct merging {
    const struct cli_args *args;
    const char *name, *snapshot; /* NULL = none is forgotten */
    const struct named *guest;
    json_t *before; /* the layers */
    json_t *after;  /* as far as it is done */
    GPtrArray *folds;
    GPtrArray *kept; /* of char *, owned: why an image is left alone */
    struct merge_job job;
    struct progress progress;
    uint64_t done; /* bytes, of folds that have ended */
    unsigned merged;
};

/* --- what may be written --- */

static bool same_file(const char *path, const struct stat *status)
{
    struct stat other;
    return path && !stat(path, &other) && other.st_dev == status->st_dev && other.st_ino == status->st_ino;
}

/* Do its layers lie over the file, perhaps those of a snapshot alone? */
static bool lies_over(const struct named *guest, const struct stat *status)
{
    json_t *layers = layers_load(guest, NULL);
    bool found = !layers; /* who knows */
    for (size_t i = 0; i < json_array_size(json_object_get(layers, "images")); i++) {
        g_autofree char *path = layers_image(guest, layers, i);
        found |= same_file(path, status);
    }
    json_decref(layers);
    return found;
}

/* Does the guest use the file, as an image or below one? */
static bool uses(const struct named *guest, const struct stat *status)
{
    bool found = lies_over(guest, status);
    g_autoptr(GPtrArray) images = guest_images(guest), words = guest_words(guest);
    for (guint i = 0; i < images->len; i++)
        found |= same_file(images->pdata[i], status);
    g_autofree char **argv = words_argv(words);
    struct guest_options options;
    guest_options_init(&options);
    if (option_parse(guest_option_rows, OPTION_CLI, argv, &options, NULL)) {
        const struct disk_options *disks = options.disks.items;
        for (unsigned i = 0; i < options.disks.count; i++)
            found |= same_file(disks[i].base.name, status);
    } else {
        found = true;
    }
    guest_options_fini(&options);
    return found;
}

/* Another guest that uses the file; owned, NULL = none. */
static char *find_user(const struct named *but, const struct stat *status)
{
    g_auto(GStrv) names = named_list();
    for (char **name = names; *name; name++) {
        if (!strcmp(*name, but->name))
            continue;
        AUTO(named) other = named_look(*name, NULL);
        if (!other || uses(other, status))
            return g_strdup(*name);
    }
    return NULL;
}

static bool keep(struct merging *m, char *why)
{
    g_ptr_array_add(m->kept, why);
    return false;
}

/* The guest's own: what it would write to if it had no layers, and nobody else reads. */
static bool may_image(struct merging *m, size_t disk)
{
    g_autofree char *path = layers_image(m->guest, m->before, disk);
    struct stat status;
    if (!path || stat(path, &status))
        return keep(m, g_strdup_printf("disk %zu: %s: %s", disk + 1, path ? path : "its image",
                                       path ? g_strerror(errno) : "is not known"));
    if (S_ISREG(status.st_mode) && status.st_nlink > 1)
        return keep(m, g_strdup_printf("%s has other names, under which others may use it", path));
    if (faccessat(AT_FDCWD, path, W_OK, AT_EACCESS))
        return keep(m, g_strdup_printf("%s: cannot be written: %s", path, g_strerror(errno)));
    g_autofree char *user = find_user(m->guest, &status);
    return !user || keep(m, g_strdup_printf("%s is used by guest '%s', too", path, user));
}

static bool may(void *opaque, size_t disk, const char *file)
{
    struct merging *m = opaque;
    if (!file)
        return may_image(m, disk);
    g_autofree char *path = layers_path(m->guest, file);
    struct stat status;
    return !stat(path, &status) && status.st_nlink == 1; /* clones have links to it */
}

/* --- how much it takes --- */

static uint64_t bytes_of(const char *path)
{
    struct stat status;
    return stat(path, &status) || status.st_nlink > 1 ? 0 : (uint64_t)status.st_blocks * 512;
}

static uint64_t bytes_in(const struct named *guest, const char *folder)
{
    g_autofree char *path = named_path(guest, folder);
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    uint64_t sum = 0;
    for (const char *name; dir && (name = g_dir_read_name(dir));) {
        g_autofree char *file = g_build_filename(path, name, NULL);
        sum += bytes_of(file);
    }
    return sum;
}

/* Of all that is the guest's alone. */
static uint64_t bytes_taken(const struct named *guest, const json_t *layers)
{
    uint64_t sum = bytes_in(guest, "layers") + bytes_in(guest, "snapshots");
    for (size_t i = 0; i < json_array_size(json_object_get(layers, "images")); i++) {
        g_autofree char *path = layers_image(guest, layers, i);
        if (path)
            sum += bytes_of(path);
    }
    return sum;
}

/* --- the work --- */

static void show(void *opaque, uint64_t done)
{
    struct merging *m = opaque;
    progress_at(&m->progress, m->done + done);
}

static bool run(struct merging *m, const struct fold *f, GError **error)
{
    if (atomic_load(&cli_stopped))
        return hostel_fail(error, HOSTEL_ERROR_HOST, "stopped");
    if (!merge_job_run(&m->job, f, error))
        return false;
    m->done += merge_job_size(m->before, f->disk);
    m->merged += f->gone->len;
    return true;
}

/* layers.json is `after` from now on. */
static bool store(const struct merging *m, GError **error)
{
    g_autofree char *state = m->snapshot ? layers_snapshot_path(m->guest, m->snapshot) : NULL;
    return (!state || guest_saved_keep(m->guest, state, error)) && layers_store(m->guest, m->after, error);
}

/* 1 and 2. The files that have become needless stay until its process has closed them. */
static bool merge_layers_up(struct merging *m, GError **error)
{
    for (guint i = 0; i < m->folds->len; i++) {
        const struct fold *f = m->folds->pdata[i];
        if (f->into && !run(m, f, error))
            return false;
    }
    if (m->snapshot)
        layers_forget(m->after, m->snapshot);
    for (guint i = 0; i < m->folds->len; i++) {
        const struct fold *f = m->folds->pdata[i];
        if (f->into)
            fold_apply(f, m->after);
    }
    if (!store(m, error))
        return false;
    for (guint i = 0; i < m->folds->len; i++) {
        const struct fold *f = m->folds->pdata[i];
        if (f->into)
            merge_job_forget(&m->job, f);
    }
    layers_sweep(m->guest, m->after);
    return true;
}

/* Is its process still the one that did it? */
static bool is_there(const struct merging *m)
{
    return guest_call_do(m->job.call, "query-status", NULL, NULL);
}

static bool merge_into_image(struct merging *m, const struct fold *f, GError **error)
{
    bool has;
    if (!merge_job_has(&m->job, f, &has, error))
        return false;
    if (!has) {
        keep(m,
             g_strdup_printf("disk %zu: an earlier merge was cut off; stop and start the guest, then merge",
                             f->disk + 1));
        return true;
    }
    json_t *was = json_deep_copy(m->after);
    bool good = run(m, f, error);
    if (good) {
        fold_apply(f, m->after);
        good = store(m, error);
    }
    if (good && !is_there(m)) {
        layers_store(m->guest, was, NULL);
        good = hostel_fail(error, HOSTEL_ERROR_HOST,
                           "guest '%s': its process has ended; nothing is lost, 'hostel snapshot merge %s' "
                           "goes on",
                           m->name, m->name);
    }
    json_decref(was);
    if (!good)
        return false;
    merge_job_forget(&m->job, f);
    layers_sweep(m->guest, m->after);
    return true;
}

/* 3 */
static bool merge_layers_down(struct merging *m, GError **error)
{
    for (guint i = 0; i < m->folds->len; i++) {
        const struct fold *f = m->folds->pdata[i];
        if (!f->into && !merge_into_image(m, f, error)) {
            if (m->snapshot)
                g_prefix_error(error,
                               "snapshot '%s' is forgotten, and its layer is still there: ", m->snapshot);
            return false;
        }
    }
    return true;
}

/* --- its process --- */

/* What a merge needs of the guest's process. */
struct process {
    struct guest_state state;
    struct named *guest;
    struct guest_call *call;
    bool roused;
};

static bool process_open(struct process *p, struct merging *m, GError **error)
{
    p->guest = freeze_rouse(m->name, &p->state, &p->roused, error);
    p->call = p->guest ? guest_call_open(m->name, GUEST_CALL_MS, error) : NULL;
    m->job = (struct merge_job){
        .guest = m->guest, .call = p->call, .layers = m->before, .progress = show, .opaque = m};
    return p->call && merge_job_settle(m->guest, p->call, m->before, error);
}

static void process_close(struct process *p)
{
    if (p->roused && p->guest)
        freeze_settle(p->call, &p->state);
    guest_call_close(p->call);
    named_free(p->guest);
    guest_state_fini(&p->state);
}

static bool is_live(const char *name)
{
    AUTO_STATE state;
    guest_state_read(name, &state);
    return state.live;
}

static bool work(struct merging *m, GError **error)
{
    uint64_t total = 0;
    for (guint i = 0; i < m->folds->len; i++)
        total += merge_job_size(m->before, ((const struct fold *)m->folds->pdata[i])->disk);
    progress_begin(&m->progress, progress_form(m->args->progress, m->args->quiet), total);
    cli_stop_catch();
    m->job.layers = m->after;
    const bool done = merge_layers_up(m, error) && merge_layers_down(m, error);
    progress_end(&m->progress, done);
    return done;
}

/* A guest that runs is asked before anything is planned; one that does not is run only for work. */
static bool plan_and_work(struct merging *m, GError **error)
{
    struct process process = {0};
    const bool live = is_live(m->name);
    bool good = !live || process_open(&process, m, error);
    json_t *without = json_deep_copy(m->before);
    m->after = json_deep_copy(m->before);
    if (m->snapshot)
        layers_forget(without, m->snapshot);
    m->folds = fold_plan(without, may, m);
    if (good && !live && m->folds->len)
        good = process_open(&process, m, error);
    good = good && work(m, error);
    process_close(&process);
    g_ptr_array_unref(m->folds);
    json_decref(without);
    return good;
}

/* --- what is said --- */

static void say(const struct merging *m, uint64_t before, uint64_t after)
{
    const bool json = !strcmp(m->args->output, "json");
    if (json) {
        json_t *kept = json_array();
        for (guint i = 0; i < m->kept->len; i++)
            json_array_append_new(kept, json_string(m->kept->pdata[i]));
        table_json(json_pack("{s:i,s:I,s:o}", "layers", (int)m->merged, "freed",
                             (json_int_t)before - (json_int_t)after, "kept", kept));
    }
    if (json || m->args->quiet || strcmp(m->args->output, "table") != 0)
        return;
    g_autofree char *bytes = table_bytes((double)(after > before ? after - before : before - after));
    printf("%u layer%s merged; %s %s\n", m->merged, m->merged == 1 ? "" : "s", bytes,
           after > before ? "more are taken, as others keep what was copied" : "freed");
    for (guint i = 0; i < m->kept->len; i++)
        printf("a layer stays over the image: %s\n", (const char *)m->kept->pdata[i]);
}

bool merge_layers(const struct cli_args *args, const char *name, const char *snapshot, const json_t *layers,
                  GError **error)
{
    AUTO(named) guest = named_look(name, error);
    if (!guest)
        return false;
    struct merging m = {.args = args,
                        .name = name,
                        .snapshot = snapshot,
                        .guest = guest,
                        .before = json_deep_copy(layers),
                        .kept = g_ptr_array_new_with_free_func(g_free)};
    const uint64_t before = bytes_taken(guest, layers);
    const bool done = plan_and_work(&m, error);
    if (done)
        say(&m, before, bytes_taken(guest, m.after));
    g_ptr_array_unref(m.kept);
    json_decref(m.before);
    json_decref(m.after);
    return done;
}
