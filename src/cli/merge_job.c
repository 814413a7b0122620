/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* One merge of layers, done by the guest's process. */
/*
 * Theory of operation
 *
 * Layers that the guest runs on are merged where they are, by QMP's block-stream and block-commit. A layer
 * other than the topmost is open read-only there, so a descriptor for writing goes along.
 *
 * Layers of other branches of the tree are brought to the process for the time of the merge, without what
 * they lie over: under the lowest comes a disk of zeroes, whose contents nobody copies.
 *
 * A hostel that is killed leaves a job that goes on to its end, and layers.json as it was; both say the same
 * of what is on the disk. So the next one asks what is there before it does anything. A layer that the
 * process has no more was merged into the one above it or, if that was under way, into the image; which of
 * them is not to be seen, and matters only to who reads that layer and not the one above (merge_job_has).
 */
#include "cli/merge_job.h"

#include <stdatomic.h>
#include <string.h>

#include "base/error.h"
#include "block/block.h"
#include "block/file.h"
#include "cli/chain.h"
#include "cli/layers.h"
#include "cli/stop.h"
#include "os/fd.h"

#define JOB "hostel-merge"
#define ZEROES "hostel-zeroes"

enum { LOOK_US = 50000 };

static const char *text(const json_t *object, const char *name)
{
    return json_string_value(json_object_get(object, name));
}

uint64_t merge_job_size(const json_t *layers, size_t disk)
{
    json_int_t size = json_integer_value(json_array_get(json_object_get(layers, "sizes"), disk));
    const char *name;
    json_t *snapshot;
    json_object_foreach(json_object_get(layers, "snapshots"), name, snapshot)
    {
        size = MAX(size, json_integer_value(json_array_get(json_object_get(snapshot, "sizes"), disk)));
    }
    return (uint64_t)MAX(size, BLOCK_SECTOR);
}

/* --- the job --- */

/* What query-jobs says of ours: a new reference, or NULL (without *error: there is none). */
static json_t *look(const struct merge_job *j, GError **error)
{
    json_t *all = guest_call(j->call, "query-jobs", NULL, error), *row, *found = NULL;
    size_t i;
    json_array_foreach(all, i, row)
    {
        const char *id = text(row, "id");
        if (id && !strcmp(id, JOB))
            found = json_incref(row);
    }
    json_decref(all);
    return found;
}

static bool tell(const struct merge_job *j, const char *command, GError **error)
{
    return guest_call_do(j->call, command, json_pack("{s:s}", "id", JOB), error);
}

static void show(const struct merge_job *j, const struct fold *f, const json_t *job)
{
    const double total = json_number_value(json_object_get(job, "total-progress"));
    const double done = json_number_value(json_object_get(job, "current-progress"));
    const double part = total > 0 ? CLAMP(done / total, 0.0, 1.0) : 0;
    j->progress(j->opaque, (uint64_t)(part * (double)merge_job_size(j->layers, f->disk)));
}

/* It has concluded: how. */
static bool conclude(const struct merge_job *j, const json_t *job, bool stopped, GError **error)
{
    const char *why = text(job, "error"); /* one that was cancelled says so */
    if (!tell(j, "job-dismiss", error))
        return false;
    if (why && stopped)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "stopped");
    return !why || hostel_fail(error, HOSTEL_ERROR_HOST, "guest '%s': its layers cannot be merged: %s",
                               j->guest->name, why);
}

/* Waits for its end; f NULL: of one that is cancelled. */
static bool await(const struct merge_job *j, const struct fold *f, GError **error)
{
    bool stopped = false, completed = false;
    for (gulong pause = 1000;; pause = MIN(pause * 2, LOOK_US)) {
        GError *why = NULL;
        json_t *job = look(j, &why);
        const char *status = text(job, "status");
        if (!status) {
            json_decref(job);
            if (!why)
                return hostel_fail(error, HOSTEL_ERROR_HOST, "guest '%s': the job has gone", j->guest->name);
            g_propagate_error(error, why);
            return false;
        }
        if (f)
            show(j, f, job);
        if (!strcmp(status, "concluded")) {
            const bool good = conclude(j, job, stopped || !f, error);
            json_decref(job);
            return good;
        }
        if ((!f || atomic_load(&cli_stopped)) && !stopped)
            stopped = tell(j, "job-cancel", NULL);
        else if (!strcmp(status, "ready") && !stopped && !completed)
            completed = tell(j, "job-complete", NULL);
        json_decref(job);
        g_usleep(pause);
    }
}

static bool remove_node(const struct merge_job *j, const char *name)
{
    return guest_call_do(j->call, "blockdev-del", json_pack("{s:s}", "node-name", name), NULL);
}

