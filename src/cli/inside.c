/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Snapshots inside the images that a guest writes to (inside.h has the theory). */
#include "cli/inside.h"

#include <string.h>

#include "base/error.h"
#include "block/image.h"
#include "cli/guest_run.h"
#include "cli/image/image.h"
#include "cli/layers.h"
#include "cli/stop.h"
#include "cli/watch.h"
#include "cli/words.h"

bool inside_is(const json_t *snapshot)
{
    return !g_strcmp0(json_string_value(json_object_get(snapshot, "kind")), "internal");
}

/* --- of a guest that lives --- */

/* Names of the nodes that it writes to. NULL with *error: there is none, or one that cannot. */
static json_t *live_nodes(struct guest_call *call, GError **error)
{
    json_t *devices = guest_call(call, "query-block", NULL, error), *device, *nodes = json_array();
    bool good = devices != NULL;
    size_t i;
    json_array_foreach(devices, i, device)
    {
        const json_t *inserted = json_object_get(device, "inserted");
        const char *format = json_string_value(json_object_get(inserted, "drv"));
        if (!inserted || json_is_true(json_object_get(inserted, "ro")))
            continue;
        if (good && g_strcmp0(format, "qcow2") != 0)
            good = hostel_fail(error, HOSTEL_ERROR_USAGE,
                               "disk '%s' is of format %s, and only qcow2 has snapshots inside; without "
                               "--internal it is kept in layers",
                               json_string_value(json_object_get(device, "device")), format);
        json_array_append(nodes, json_object_get(inserted, "node-name"));
    }
    json_decref(devices);
    if (good && !json_array_size(nodes))
        good = hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "the guest has no disk that it writes to; without --internal its memory is kept "
                           "in a file");
    if (good)
        return nodes;
    json_decref(nodes);
    return NULL;
}

/* Of all that query-jobs told. */
static void show(struct watch *w, const json_t *jobs)
{
    json_t *row;
    size_t i;
    json_array_foreach(jobs, i, row)
    {
        const json_int_t total = json_integer_value(json_object_get(row, "total-progress")),
                         done = json_integer_value(json_object_get(row, "current-progress"));
        if (g_strcmp0(json_string_value(json_object_get(row, "id")), w->job) != 0 || total <= 0 || done < 0)
            continue;
        w->progress.total = (uint64_t)total;
        progress_at(&w->progress, (uint64_t)MIN(done, total));
    }
}

static bool await_conclusion(struct guest_call *call, const char *job, GError **error)
{
    static const char *const names[] = {"JOB_STATUS_CHANGE", NULL};
    for (;;) {
        json_t *event = guest_call_event(call, names, error);
        if (!event)
            return false;
        const json_t *data = json_object_get(event, "data");
        const bool over = !g_strcmp0(json_string_value(json_object_get(data, "id")), job) &&
                          !g_strcmp0(json_string_value(json_object_get(data, "status")), "concluded");
        json_decref(event);
        if (over)
            return true;
    }
}

static bool await_job(struct guest_call *call, struct watch *w, enum progress_form form, GError **error)
{
    watch_begin(w, call, form);
    const bool over = await_conclusion(call, w->job, error);
    if (over)
        watch_look(w); /* it may have been quicker than the first tick */
    watch_end(w, call, over);
    return over;
}

/* What became of it, which the guest's process then forgets. */
static bool end_job(struct guest_call *call, const char *job, GError **error)
{
    json_t *jobs = guest_call(call, "query-jobs", NULL, error), *row;
    bool good = jobs != NULL;
    size_t i;
    json_array_foreach(jobs, i, row)
    {
        const char *why = json_string_value(json_object_get(row, "error"));
        if (why && !g_strcmp0(json_string_value(json_object_get(row, "id")), job))
            good = hostel_fail(error, HOSTEL_ERROR_INPUT, "%s", why);
    }
    json_decref(jobs);
    guest_call_do(call, "job-dismiss", json_pack("{s:s}", "id", job), NULL);
    return good;
}

bool inside_live(struct guest_call *call, const char *name, enum inside_what what, const char *tag,
                 enum progress_form form, GError **error)
{
    static const char *const commands[] = {"snapshot-save", "snapshot-load", "snapshot-delete"};
    json_t *nodes = live_nodes(call, error);
    if (!nodes)
        return false;
    g_autofree char *job = g_strdup_printf("hostel-%08x", g_random_int());
    json_t *arguments = json_pack("{s:s,s:s,s:o}", "job-id", job, "tag", tag, "devices", nodes);
    if (what != INSIDE_DELETE)
        json_object_set(arguments, "vmstate", json_array_get(nodes, 0));
    cli_stop_catch(); /* from here on whoever stops us stops the job */
    if (!guest_call_do(call, commands[what], arguments, error))
        return false;
    struct watch w = {.name = name, .job = job, .query = "query-jobs", .show = show, .cancel = "job-cancel"};
    if (!await_job(call, &w, form, error))
        return false;
    const bool good = end_job(call, job, error);
    if (good || !w.cancelled)
        return good;
    g_clear_error(error);
    return hostel_fail(error, HOSTEL_ERROR_HOST, "stopped; the guest goes on");
}

