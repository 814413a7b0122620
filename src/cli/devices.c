/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The disks and network cards of a guest's definition (devices.h has the theory). */
#include "cli/devices.h"

#include <string.h>

#include "base/error.h"
#include "cli/guest_run.h"
#include "cli/words.h"
#include "control/guest_options.h"

static const char disk[] = "disk", net[] = "net", none[] = "--net=none";

static void free_row(gpointer data)
{
    struct device_row *row = data;
    g_free(row->id);
    g_free(row->what);
    g_free(row->word);
    g_free(row);
}

static bool is_word_of(const char *word, const char *option)
{
    g_autofree char *start = g_strdup_printf("--%s=", option);
    return g_str_has_prefix(word, start);
}

/* How many there are of a kind: the next one's number. */
static unsigned count(const GPtrArray *rows, bool nets)
{
    unsigned n = 0;
    for (guint i = 0; i < rows->len; i++)
        n += ((const struct device_row *)rows->pdata[i])->net == nets;
    return n;
}

static struct device_row *add_row(GPtrArray *rows, bool is_net, const char *id, const char *what)
{
    struct device_row *row = g_new0(struct device_row, 1);
    *row = (struct device_row){.net = is_net, .what = g_strdup(what)};
    row->id = id ? g_strdup(id) : g_strdup_printf(is_net ? "net%u" : "disk%u", count(rows, is_net));
    g_ptr_array_add(rows, row);
    return row;
}

/* What a word says; nothing when it cannot be read, which a start will say. */
static void add_word(GPtrArray *rows, const char *word)
{
    g_autofree char *own = g_strdup(word);
    char *const argv[] = {own, NULL};
    struct guest_options values;
    guest_options_init(&values);
    if (option_parse(guest_option_rows, OPTION_CLI, argv, &values, NULL)) {
        const struct disk_options *d = values.disks.items;
        const struct net_options *n = values.nets.items;
        struct device_row *row = NULL;
        if (values.disks.count) {
            row = add_row(rows, false, d->id, d->file.name);
            row->port = d->port;
            row->named = d->id;
        } else if (values.nets.count && strcmp(n->backend, "none") != 0) {
            row = add_row(rows, true, n->id, n->backend);
            row->port = n->port;
            row->named = n->id;
            row->rate_in = n->rate_in;
            row->rate_out = n->rate_out;
        }
        if (row)
            row->word = g_strdup(word);
    }
    guest_options_fini(&values);
}

GPtrArray *devices_of(const struct named *guest)
{
    GPtrArray *rows = g_ptr_array_new_with_free_func(free_row);
    g_autoptr(GPtrArray) words = guest_words(guest);
    g_autofree char *system = guest_system(guest), *own = named_path(guest, "disk");
    const bool plain = !strcmp(system, "run");
    if (!plain)
        add_row(rows, false, NULL, own);
    for (guint i = 0; i < words->len; i++)
        if (is_word_of(words->pdata[i], disk))
            add_word(rows, words->pdata[i]);
    if (!plain && !words_get(words, net))
        add_row(rows, true, NULL, "user");
    for (guint i = 0; i < words->len; i++)
        if (is_word_of(words->pdata[i], net))
            add_word(rows, words->pdata[i]);
    return rows;
}

const struct device_row *devices_find(const GPtrArray *devices, const char *id)
{
    for (guint i = 0; i < devices->len; i++) {
        const struct device_row *row = devices->pdata[i];
        if (!strcmp(row->id, id))
            return row;
    }
    return NULL;
}

/* --- and the guest --- */

static bool fail_differs(const struct named *guest, const char *id, bool running, GError **error)
{
    return hostel_fail(error, HOSTEL_ERROR_HOST,
                       running ? "guest '%s' has a device '%.40s' that its definition knows nothing of; "
                                 "'hostel unplug %s %.40s' takes it out"
                               : "guest '%s' does not have the device '%.40s' of its definition; "
                                 "'hostel unplug %s %.40s' takes it out of that",
                       guest->name, id, guest->name, id);
}

/* The rows of one kind against the names that the guest's process tells under `key`. */
static bool agree(const struct named *guest, const GPtrArray *rows, bool nets, const json_t *list,
                  const char *key, GError **error)
{
    size_t k = 0;
    for (guint i = 0; i < rows->len; i++) {
        const struct device_row *row = rows->pdata[i];
        const char *id = json_string_value(json_object_get(json_array_get(list, k), key));
        if (row->net != nets)
            continue;
        if (id && strcmp(row->id, id) != 0 && !devices_find(rows, id))
            return fail_differs(guest, id, true, error);
        if (!id || strcmp(row->id, id) != 0)
            return fail_differs(guest, row->id, false, error);
        k++;
    }
    const char *id = json_string_value(json_object_get(json_array_get(list, k), key));
    return !id || fail_differs(guest, id, true, error);
}

/* Does it lie on the file of that name? Its process knows no more of the path; and nothing of a file that was
 * handed in while it ran, if that is the lowest. */
static bool lies_on(const json_t *image, const char *name)
{
    const char *file = NULL;
    for (; image; image = json_object_get(image, "backing-image")) {
        file = json_string_value(json_object_get(image, "filename"));
        if (!g_strcmp0(file, name))
            return true;
    }
    return file && (g_str_has_prefix(file, "fd:") || g_str_has_prefix(file, "/dev/fdset/"));
}

/* Do the disks lie on the images of the definition, which `hostel set` may have changed since? The rows
 * agree. */
