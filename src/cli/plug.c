/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* `hostel plug` and `hostel unplug`: disks and network cards that come and go. */
/*
 * A guest that runs and its definition change together (cli/devices.h): first the guest, which may refuse,
 * then the definition. Whoever is killed in between leaves a difference that is noticed, and that `unplug`
 * resolves. A guest that does not run changes its definition alone. One that is saved changes nothing: the
 * file that it goes on from has the devices that it had.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "base/error.h"
#include "base/log.h"
#include "cli/cli.h"
#include "cli/devices.h"
#include "cli/guest.h"
#include "cli/guest_run.h"
#include "cli/guest_saved.h"
#include "cli/layers.h"
#include "cli/plug_live.h"
#include "cli/settings_live.h"
#include "cli/words.h"
#include "os/fd.h"

enum { UNPLUG_SECONDS = 30, MAC_BYTES = 6 };

/* A change of one guest. */
struct plug {
    struct named *guest;
    struct guest_state state;
    struct guest_call *call; /* NULL = it does not run */
    GPtrArray *devices;      /* that it has */
};

static bool begin(struct plug *p, const char *name, GError **error)
{
    p->guest = guest_find(name, &p->state, error) ? named_edit(name, error) : NULL;
    if (!p->guest)
        return false;
    if (!p->state.live && guest_saved_exists(name))
        return hostel_fail(
            error, HOSTEL_ERROR_USAGE,
            "guest '%s' is saved, with the devices that it had; 'hostel start %s' lets it go on "
            "first",
            name, name);
    p->call = p->state.live ? guest_call_open(name, GUEST_CALL_MS, error) : NULL;
    p->devices = devices_of(p->guest);
    return p->call || !p->state.live;
}

static void end(struct plug *p)
{
    if (p->devices)
        g_ptr_array_unref(p->devices);
    guest_call_close(p->call);
    guest_state_fini(&p->state);
    named_free(p->guest);
}

/* --- plug --- */

/* Parsed, for one of either kind. */
static bool parse(const char *word, struct guest_options *options, GError **error)
{
    g_autofree char *own = g_strdup(word);
    char *const argv[] = {own, NULL};
    guest_options_fini(options);
    guest_options_init(options);
    return option_parse(guest_option_rows, OPTION_CLI, argv, options, error);
}

/* A name that no device has, and none will have by its place. */
static char *new_id(const struct plug *p, bool net)
{
    for (unsigned i = 0;; i++) {
        char *id = g_strdup_printf(net ? "net%u" : "disk%u", i);
        if (!devices_find(p->devices, id))
            return id;
        g_free(id);
    }
}

/* Locally administered, of one card. */
static char *new_mac(void)
{
    uint8_t b[MAC_BYTES] = {0};
    if (getrandom(b, sizeof(b), 0) != sizeof(b))
        for (unsigned i = 0; i < sizeof(b); i++)
            b[i] = (uint8_t)g_random_int();
    return g_strdup_printf("02:%02x:%02x:%02x:%02x:%02x", b[1], b[2], b[3], b[4], b[5]);
}

/* By the definition. */
static unsigned count_ports(const struct plug *p)
{
    g_autoptr(GPtrArray) words = guest_words(p->guest);
    const char *hotplug = words_get(words, "hotplug");
    return hotplug ? (unsigned)g_ascii_strtoull(hotplug, NULL, 10) : 0;
}

static const struct device_row *find_in_port(const struct plug *p, unsigned port)
{
    for (guint i = 0; i < p->devices->len; i++) {
        const struct device_row *row = p->devices->pdata[i];
        if (row->port == port)
            return row;
    }
    return NULL;
}

/* The port that is wanted, or the first empty one; 0 with *error, and for a guest that does not run also
 * without: it gets a place of the machine's own. */
static unsigned choose_port(const struct plug *p, unsigned wanted, GError **error)
{
    const char *name = p->guest->name;
    const unsigned ports = count_ports(p);
    const struct device_row *row = wanted ? find_in_port(p, wanted) : NULL;
    if (!wanted && p->call)
        return plug_find_port(p->call, name, error);
    for (unsigned port = 1; port <= ports && !wanted; port++)
        if (!find_in_port(p, port))
            return port;
    if (row)
        hostel_fail(error, HOSTEL_ERROR_USAGE, "port=%u: there is '%s' of guest '%s'", wanted, row->id, name);
    else if (wanted > ports)
        hostel_fail(error, HOSTEL_ERROR_USAGE,
                    "port=%u: guest '%s' has %u ports; 'hostel set %s hotplug=N' gives it more from its next "
                    "start on",
                    wanted, name, ports, name);
    return row || wanted > ports ? 0 : wanted;
}