/* --- its images --- */

/* Where the images of a guest are looked for. */
struct search {
    const struct named *guest;
    const json_t *layers, *moment;
    GPtrArray *out;
    bool capable;
};

/* The last layer that lay over it then; NULL = none. */
static const char *top_of(const struct search *s, const char *image)
{
    for (size_t i = 0; i < json_array_size(json_object_get(s->layers, "images")); i++) {
        g_autofree char *path = layers_image(s->guest, s->layers, i);
        if (!g_strcmp0(path, image))
            return layers_top(s->moment, i);
    }
    return NULL;
}

static void add_image(struct search *s, const char *image, const char *format, bool readonly)
{
    const char *top = top_of(s, image);
    if (!readonly && !top && strcmp(format, "qcow2") != 0)
        s->capable = false;
    if (!readonly)
        g_ptr_array_add(s->out, top ? layers_path(s->guest, top) : g_strdup(image));
}

/* The paths of the images that it wrote to at the moment; NULL with *error when one of them cannot have
 * snapshots. */
static GPtrArray *find_images_of(const struct named *guest, const json_t *layers, const json_t *moment,
                                 GError **error)
{
    g_autoptr(GPtrArray) out = g_ptr_array_new_with_free_func(g_free);
    struct search s = {guest, layers, moment, out, true};
    g_autofree char *system = guest_system(guest), *own = named_path(guest, "disk");
    g_autoptr(GPtrArray) words = guest_words(guest);
    g_autofree char **argv = words_argv(words);
    struct guest_options options;
    if (strcmp(system, "run") != 0)
        add_image(&s, own, "overlay", false);
    guest_options_init(&options);
    bool good = option_parse(guest_option_rows, OPTION_CLI, argv, &options, error);
    const struct disk_options *disks = options.disks.items;
    for (unsigned i = 0; good && i < options.disks.count; i++)
        add_image(&s, disks[i].file.name, disks[i].format, disks[i].readonly);
    guest_options_fini(&options);
    if (good && !s.capable)
        good = hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "guest '%s' has a disk that is no qcow2, and only qcow2 has snapshots inside; "
                           "without --internal it is kept in layers",
                           guest->name);
    else if (good && !out->len)
        good =
            hostel_fail(error, HOSTEL_ERROR_USAGE, "guest '%s' has no disk that it writes to", guest->name);
    return good ? g_steal_pointer(&out) : NULL;
}

static GPtrArray *find_images(const struct named *guest, const json_t *layers, GError **error)
{
    return find_images_of(guest, layers, layers, error);
}

/* Opens one; rows of its snapshots, owned, NULL with *error. */
static GPtrArray *open_one(const char *path, bool write, struct image *image, GError **error)
{
    struct image_args args = {.share = !write};
    if (!image_open(&args, path, "qcow2", NULL, IMAGE_ALONE | (write ? IMAGE_WRITE : IMAGE_READ), image,
                    error))
        return NULL;
    return image->format->image->snapshots(image->disk, error);
}

static const struct block_snapshot *find(const GPtrArray *all, const char *tag)
{
    for (guint i = 0; all && i < all->len; i++) {
        const struct block_snapshot *s = all->pdata[i];
        if (!strcmp(s->name, tag))
            return s;
    }
    return NULL;
}

/* --- of one that does not run --- */

static bool take_one(const char *path, const char *tag, GError **error)
{
    AUTO_IMAGE image = {0};
    g_autoptr(GPtrArray) all = open_one(path, true, &image, error);
    return all && image.format->image->snapshot_create(image.disk, tag, error);
}

static bool apply_one(const char *path, const char *tag, GError **error)
{
    AUTO_IMAGE image = {0};
    g_autoptr(GPtrArray) all = open_one(path, true, &image, error);
    const struct block_snapshot *s = find(all, tag);
    if (all && !s)
        hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: has no snapshot '%s'", path, tag);
    return s && image.format->image->snapshot_apply(image.disk, s->id, error);
}

/* When it is there. */
static bool remove_one(const char *path, const char *tag, GError **error)
{
    AUTO_IMAGE image = {0};
    g_autoptr(GPtrArray) all = open_one(path, true, &image, error);
    const struct block_snapshot *s = find(all, tag);
    return all && (!s || image.format->image->snapshot_delete(image.disk, s->id, error));
}

bool inside_take(const struct named *guest, const json_t *layers, const char *tag, GError **error)
{
    g_autoptr(GPtrArray) images = find_images(guest, layers, error);
    bool good = images != NULL;
    guint done = 0;
    for (; good && done < images->len; done += good)
        good = take_one(images->pdata[done], tag, error);
    for (; !good && done > 0; done--)
        remove_one(images->pdata[done - 1], tag, NULL);
    return good;
}

/* Can each be opened, and has it the snapshot? */
static bool check_all(const GPtrArray *images, const char *tag, GError **error)
{
    for (guint i = 0; i < images->len; i++) {
        AUTO_IMAGE image = {0};
        g_autoptr(GPtrArray) all = open_one(images->pdata[i], true, &image, error);
        if (!all)
            return false;
        if (!find(all, tag))
            return hostel_fail(error, HOSTEL_ERROR_INPUT, "%s: has no snapshot '%s'",
                               (const char *)images->pdata[i], tag);
    }
    return true;
}