/* A name for a file of ours that the process is given. */
static char *give(const struct merge_job *j, const char *path, bool readonly, json_int_t *set, GError **error)
{
    AUTO_FD fd = block_file_open(path, readonly, error);
    json_t *added = fd < 0 ? NULL : guest_call_fds(j->call, "add-fd", NULL, &fd, 1, NULL, NULL, error);
    if (!added)
        return NULL;
    *set = json_integer_value(json_object_get(added, "fdset-id"));
    json_decref(added);
    return g_strdup_printf("/dev/fdset/%" JSON_INTEGER_FORMAT, *set);
}

static void take_back(const struct merge_job *j, json_int_t set)
{
    guest_call_do(j->call, "remove-fd", json_pack("{s:I}", "fdset-id", set), NULL);
}

/* command on these nodes to its end; path: of what is written, NULL = it is open for that. arguments are
 * taken. */
static bool run_job(const struct merge_job *j, const struct fold *f, const char *command, json_t *arguments,
                    const char *path, GError **error)
{
    json_int_t set = -1;
    g_autofree char *file = path ? give(j, path, false, &set, error) : NULL;
    bool good = !path || file;
    json_object_set_new(arguments, "job-id", json_string(JOB));
    json_object_set_new(arguments, "auto-dismiss", json_false());
    if (file)
        json_object_set_new(arguments, "x-file", json_string(file));
    if (good)
        good = guest_call_do(j->call, command, arguments, error);
    else
        json_decref(arguments);
    if (file)
        take_back(j, set);
    return good && await(j, f, error);
}

static bool is_gone(const struct fold *f, const char *file)
{
    return file && g_ptr_array_find_with_equal_func(f->gone, file, g_str_equal, NULL);
}

/* --- where the guest is --- */

static bool fail_strange(const struct merge_job *j, const struct fold *f, GError **error)
{
    return hostel_fail(
        error, HOSTEL_ERROR_HOST,
        "guest '%s': its process has other images under disk %zu than it should; stop and start "
        "the guest, and merge then",
        j->guest->name, f->disk + 1);
}

/* How many of the guest's layers there are up to this one; NULL: the image. */
static size_t height_of(const struct merge_job *j, const struct fold *f, const char *file)
{
    const json_t *list = json_array_get(json_object_get(j->layers, "disks"), f->disk);
    size_t i = file ? json_array_size(list) : 0;
    while (i && strcmp(json_string_value(json_array_get(list, i - 1)), file) != 0)
        i--;
    return i;
}

/* Is the node at `at` what the fold lies over? Or what lies below that, when one that was cut off has merged
 * the layers between: all that they hold is in those above, or in the image. */
static bool is_below(const struct merge_job *j, const struct fold *f, const struct chain *c, guint at)
{
    if (at >= c->names->len)
        return false;
    const char *file = c->files->pdata[at];
    if (file)
        return height_of(j, f, file) <= height_of(j, f, f->below);
    g_autofree char *image = layers_image(j->guest, j->layers, f->disk);
    g_autofree char *name = image ? g_path_get_basename(image) : NULL;
    g_autofree char *place = chain_place(c, at);
    return name && !g_strcmp0(place, name);
}

static bool merge_up(const struct merge_job *j, const struct fold *f, const struct chain *c, guint at,
                     GError **error)
{
    g_autofree char *path = layers_path(j->guest, f->into);
    guint base = at + 1;
    while (base < c->files->len && is_gone(f, c->files->pdata[base]))
        base++;
    if (!is_below(j, f, c, base))
        return fail_strange(j, f, error);
    return base == at + 1 /* done by one that was killed */ ||
           run_job(j, f, "block-stream",
                   json_pack("{s:s,s:s}", "device", c->names->pdata[at], "base-node", c->names->pdata[base]),
                   at ? path : NULL, error);
}

static bool merge_down(const struct merge_job *j, const struct fold *f, const struct chain *c, GError **error)
{
    g_autofree char *image = layers_image(j->guest, j->layers, f->disk);
    guint top = 0, end;
    while (top < c->files->len && c->files->pdata[top] && !is_gone(f, c->files->pdata[top]))
        top++;
    for (end = top; end < c->files->len && is_gone(f, c->files->pdata[end]);)
        end++;
    if (!is_below(j, f, c, end))
        return fail_strange(j, f, error);
    return top == end /* done by one that was killed */ ||
           run_job(j, f, "block-commit",
                   json_pack("{s:s,s:s,s:s}", "device", c->names->pdata[0], "top-node", c->names->pdata[top],
                             "base-node", c->names->pdata[end]),
                   image, error);
}

/* --- other branches --- */

static void remove_branch(const struct merge_job *j, const struct fold *f)
{
    remove_node(j, f->into);
    for (guint i = f->gone->len; i-- > 0;)
        remove_node(j, f->gone->pdata[i]);
    remove_node(j, ZEROES);
}