/* The word with all that is to stay as it is: name, port, a card's address. NULL with *error. */
static char *complete(const struct plug *p, const char *word, struct guest_options *options, GError **error)
{
    if (!parse(word, options, error))
        return NULL;
    const struct disk_options *d = options->disks.items;
    const struct net_options *n = options->nets.items;
    const bool net = options->nets.count;
    const char *id = net ? n->id : d->id;
    const unsigned wanted = net ? n->port : d->port;
    if (id && devices_find(p->devices, id)) {
        hostel_fail(error, HOSTEL_ERROR_USAGE,
                    "guest '%s' has a device '%s' already; 'hostel info %s' lists them", p->guest->name, id,
                    p->guest->name);
        return NULL;
    }
    if (id && !named_is_valid(id)) {
        hostel_fail(error, HOSTEL_ERROR_USAGE,
                    "'%.80s' is no name for a device: letters, digits, '.', '_' and '-'", id);
        return NULL;
    }
    if (net && (!strcmp(n->backend, "none") || n->fd)) {
        hostel_fail(error, HOSTEL_ERROR_USAGE,
                    n->fd ? "--net fd=: is for one run only; give name=INTERFACE"
                          : "--net none: is no card; give user or tap");
        return NULL;
    }
    g_autoptr(GString) out = g_string_new(word);
    if (!id) {
        g_autofree char *made_up = new_id(p, net);
        g_string_append_printf(out, ",id=%s", made_up);
    }
    const unsigned port = choose_port(p, wanted, error);
    if (!port && (p->call || wanted))
        return NULL;
    if (port && !wanted)
        g_string_append_printf(out, ",port=%u", port);
    if (net && !n->mac) {
        g_autofree char *mac = new_mac();
        g_string_append_printf(out, ",mac=%s", mac);
    }
    return parse(out->str, options, error) ? g_strdup(out->str) : NULL;
}

/* What a snapshot lies over is not written any more. */
static bool check_image(const struct plug *p, const struct disk_options *d, GError **error)
{
    json_t *layers = layers_load(p->guest, error);
    const char *snapshot = layers ? layers_over(p->guest, layers, d->file.name) : NULL;
    if (snapshot)
        hostel_fail(error, HOSTEL_ERROR_USAGE,
                    "%s: the snapshot '%s' of guest '%s' needs it as it is; give a copy, or go back to the "
                    "snapshot, which has the disk",
                    d->file.name, snapshot, p->guest->name);
    json_decref(layers);
    return layers && !snapshot;
}

/* Into the guest that runs. */
static bool plug_in(struct plug *p, struct guest_options *options, GError **error)
{
    if (!devices_agree(p->guest, p->call, error))
        return false;
    if (options->disks.count)
        return plug_disk(p->call, options, error);
    g_autofree char *path = named_path(p->guest, "log");
    AUTO_FD log = open(path, O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY);
    return plug_net(p->call, options, log, error);
}

/* What `hostel set` says of all cards is also said to this one. */
static void settle(const struct plug *p)
{
    struct setting_live live = {.name = p->guest->name, .state = &p->state, .call = p->call};
    g_autofree char *in = setting_load(p->guest, "net-in"), *out = setting_load(p->guest, "net-out");
    g_autoptr(GError) error = NULL;
    if ((in && !live_set_net_in(&live, in, &error)) || (out && !live_set_net_out(&live, out, &error)))
        log_warn(LOG_CLI, "the card is not limited: %s", error->message);
}

static bool plug(struct plug *p, const char *word, GError **error)
{
    struct guest_options options;
    guest_options_init(&options);
    g_autofree char *whole = complete(p, word, &options, error);
    const struct disk_options *d = options.disks.items;
    const struct net_options *n = options.nets.items;
    bool good = whole && (options.nets.count || d->readonly || check_image(p, d, error)) &&
                (!p->call || plug_in(p, &options, error));
    if (good && options.nets.count && p->call)
        settle(p);
    if (good) {
        devices_add(p->guest, whole);
        good = named_keep(p->guest, error);
    }
    if (good)
        printf("%s\n", options.disks.count ? d->id : n->id);
    guest_options_fini(&options);
    return good;
}

int cli_plug(char **argv)
{
    GError *error = NULL;
    AUTO_ARGS args = {0};
    struct plug p = {0};
    int code;
    if (!cli_args_parse(&args, argv, &code))
        return code;
    if (!args.disk == !args.net) {
        hostel_fail(&error, HOSTEL_ERROR_USAGE,
                    "give either --disk or --net; 'hostel help run' lists their keys");
        return cli_fail(error);
    }
    g_autofree char *given =
        g_strconcat(args.disk ? "--disk=" : "--net=", args.disk ? args.disk : args.net, NULL);
    g_autoptr(GPtrArray) words = g_ptr_array_new();
    g_ptr_array_add(words, given);
    g_autoptr(GPtrArray) kept = words_to_keep(words); /* with absolute paths */
    code = begin(&p, args.names[0], &error) && plug(&p, kept->pdata[0], &error) ? CLI_OK : cli_fail(error);
    end(&p);
    return code;
}

/* --- unplug --- */

