/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What is kept of a run of a guest with a name. */
#include "cli/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "cli/guest_saved.h"
#include "cli/settings_live.h"
#include "os/fd.h"

static double now(void)
{
    return (double)g_get_real_time() / G_USEC_PER_SEC;
}

/* Notes the state. A folder that cannot be written is no reason to end a guest. */
static void note(struct keeper *k)
{
    g_autoptr(GError) error = NULL;
    if (k->runtime >= 0 && !guest_state_write(k->runtime, &k->state, &error))
        log_warn(LOG_CLI, "guest '%s': %s", k->guest->name, error->message);
}

static void become(struct keeper *k, const char *status)
{
    if (!g_strcmp0(k->state.status, status))
        return;
    g_free(k->state.status);
    k->state.status = g_strdup(status);
    k->state.since = now();
    note(k);
}

static void __attribute__((format(printf, 2, 3))) say(struct keeper *k, const char *format, ...)
{
    g_autoptr(GDateTime) time = g_date_time_new_now_utc();
    g_autofree char *at = g_date_time_format_iso8601(time);
    va_list args;
    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    g_autofree char *line = g_strdup_printf("hostel: %s: %s\n", at, text);
    journal_write(&k->log, line, strlen(line));
}

/* --- the beginning --- */

static bool open_journals(struct keeper *k, bool console, GError **error)
{
    k->folder = open(k->guest->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (k->folder < 0)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "%s: cannot open it: %s", k->guest->folder,
                           g_strerror(errno));
    return journal_open(&k->log, k->folder, "log", error) &&
           (!console || journal_open(&k->said, k->folder, "console.log", error));
}

static bool open_sockets(struct keeper *k, struct guest_options *options, bool console, GError **error)
{
    options->control_listen.fd = guest_runtime_listen(k->runtime, "control");
    if (console)
        k->attach.listener = guest_runtime_listen(k->runtime, "console");
    else
        unlinkat(k->runtime, "console", 0);
    if (options->control_listen.fd >= 0 && (!console || k->attach.listener >= 0))
        return true;
    g_autofree char *folder = guest_runtime(k->guest->name);
    return hostel_fail(error, HOSTEL_ERROR_HOST, "cannot make sockets in %s: %s", folder, g_strerror(errno));
}

bool keeper_begin(struct keeper *k, struct named *guest, struct guest_options *options, bool foreground,
                  GError **error)
{
    const bool console = options->console.kind == CONSOLE_STDIO;
    *k = (struct keeper){
        .guest = guest, .paused = options->paused, .folder = -1, .runtime = -1, .said.fd = -1, .log.fd = -1};
    attach_init(&k->attach, -1);
    guest_state_await_death(guest->name);
    k->runtime = guest_runtime_open(guest->name, error);
    if (k->runtime >= 0)
        live_forget(k->runtime); /* of a run that crashed */
    if (k->runtime < 0 || !open_journals(k, console, error) || !open_sockets(k, options, console, error))
        return false;
    k->state = (struct guest_state){
        .foreground = foreground,
        .started = now(),
        .supervisor = guest_process_of(getpid()),
        .exit_code = -1,
        .isa = g_strdup(options->isa),
        .cpus = options->cpus,
        .memory = options->memory,
    };
    become(k, "starting");
    say(k, "guest '%s' starts", guest->name);
    return true;
}

void keeper_started(struct keeper *k, const struct vmm_process *vmm)
{
    G_STATIC_ASSERT((int)GUEST_HELPERS >= (int)LAUNCH_HELPERS_MAX);
    k->state.vmm = guest_process_of(vmm->pid);
    for (unsigned i = 0; i < vmm->helper_count; i++)
        k->state.helpers[i] = guest_process_of(vmm->helpers[i]);
    note(k);
}

bool keeper_up(struct keeper *k, GError **error)
{
    if (k->up)
        return true;
    k->up = named_keep(k->guest, error);
    if (k->up)
        settings_start(k->guest, &k->state);
    if (!k->paused)
        guest_saved_forget(k->folder); /* it has gone on from there, or was booted instead */
    return k->up;
}

void keeper_detached(struct keeper *k)
{
    k->state.foreground = false;
    note(k);
}

/* --- while it runs --- */

/* A guest's process may say anything; what is kept and shown is a word. */
static bool is_word(const char *text)
{
    enum { WORD_MAX = 40 };
    const size_t length = strlen(text);
    return length && length <= WORD_MAX && strspn(text, "abcdefghijklmnopqrstuvwxyz-") == length;
}