static bool add_node(const struct merge_job *j, const char *file, const char *below, bool readonly,
                     GError **error)
{
    json_int_t set;
    g_autofree char *path = layers_path(j->guest, file), *name = give(j, path, readonly, &set, error);
    if (!name)
        return false;
    const bool added = guest_call_do(j->call, "blockdev-add",
                                     json_pack("{s:s,s:s,s:b,s:{s:s,s:s},s:s}", "driver", "qcow2",
                                               "node-name", file, "read-only", readonly, "file", "driver",
                                               "file", "filename", name, "backing", below),
                                     error);
    take_back(j, set);
    return added;
}

static bool merge_branch(const struct merge_job *j, const struct fold *f, const struct chain *c,
                         GError **error)
{
    const char *below = ZEROES;
    for (guint i = 0; i < f->gone->len; i++)
        if (chain_layer(c, f->gone->pdata[i]) < c->files->len)
            return fail_strange(j, f, error);
    remove_branch(j, f); /* of one that was killed */
    bool good = guest_call_do(j->call, "blockdev-add",
                              json_pack("{s:s,s:s,s:I}", "driver", "null-co", "node-name", ZEROES, "size",
                                        (json_int_t)merge_job_size(j->layers, f->disk)),
                              error);
    for (guint i = 0; i < f->gone->len && good; below = f->gone->pdata[i++])
        good = add_node(j, f->gone->pdata[i], below, true, error);
    good = good && add_node(j, f->into, below, false, error) &&
           run_job(j, f, "block-stream", json_pack("{s:s,s:s}", "device", f->into, "base-node", ZEROES), NULL,
                   error);
    remove_branch(j, f);
    return good;
}

/* --- */

/* Those that nothing needs: what is in use is not removed. One may lie on another. */
static void clear_nodes(const struct merge_job *j)
{
    g_autoptr(GRegex) ours = g_regex_new("^(disk[0-9]+-[0-9a-f]{8}\\.qcow2|" ZEROES ")$", 0, 0, NULL);
    for (bool again = true; again;) {
        json_t *nodes = guest_call(j->call, "query-named-block-nodes", NULL, NULL), *node;
        size_t i;
        again = false;
        json_array_foreach(nodes, i, node)
        {
            const char *name = text(node, "node-name");
            again |= name && g_regex_match(ours, name, 0, NULL) && remove_node(j, name);
        }
        json_decref(nodes);
    }
}

bool merge_job_clear(const struct merge_job *j, GError **error)
{
    GError *why = NULL;
    json_t *job = look(j, &why);
    const bool there = job != NULL;
    json_decref(job);
    if (there && !await(j, NULL, NULL)) /* whatever its end was */
        json_decref(look(j, &why));
    if (why) {
        g_propagate_error(error, why);
        return false;
    }
    clear_nodes(j);
    return true;
}

bool merge_job_settle(const struct named *guest, struct guest_call *call, json_t *layers, GError **error)
{
    const struct merge_job j = {.guest = guest, .call = call, .layers = layers};
    return merge_job_clear(&j, error) && chain_trim(guest, call, layers, error);
}

/* Are they out of the guest's chain? Files are removed because of this. */
static bool is_done(const struct merge_job *j, const struct fold *f, GError **error)
{
    AUTO_CHAIN c = {0};
    guint at = 0;
    if (!chain_find(j->guest, j->call, j->layers, f->disk, &c, error))
        return false;
    for (const char *file; at < c.files->len && (file = c.files->pdata[at]); at++)
        if (is_gone(f, file) || !g_strcmp0(file, f->into))
            break;
    at += f->into ? 1 : 0; /* now it is behind what stays above, where what lies below must be */
    return is_below(j, f, &c, at) || fail_strange(j, f, error);
}

bool merge_job_has(const struct merge_job *j, const struct fold *f, bool *has, GError **error)
{
    AUTO_CHAIN c = {0};
    if (!chain_find(j->guest, j->call, j->layers, f->disk, &c, error))
        return false;
    *has = !f->needed || chain_layer(&c, f->gone->pdata[f->gone->len - 1]) < c.files->len;
    return true;
}

bool merge_job_run(const struct merge_job *j, const struct fold *f, GError **error)
{
    AUTO_CHAIN c = {0};
    if (!chain_find(j->guest, j->call, j->layers, f->disk, &c, error))
        return false;
    const guint at = f->into ? chain_layer(&c, f->into) : 0;
    if (f->into && at == c.files->len)
        return merge_branch(j, f, &c, error);
    return (f->into ? merge_up(j, f, &c, at, error) : merge_down(j, f, &c, error)) && is_done(j, f, error);
}

void merge_job_forget(const struct merge_job *j, const struct fold *f)
{
    for (guint i = f->gone->len; i-- > 0;)
        remove_node(j, f->gone->pdata[i]);
}