static bool check_images(const struct named *guest, const GPtrArray *rows, const json_t *list, GError **error)
{
    size_t k = 0;
    for (guint i = 0; i < rows->len; i++) {
        const struct device_row *row = rows->pdata[i];
        if (row->net)
            continue;
        g_autofree char *name = g_path_get_basename(row->what), *valid = g_utf8_make_valid(name, -1);
        const json_t *image =
            json_object_get(json_object_get(json_array_get(list, k++), "inserted"), "image");
        if (!lies_on(image, valid))
            return hostel_fail(
                error, HOSTEL_ERROR_HOST,
                "guest '%s' runs with another image as '%s' than its definition says (%s), which "
                "counts from its next start on",
                guest->name, row->id, row->what);
    }
    return true;
}

bool devices_agree(const struct named *guest, struct guest_call *call, GError **error)
{
    g_autoptr(GPtrArray) rows = devices_of(guest);
    json_t *disks = guest_call(call, "query-block", NULL, error);
    json_t *nets = disks ? guest_call(call, "x-query-net", NULL, error) : NULL;
    const bool same = nets && agree(guest, rows, false, disks, "device", error) &&
                      agree(guest, rows, true, nets, "id", error) && check_images(guest, rows, disks, error);
    json_decref(disks);
    json_decref(nets);
    return same;
}

/* --- changes --- */

/* The words of an option that a run would have, owned by the caller. */
static GPtrArray *gather(const struct named *guest, const char *option)
{
    g_autoptr(GPtrArray) words = guest_words(guest);
    GPtrArray *out = g_ptr_array_new_with_free_func(g_free);
    for (guint i = 0; i < words->len; i++)
        if (is_word_of(words->pdata[i], option))
            g_ptr_array_add(out, g_strdup(words->pdata[i]));
    return out;
}

/* These are all the words of that option from now on. */
static void scatter(struct named *guest, const char *option, const GPtrArray *words)
{
    g_autoptr(GPtrArray) run = words_load(guest->definition, "run");
    words_set(run, option, NULL);
    for (guint i = 0; i < words->len; i++)
        g_ptr_array_add(run, g_strdup(words->pdata[i]));
    words_store(guest->definition, "run", run);
    if (!g_key_file_has_group(guest->definition, "last"))
        return;
    g_autoptr(GPtrArray) last = words_load(guest->definition, "last");
    words_set(last, option, NULL);
    words_store(guest->definition, "last", last);
}

void devices_add(struct named *guest, const char *word)
{
    const char *option = is_word_of(word, net) ? net : disk;
    g_autoptr(GPtrArray) words = gather(guest, option);
    g_autofree char *system = guest_system(guest);
    /* A card of its own that it has unless it is told of another. */
    if (option == net && !words->len && strcmp(system, "run") != 0)
        g_ptr_array_add(words, g_strdup("--net=user"));
    g_ptr_array_add(words, g_strdup(word));
    scatter(guest, option, words);
}

/* With its name, which it would have had from its place. */
static char *with_id(const GPtrArray *rows, const char *word)
{
    for (guint i = 0; i < rows->len; i++) {
        const struct device_row *row = rows->pdata[i];
        if (row->word && !strcmp(row->word, word) && !row->named)
            return g_strdup_printf("%s,id=%s", word, row->id);
    }
    return g_strdup(word);
}

void devices_remove(struct named *guest, const struct device_row *row)
{
    const char *option = row->net ? net : disk;
    g_autoptr(GPtrArray) rows = devices_of(guest);
    g_autoptr(GPtrArray) words = gather(guest, option);
    g_autoptr(GPtrArray) left = g_ptr_array_new_with_free_func(g_free);
    g_autofree char *system = guest_system(guest);
    bool found = false;
    for (guint i = 0; i < words->len; i++) {
        const bool here = !found && !strcmp(words->pdata[i], row->word);
        found |= here;
        if (here && row->net)
            g_ptr_array_add(left, g_strdup(none));
        else if (!here)
            g_ptr_array_add(left, found ? with_id(rows, words->pdata[i]) : g_strdup(words->pdata[i]));
    }
    /* Nobody stands behind it; but where the system would bring a card of its own, one says that it is gone.
     */
    const guint least = strcmp(system, "run") != 0;
    while (left->len > least && !strcmp(left->pdata[left->len - 1], none))
        g_ptr_array_remove_index(left, left->len - 1);
    scatter(guest, option, left);
}

/* --- moments --- */

static const char *const options[] = {disk, net, "hotplug"};

json_t *devices_json(const struct named *guest)
{
    json_t *out = json_array();
    for (unsigned k = 0; k < G_N_ELEMENTS(options); k++) {
        g_autoptr(GPtrArray) words = gather(guest, options[k]);
        for (guint i = 0; i < words->len; i++) {
            g_autofree char *valid = g_utf8_make_valid(words->pdata[i], -1);
            json_array_append_new(out, json_string(valid));
        }
    }
    return out;
}

void devices_replace(struct named *guest, const json_t *words)
{
    for (unsigned k = 0; words && k < G_N_ELEMENTS(options); k++) {
        g_autoptr(GPtrArray) own = g_ptr_array_new_with_free_func(g_free);
        for (size_t i = 0; i < json_array_size(words); i++) {
            const char *word = json_string_value(json_array_get(words, i));
            if (word && is_word_of(word, options[k]))
                g_ptr_array_add(own, g_strdup(word));
        }
        scatter(guest, options[k], own);
    }
}