/* Can it go? What the guest has written since a snapshot is in layers, which would be lost with it. */
static bool check_layers(const struct plug *p, const struct device_row *row, const json_t *layers, bool force,
                         GError **error)
{
    g_autoptr(GPtrArray) words = guest_words(p->guest);
    if (words_get(words, "disk-layer"))
        return hostel_fail(
            error, HOSTEL_ERROR_USAGE,
            "guest '%s' has --disk-layer, which counts its disks; give it disk= by 'hostel set'",
            p->guest->name);
    return force || !layers_has_changes(p->guest, layers, row->what) ||
           hostel_fail(
               error, HOSTEL_ERROR_USAGE,
               "%s: guest '%s' has snapshots, or is a clone, and what it wrote to the disk since is not "
               "in %s; --force loses that",
               row->id, p->guest->name, row->what);
}

static bool check_place(const struct plug *p, const struct device_row *row, GError **error)
{
    if (!row->word)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "%s: guest '%s' is made with it, and keeps it", row->id,
                           p->guest->name);
    return !p->call || row->port ||
           hostel_fail(error, HOSTEL_ERROR_USAGE,
                       "%s: is in none of the ports of guest '%s', and stays while it runs; 'hostel stop %s' "
                       "first",
                       row->id, p->guest->name, p->guest->name);
}

/* Of the guest that runs; it may have let go of it before. */
static bool take_out(const struct plug *p, const char *id, double seconds, GError **error)
{
    return guest_call_do(p->call, "query-status", NULL,
                         error) && /* else nothing would be told of it either */
           (!plug_is_in(p->call, id) || plug_ask_out(p->call, p->guest->name, id, seconds, error));
}

static bool unplug_net(struct plug *p, const struct device_row *row, double seconds, GError **error)
{
    if (p->call && !take_out(p, row->id, seconds, error))
        return false;
    if (p->call)
        plug_drop_net(p->call, row->id);
    devices_remove(p->guest, row);
    return named_keep(p->guest, error);
}

/* The files of its layers, borrowed: what is behind the device besides its image. */
static const json_t *layers_of(const struct plug *p, json_t *layers, const struct device_row *row)
{
    if (!layers_has_changes(p->guest, layers, row->what))
        return NULL;
    return json_array_get(json_object_get(layers, "disks"), layers_row(p->guest, layers, row->what));
}

/* The layers' file last: with the definition as it was, the guest would write to what snapshots lie over. */
static bool unplug_disk(struct plug *p, const struct device_row *row, bool force, double seconds,
                        GError **error)
{
    AUTO_FD lock = layers_lock(p->guest, error);
    json_t *layers = lock >= 0 ? layers_load(p->guest, error) : NULL;
    bool good = layers && check_layers(p, row, layers, force, error) &&
                (!p->call || take_out(p, row->id, seconds, error));
    if (good && layers_has_changes(p->guest, layers, row->what)) {
        layers_note_loss(layers, row->what);
        good = layers_store(p->guest, layers, error);
    }
    if (good) {
        if (p->call)
            plug_drop_disk(p->call, row->id, layers_of(p, layers, row));
        devices_remove(p->guest, row);
        good = named_keep(p->guest, error);
    }
    if (good && layers_drop(p->guest, layers, row->what)) {
        good = layers_store(p->guest, layers, error);
        layers_sweep(p->guest, layers);
    }
    json_decref(layers);
    return good;
}

/* One that the definition knows nothing of: another client's, or of a plug that was killed. */
static bool unplug_unknown(struct plug *p, const char *id, double seconds, GError **error)
{
    if (!p->call || !plug_is_in(p->call, id))
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "guest '%s' has no device '%.40s'; 'hostel info %s' lists them", p->guest->name,
                           id, p->guest->name);
    if (!plug_ask_out(p->call, p->guest->name, id, seconds, error))
        return false;
    plug_drop_disk(p->call, id, NULL);
    plug_drop_net(p->call, id);
    return true;
}

static bool unplug(const struct cli_args *args, const char *id, GError **error)
{
    struct plug p = {0};
    const double seconds = args->timeout;
    bool good = begin(&p, args->names[0], error);
    const struct device_row *row = good ? devices_find(p.devices, id) : NULL;
    if (good && !row)
        good = unplug_unknown(&p, id, seconds, error);
    else if (good && check_place(&p, row, error))
        good = row->net ? unplug_net(&p, row, seconds, error)
                        : unplug_disk(&p, row, args->force, seconds, error);
    else
        good = false;
    end(&p);
    return good;
}

int cli_unplug(char **argv)
{
    AUTO_ARGS args = {.timeout = UNPLUG_SECONDS};
    int code;
    if (!cli_args_parse(&args, argv, &code))
        return code;
    code = CLI_OK;
    for (unsigned i = 1; i < args.n; i++) {
        GError *error = NULL;
        if (!unplug(&args, args.names[i], &error))
            code = cli_fail(error);
    }
    return code;
}
