/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* `hostel rename`, `hostel set`, `hostel rm`: what a guest is called and made of, and its removal. */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "cli/cli.h"
#include "cli/guest.h"
#include "cli/named.h"
#include "cli/settings.h"
#include "cli/settings_live.h"
#include "os/fd.h"

/* The guest, locked, which is not to run. */
static struct named *open_at_rest(const char *name, const char *what, GError **error)
{
    AUTO_STATE state = {0};
    if (!guest_find(name, &state, error))
        return NULL;
    if (!state.live)
        return named_open_unread(name, error);
    hostel_fail(error, HOSTEL_ERROR_HOST, "guest '%s' is %s, so it is not %s; 'hostel stop %s' first", name,
                state.status, what, name);
    return NULL;
}

int cli_rename(char **argv)
{
    GError *error = NULL;
    AUTO_ARGS args = {0};
    int code;
    if (!cli_args_parse(&args, argv, &code))
        return code;
    AUTO(named) guest = open_at_rest(args.names[0], "renamed", &error);
    if (!guest || !named_rename(guest, args.names[1], &error))
        return cli_fail(error);
    g_autofree char *from = guest_runtime(args.names[0]), *to = guest_runtime(args.names[1]);
    guest_runtime_remove(args.names[1]); /* of one that was called so before */
    if (rename(from, to))
        guest_runtime_remove(args.names[0]); /* how it ended is forgotten */
    return CLI_OK;
}

/* --- set --- */

/* A change of one guest. */
struct change {
    struct named *guest;
    struct guest_state state;
    struct setting_live live;
};

/* "key=value" into the definition. */
static bool store(struct change *c, const char *word, GError **error)
{
    const char *equals = strchr(word, '=');
    if (!equals || equals == word)
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "'%s' is not KEY=VALUE, as in memory=1G; 'hostel help set' lists the keys", word);
    g_autofree char *key = g_strndup(word, (size_t)(equals - word));
    return setting_store(c->guest, key, equals[1] ? equals + 1 : NULL, error);
}

/* The same into the guest that runs, or at least a word about it. */
static bool bring_about(struct change *c, const char *word, GError **error)
{
    const char *value = strchr(word, '=') + 1;
    g_autofree char *key = g_strndup(word, (size_t)(value - 1 - word));
    const struct setting *s = setting_find(key);
    if (s && s->apply)
        return s->apply(&c->live, *value ? value : NULL, error);
    log_info(LOG_CLI, "guest '%s' is running; %s changes when it is started again", c->guest->name, key);
    return true;
}

int cli_set(char **argv)
{
    GError *error = NULL;
    AUTO_ARGS args = {0};
    struct change c = {0};
    int code;
    if (!cli_args_parse(&args, argv, &code))
        return code;
    const char *name = args.names[0];
    c.guest = guest_find(name, &c.state, &error) ? named_edit(name, &error) : NULL;
    c.live = (struct setting_live){.name = name, .state = &c.state};
    bool good = c.guest != NULL;
    for (unsigned i = 1; i < args.n && good; i++) /* first all of it, so that a wrong one changes nothing */
        good = store(&c, args.names[i], &error);
    for (unsigned i = 1; i < args.n && good && c.state.live; i++)
        good = bring_about(&c, args.names[i], &error);
    code = good && named_keep(c.guest, &error) ? CLI_OK : cli_fail(error);
    guest_call_close(c.live.call);
    guest_state_fini(&c.state);
    named_free(c.guest);
    return code;
}

/* --- rm --- */

static bool remove_one(const struct cli_args *args, const char *name, GError **error)
{
    if (args->force && named_exists(name) && !guest_kill(name, error))
        return false;
    AUTO(named) guest = open_at_rest(name, "removed", error);
    if (!guest)
        return false;
    guest_state_await_death(name); /* its process may still have the disks */
    if (!named_remove(guest, error))
        return false;
    AUTO_FD runtime = guest_runtime_open(name, NULL);
    live_forget(runtime);
    guest_runtime_remove(name);
    return true;
}

int cli_rm(char **argv)
{
    AUTO_ARGS args = {0};
    int code;
    return cli_args_parse(&args, argv, &code) ? cli_for_each(&args, remove_one) : code;
}