bool inside_apply(const struct named *guest, const json_t *layers, const char *tag, GError **error)
{
    g_autoptr(GPtrArray) images = find_images(guest, layers, error);
    if (!images || !check_all(images, tag, error))
        return false;
    for (guint i = 0; i < images->len; i++)
        if (!apply_one(images->pdata[i], tag, error))
            return false;
    for (guint i = 0; i < images->len; i++)
        if (!remove_one(images->pdata[i], INSIDE_UNDO, error))
            return false;
    return true;
}

bool inside_remove(const struct named *guest, const json_t *layers, const json_t *moment, const char *tag,
                   GError **error)
{
    g_autoptr(GPtrArray) images = find_images_of(guest, layers, moment, error);
    bool good = images != NULL;
    for (guint i = 0; good && i < images->len; i++)
        good = remove_one(images->pdata[i], tag, error);
    return good;
}

bool inside_is_torn(const struct named *guest, const json_t *layers, GError **error)
{
    const json_t *reverting = json_object_get(layers, "reverting");
    const char *to = json_string_value(json_object_get(reverting, "to"));
    if (!reverting)
        return false;
    bool torn = json_is_true(json_object_get(reverting, "off"));
    g_autoptr(GPtrArray) images = torn ? NULL : find_images(guest, layers, NULL);
    for (guint i = 0; images && i < images->len && !torn; i++) {
        AUTO_IMAGE image = {0};
        g_autoptr(GPtrArray) all = open_one(images->pdata[i], false, &image, NULL);
        torn = find(all, INSIDE_UNDO) != NULL;
    }
    if (torn)
        hostel_fail(error, HOSTEL_ERROR_INPUT,
                    "guest '%s' was going back to its snapshot '%s', which was cut off: 'hostel snapshot "
                    "revert %s %s' does it again",
                    guest->name, to, guest->name, to);
    return torn;
}

/* --- seen --- */

/* One disk's, of which only those stay in `found` that it has, too; NULL = the first. */
static json_t *narrow(json_t *found, json_t *own)
{
    const char *name;
    void *next;
    json_t *row;
    if (!found)
        return own;
    json_object_foreach_safe(found, next, name, row)
    {
        const json_t *here = json_object_get(own, name);
        if (!here)
            json_object_del(found, name);
        else if (json_integer_value(json_object_get(here, "memory")))
            json_object_update(row, json_object_get(own, name));
    }
    json_decref(own);
    return found;
}

static void add_row(json_t *own, const char *name, int64_t seconds, uint64_t memory)
{
    g_autoptr(GDateTime) when = g_date_time_new_from_unix_utc(seconds);
    g_autofree char *time = when ? g_date_time_format_iso8601(when) : g_strdup("");
    g_autofree char *valid = g_utf8_make_valid(name, -1);
    json_object_set_new(own, valid, json_pack("{s:s,s:I}", "time", time, "memory", (json_int_t)memory));
}

static json_t *found_live(const char *name)
{
    AUTO(guest_call) call = guest_call_open(name, GUEST_CALL_MS, NULL);
    json_t *devices = call ? guest_call(call, "query-block", NULL, NULL) : NULL, *device, *row;
    json_t *found = NULL;
    size_t i, k;
    json_array_foreach(devices, i, device)
    {
        const json_t *inserted = json_object_get(device, "inserted");
        json_t *own = json_object();
        json_array_foreach(json_object_get(json_object_get(inserted, "image"), "snapshots"), k, row)
        {
            const char *tag = json_string_value(json_object_get(row, "name"));
            if (tag)
                add_row(own, tag, json_integer_value(json_object_get(row, "date-sec")),
                        (uint64_t)json_integer_value(json_object_get(row, "vm-state-size")));
        }
        if (json_is_true(json_object_get(inserted, "ro")))
            json_decref(own);
        else
            found = narrow(found, own);
    }
    json_decref(devices);
    return found;
}

static json_t *found_off(const struct named *guest, const json_t *layers)
{
    g_autoptr(GPtrArray) images = find_images(guest, layers, NULL);
    json_t *found = NULL;
    for (guint i = 0; images && i < images->len; i++) {
        AUTO_IMAGE image = {0};
        g_autoptr(GPtrArray) all = open_one(images->pdata[i], false, &image, NULL);
        json_t *own = json_object();
        for (guint k = 0; all && k < all->len; k++) {
            const struct block_snapshot *s = all->pdata[k];
            add_row(own, s->name, s->seconds, s->vm_state_size);
        }
        found = narrow(found, own);
    }
    return found;
}

json_t *inside_found(const struct named *guest, const json_t *layers, const struct guest_state *state)
{
    json_t *found = state->live ? found_live(guest->name) : found_off(guest, layers);
    if (found)
        json_object_del(found, INSIDE_UNDO);
    return found ? found : json_object();
}
