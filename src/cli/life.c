/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Commands that change where a guest is in its life: start, pause, resume, reset, shutdown, stop, kill, wait.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "cli/cli.h"
#include "cli/guest.h"
#include "cli/guest_call.h"
#include "cli/guest_run.h"
#include "cli/guest_saved.h"

enum { QUIT_MS = 5000, STOP_SECONDS = 60 };

static int each(char **argv, bool (*act)(const struct cli_args *args, const char *name, GError **error))
{
    AUTO_ARGS args = {.timeout = STOP_SECONDS};
    int code;
    return cli_args_parse(&args, argv, &code) ? cli_for_each(&args, act) : code;
}

/* Connects to a guest that runs. */
static struct guest_call *open_live(const char *name, struct guest_state *state, GError **error)
{
    return guest_find_live(name, state, error) ? guest_call_open(name, GUEST_CALL_MS, error) : NULL;
}

/* What the guest's process itself says of its status, owned; NULL with *error. */
static char *ask_status(struct guest_call *call, GError **error)
{
    json_t *value = guest_call(call, "query-status", NULL, error);
    const char *text = json_string_value(json_object_get(value, "status"));
    char *status = value ? g_strdup(text ? text : "") : NULL;
    json_decref(value);
    return status;
}

/* --- commands that are one of QMP's --- */

/* Lets it run, or stand: when it does so already, that is a mistake. */
static bool let_run(const char *name, bool run, GError **error)
{
    AUTO_STATE state = {0};
    AUTO(guest_call) call = open_live(name, &state, error);
    g_autofree char *status = call ? ask_status(call, error) : NULL;
    if (!status)
        return false;
    const bool runs = !strcmp(status, "running");
    if (runs && run)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "guest '%s' is running already", name);
    if (!runs && !run)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "guest '%s' is not running but %s", name, status);
    if (!guest_call_do(call, run ? "cont" : "stop", NULL, error))
        return false;
    guest_await_status(name, run ? "running" : "paused");
    return true;
}

static bool pause_one(const struct cli_args *args G_GNUC_UNUSED, const char *name, GError **error)
{
    return let_run(name, false, error);
}

static bool resume_one(const struct cli_args *args G_GNUC_UNUSED, const char *name, GError **error)
{
    return let_run(name, true, error);
}

static bool reset_one(const struct cli_args *args G_GNUC_UNUSED, const char *name, GError **error)
{
    AUTO_STATE state = {0};
    AUTO(guest_call) call = open_live(name, &state, error);
    return call && guest_call_do(call, "system_reset", NULL, error);
}

static bool shutdown_one(const struct cli_args *args G_GNUC_UNUSED, const char *name, GError **error)
{
    AUTO_STATE state = {0};
    AUTO(guest_call) call = open_live(name, &state, error);
    return call && guest_call_do(call, "system_powerdown", NULL, error);
}

int cli_pause(char **argv)
{
    return each(argv, pause_one);
}

int cli_resume(char **argv)
{
    return each(argv, resume_one);
}

int cli_reset(char **argv)
{
    return each(argv, reset_one);
}

int cli_shutdown(char **argv)
{
    return each(argv, shutdown_one);
}

/* --- the end --- */

/* Asks the guest to power off, and gives it time. True when it has ended. A guest that stands still hears
 * nothing, so it goes on first. */
static bool ask_to_power_off(struct guest_call *call, const struct guest_state *state, const char *name,
                             double seconds)
{
    g_autoptr(GError) error = NULL;
    if (!strcmp(state->status, "paused"))
        guest_call_do(call, "cont", NULL, NULL);
    if (!guest_call_do(call, "system_powerdown", NULL, &error)) {
        log_warn(LOG_CLI, "%s; its power is cut", error->message);
        return false;
    }
    if (guest_await_end(state, (int)(seconds * 1000)))
        return true;
    log_warn(LOG_CLI, "guest '%s' has not powered off within %.0f s; its power is cut", name, seconds);
    return false;
}

static bool stop_one(const struct cli_args *args, const char *name, GError **error)
{
    AUTO_STATE state = {0};
    g_autoptr(GError) why = NULL;
    if (!guest_find_live(name, &state, error))
        return false;
    {
        AUTO(guest_call) call = guest_call_open(name, GUEST_CALL_MS, &why);
        if (call && args->timeout > 0 && ask_to_power_off(call, &state, name, args->timeout))
            return true;
        if (call && guest_call_do(call, "quit", NULL, &why) && guest_await_end(&state, QUIT_MS))
            return true;
    }
    if (why && !guest_await_end(&state, 0))
        log_warn(LOG_CLI, "%s", why->message);
    return guest_kill(name, error);
}

int cli_stop(char **argv)
{
    return each(argv, stop_one);
}

static bool kill_one(const struct cli_args *args G_GNUC_UNUSED, const char *name, GError **error)
{
    AUTO_STATE state = {0};
    return guest_find_live(name, &state, error) && guest_kill(name, error);
}

int cli_kill(char **argv)
{
    return each(argv, kill_one);
}

int cli_wait(char **argv)
{
    AUTO_ARGS args = {0};
    int code;
    if (!cli_args_parse(&args, argv, &code))
        return code;
    code = CLI_OK;
    for (unsigned i = 0; i < args.n; i++) {
        GError *error = NULL;
        AUTO_STATE before = {0}, after = {0};
        if (!guest_find(args.names[i], &before, &error)) {
            code = cli_fail(error);
            continue;
        }
        guest_await_end(&before, -1);
        guest_state_read(args.names[i], &after);
        code = guest_exit_code(&after);
        printf("%d\n", code);
        fflush(stdout);
    }
    return code;
}

/* --- the beginning --- */

static bool check_startable(const char *name, GError **error)
{
    AUTO_STATE state = {0};
    if (!guest_find(name, &state, error))
        return false;
    return !state.live || hostel_fail(error, HOSTEL_ERROR_HOST,
                                      "guest '%s' is %s already; 'hostel console %s' attaches to it", name,
                                      state.status, name);
}

int cli_start(char **argv)
{
    AUTO_ARGS args = {0};
    int code;
    if (!cli_args_parse(&args, argv, &code))
        return code;
    code = CLI_OK;
    for (unsigned i = 0; i < args.n; i++) {
        GError *error = NULL;
        struct named *guest =
            check_startable(args.names[i], &error) ? named_open_made(args.names[i], &error) : NULL;
        g_autofree char *saved = guest && args.fresh ? guest_saved_path(guest) : NULL;
        if (saved)
            unlink(saved);
        const int one = guest ? guest_run_again(guest, NULL, args.attach) : cli_fail(error);
        if (one)
            code = one;
    }
    return code;
}