static void note_reason(struct keeper *k, const json_t *data)
{
    g_free(k->reason);
    const char *reason = json_string_value(json_object_get(data, "reason"));
    k->reason = reason && is_word(reason) ? g_strdup(reason) : NULL;
    k->by_guest = json_is_true(json_object_get(data, "guest"));
}

bool keeper_message(struct keeper *k, const json_t *message)
{
    const char *event = json_string_value(json_object_get(message, "event"));
    if (event && !strcmp(event, "SHUTDOWN"))
        note_reason(k, json_object_get(message, "data"));
    else if (event && !strcmp(event, "RESUME") && k->up)
        guest_saved_forget(k->folder); /* it was saved, and goes on all the same */
    if (event && strcmp(event, "SHUTDOWN") != 0)
        return true;
    const json_t *value = json_object_get(message, "return");
    const char *status = json_string_value(json_object_get(value, "status"));
    if (!status || !json_object_get(value, "running"))
        return false;
    k->answered = true;
    become(k, is_word(status) ? status : "unknown");
    return false;
}

void keeper_console(struct keeper *k, const uint8_t *bytes, size_t size)
{
    journal_write(&k->said, bytes, size);
    attach_put(&k->attach, bytes, size);
}

void keeper_log(struct keeper *k, const uint8_t *bytes, size_t size)
{
    journal_write(&k->log, bytes, size);
}

/* --- the end --- */

/* For people, in few words. Owned by the caller. */
static char *explain(const struct keeper *k, int status)
{
    static const struct {
        const char *reason, *words;
    } known[] = {
        {"guest-shutdown", "it powered off"},
        {"guest-panic", "it reported failure"},
        {"guest-reset", "it reset itself"},
        {"host-qmp-quit", "it was stopped"},
        {"host-signal", "its process was told to end by a signal"},
        {"host-error", "an error of the host"},
        {"subsystem-reset", "it could not be reset"},
    };
    if (status == -1)
        return g_strdup("it could not be started");
    if (WIFSIGNALED(status))
        return g_strdup_printf("its process was killed by signal %d (%s)", WTERMSIG(status),
                               strsignal(WTERMSIG(status)));
    for (unsigned i = 0; i < G_N_ELEMENTS(known); i++)
        if (!g_strcmp0(k->reason, known[i].reason))
            return g_strdup(known[i].words);
    return g_strdup(k->reason ? k->reason : k->up ? "it ended" : "it could not be started");
}

static void note_end(struct keeper *k, int status, int code)
{
    const bool signalled = status != -1 && WIFSIGNALED(status);
    const int own = status != -1 && WIFEXITED(status) ? WEXITSTATUS(status) : code;
    k->state.signal = signalled ? WTERMSIG(status) : 0;
    k->state.exit_code = signalled ? code : own;
    g_free(k->state.why);
    k->state.why = explain(k, status);
    k->state.vmm = k->state.supervisor = k->state.helpers[0] = (struct guest_process){0};
    say(k, "guest '%s' ended, exit code %d: %s", k->guest->name, k->state.exit_code, k->state.why);
    become(k, signalled ? "crashed" : k->state.exit_code ? "failed" : "off");
}

/* Nobody attaches any more. The note stays: how it ended. */
static void close_sockets(struct keeper *k)
{
    if (k->runtime >= 0) {
        live_forget(k->runtime);
        unlinkat(k->runtime, "control", 0);
        unlinkat(k->runtime, "console", 0);
    }
}

void keeper_end(struct keeper *k, int status, int code)
{
    close_sockets(k);
    note_end(k, status, code);
    /* One that ran for too short a time to answer. Else what was wrong with it has been said. */
    const bool ran =
        status != -1 && WIFEXITED(status) && WEXITSTATUS(status) != 1 && WEXITSTATUS(status) != 2;
    if (!k->up && ran)
        keeper_up(k, NULL);
    g_autoptr(GError) error = NULL;
    if (k->discard && k->guest->made && !named_remove(k->guest, &error))
        log_warn(LOG_CLI, "%s", error->message);
    if (k->discard || !k->guest->made)
        guest_runtime_remove(k->guest->name);
    attach_fini(&k->attach); /* only now: who is attached will look how it ended */
    journal_close(&k->said);
    journal_close(&k->log);
    fd_close(&k->folder);
    fd_close(&k->runtime);
    named_free(k->guest);
    g_free(k->reason);
    guest_state_fini(&k->state);
}
