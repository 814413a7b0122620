/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* `hostel info`: everything about guests. */
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "cli/cli.h"
#include "cli/devices.h"
#include "cli/guest.h"
#include "cli/guest_call.h"
#include "cli/guest_run.h"
#include "cli/guest_saved.h"
#include "cli/named.h"
#include "cli/ps.h"
#include "cli/sample.h"
#include "cli/table.h"
#include "codec/packed.h"
#include "os/fd.h"

enum { RATE_US = 200000 /* between the two looks that rates come from */ };

/* --- what is known --- */

static json_t *devices_list(const struct named *guest)
{
    g_autoptr(GPtrArray) rows = devices_of(guest);
    json_t *list = json_array();
    for (guint i = 0; i < rows->len; i++) {
        const struct device_row *row = rows->pdata[i];
        g_autofree char *what = g_utf8_make_valid(row->what, -1);
        json_t *item =
            json_pack("{s:s,s:s,s:s}", "id", row->id, "kind", row->net ? "net" : "disk", "what", what);
        if (row->port)
            json_object_set_new(item, "port", json_integer(row->port));
        json_array_append_new(list, item);
    }
    return list;
}

static void add_definition(json_t *json, const struct named *guest)
{
    g_autofree char *system = guest_system(guest);
    g_autofree char *made = g_key_file_get_string(guest->definition, "guest", "made", NULL);
    g_autoptr(GPtrArray) words = guest_words(guest);
    json_t *list = json_array();
    for (unsigned i = 0; i < words->len; i++)
        json_array_append_new(list, json_string(words->pdata[i]));
    json_object_set_new(json, "system", json_string(system));
    if (made)
        json_object_set_new(json, "made", json_string(made));
    json_object_set_new(json, "options", list);
    json_object_set_new(json, "devices", devices_list(guest));
    json_object_set_new(json, "folder", json_string(guest->folder));
    json_object_set_new(json, "storage", json_integer((json_int_t)ps_storage(guest->name)));
}

/* What its process says besides, when it says it. */
static void add_answer(json_t *json, const char *key, struct guest_call *call, const char *command)
{
    json_t *value = guest_call(call, command, NULL, NULL);
    if (value)
        json_object_set_new(json, key, value);
}

/* The file from which it goes on. */
static void add_saved(json_t *json, const struct named *guest)
{
    g_autofree char *path = guest_saved_path(guest), *file = path ? realpath(path, NULL) : NULL;
    AUTO_FD fd = file ? open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY) : -1;
    struct stat status;
    if (fd >= 0 && !fstat(fd, &status))
        json_object_set_new(json, "saved",
                            json_pack("{s:s,s:s,s:I}", "file", file, "format",
                                      packed_is(fd) ? "zstd" : "plain", "storage",
                                      (json_int_t)status.st_blocks * 512));
}

static void add_live(json_t *json, const char *name, const struct guest_state *state)
{
    g_autoptr(GError) error = NULL;
    AUTO(guest_call) call = guest_call_open(name, GUEST_CALL_MS, &error);
    struct sample first, second;
    sample_take(&first, state, call);
    if (call)
        g_usleep(RATE_US);
    sample_take(&second, state, call);
    json_object_set_new(json, "usage", sample_json(&second));
    json_object_set_new(json, "rates", sample_rates(&first, &second));
    if (!second.answered) {
        json_object_set_new(json, "answers", json_false());
        log_warn(LOG_CLI, "%s", error ? error->message : "the guest's process stopped answering");
        return;
    }
    g_autofree char *runtime = guest_runtime(name), *control = g_build_filename(runtime, "control", NULL);
    json_object_set_new(json, "answers", json_true());
    json_object_set_new(json, "control", json_string(control));
    add_answer(json, "sandbox", call, "x-query-sandbox");
    add_answer(json, "statistics", call, "x-query-stats");
    add_answer(json, "disks", call, "query-block");
    add_answer(json, "networks", call, "x-query-net");
}

static json_t *describe(const char *name, GError **error)
{
    AUTO_STATE state = {0};
    AUTO(named) guest = named_look(name, error);
    if (!guest)
        return NULL;
    guest_state_read(name, &state);
    json_t *json = ps_json(name, &state);
    add_definition(json, guest);
    add_saved(json, guest);
    if (state.live)
        add_live(json, name, &state);
    return json;
}

/* --- for people --- */

static void __attribute__((format(printf, 2, 3))) row(const char *what, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    printf("%-12s ", what);
    vprintf(format, args);
    putchar('\n');
    va_end(args);
}

static const char *text_of(const json_t *json, const char *key)
{
    const char *text = json_string_value(json_object_get(json, key));
    return text ? text : "";
}

static double number_of(const json_t *json, const char *key)
{
    return json_number_value(json_object_get(json, key));
}

static void print_status(const json_t *json)
{
    const double now = (double)g_get_real_time() / G_USEC_PER_SEC;
    g_autofree char *since = table_duration(now - number_of(json, "since"));
    g_autofree char *up = table_duration(now - number_of(json, "started"));
    const char *why = text_of(json, "why");
    const bool live = json_is_true(json_object_get(json, "live"));
    if (!json_object_get(json, "started"))
        row("status", "%s", text_of(json, "status"));
    else if (live)
        row("status", "%s for %s, started %s ago, %s", text_of(json, "status"), since, up,
            json_is_true(json_object_get(json, "foreground")) ? "in the foreground" : "in the background");
    else
        row("status", "%s for %s%s%s", text_of(json, "status"), since, *why ? ": " : "", why);
    if (json_object_get(json, "exit-code"))
        row("exit code", "%.0f", number_of(json, "exit-code"));
    if (live)
        row("processes", "%.0f, supervisor %.0f", number_of(json, "pid"), number_of(json, "supervisor-pid"));
}

static void print_definition(const json_t *json)
{
    g_autofree char *storage = table_bytes(number_of(json, "storage"));
    size_t i;
    json_t *word, *device;
    row("system", "%s", text_of(json, "system"));
    if (*text_of(json, "made"))
        row("made", "%s", text_of(json, "made"));
    row("folder", "%s (%s of its own)", text_of(json, "folder"), storage);
    json_array_foreach(json_object_get(json, "options"), i, word)
        row(i ? "" : "options", "%s", json_string_value(word));
    json_array_foreach(json_object_get(json, "devices"), i, device)
    {
        g_autofree char *port = g_strdup_printf(", in port %.0f", number_of(device, "port"));
        row(i ? "" : "devices", "%s: %s%s", text_of(device, "id"), text_of(device, "what"),
            json_object_get(device, "port") ? port : "");
    }
    const json_t *saved = json_object_get(json, "saved");
    g_autofree char *room = table_bytes(number_of(saved, "storage"));
    if (saved)
        row("saved", "%s (%s%s)", text_of(saved, "file"), room,
            strcmp(text_of(saved, "format"), "zstd") ? "" : ", compressed");
}

/* What its process counts; what it does not know is left out. */
static void print_rates(const json_t *usage, const json_t *rates)
{
    g_autofree char *in = table_bytes(number_of(rates, "disk-read-bytes"));
    g_autofree char *out = table_bytes(number_of(rates, "disk-written-bytes"));
    g_autofree char *received = table_bytes(number_of(rates, "net-received-bytes"));
    g_autofree char *sent = table_bytes(number_of(rates, "net-sent-bytes"));
    g_autofree char *code = table_bytes(number_of(usage, "code-bytes"));
    if (json_object_get(usage, "disk-reads"))
        row("disks", "%s/s read, %s/s written; %.0f reads, %.0f writes in all", in, out,
            number_of(usage, "disk-reads"), number_of(usage, "disk-writes"));
    if (json_object_get(usage, "net-sent-bytes"))
        row("networks", "%s/s received, %s/s sent", received, sent);
    if (!json_object_get(usage, "instructions"))
        return;
    row("execution", "%.1f million instructions/s, %.0f exits/s", number_of(rates, "instructions") / 1e6,
        number_of(rates, "exits"));
    row("translation", "%.0f blocks made, %s of code", number_of(usage, "blocks-made"), code);
}

static void print_usage(const json_t *json)
{
    const json_t *usage = json_object_get(json, "usage"), *rates = json_object_get(json, "rates");
    g_autofree char *rss = table_bytes(number_of(usage, "resident-bytes"));
    g_autofree char *pss = table_bytes(number_of(usage, "proportional-bytes"));
    g_autofree char *size = table_bytes(number_of(json, "memory"));
    g_autofree char *share = table_share(number_of(rates, "cpu"));
    row("processor", "%s of one now, %.1f s in all, %.0f for the guest", share,
        number_of(usage, "cpu-seconds"), number_of(json, "cpus"));
    if (json_object_get(usage, "proportional-bytes"))
        row("memory", "%s resident, %s proportional, %s for the guest", rss, pss, size);
    else
        row("memory", "%s resident, %s for the guest", rss, size);
    if (!json_is_true(json_object_get(json, "answers")))
        return;
    print_rates(usage, rates);
}

static void print_sandbox(const json_t *json)
{
    const json_t *s = json_object_get(json, "sandbox");
    if (!s)
        return;
    row("sandbox",
        "%s: no new privileges %s, no capabilities %s, Landlock %s, seccomp %s (%.0f system calls)",
        text_of(s, "state"), json_is_true(json_object_get(s, "no-new-privileges")) ? "yes" : "no",
        json_is_true(json_object_get(s, "no-capabilities")) ? "yes" : "no",
        number_of(s, "landlock-abi") > 0 ? "yes" : "no",
        json_is_true(json_object_get(s, "seccomp")) ? "yes" : "no", number_of(s, "system-calls"));
    row("control", "%s (QMP)", text_of(json, "control"));
}

static void print_text(const json_t *json, bool more)
{
    row("guest", "%s", text_of(json, "name"));
    print_status(json);
    if (json_is_true(json_object_get(json, "live"))) {
        print_usage(json);
        print_sandbox(json);
    }
    print_definition(json);
    if (more)
        putchar('\n');
}

int cli_info(char **argv)
{
    AUTO_ARGS args = {.output = "table"};
    int code;
    if (!cli_args_parse(&args, argv, &code))
        return code;
    code = CLI_OK;
    json_t *list = json_array();
    for (unsigned i = 0; i < args.n; i++) {
        GError *error = NULL;
        json_t *json =
            !strcmp(args.output, "name") ? json_string(args.names[i]) : describe(args.names[i], &error);
        if (json)
            json_array_append_new(list, json);
        else
            code = cli_fail(error);
    }
    size_t i;
    json_t *json;
    json_array_foreach(list, i, json)
    {
        if (json_is_string(json))
            printf("%s\n", json_string_value(json));
        else if (!strcmp(args.output, "table"))
            print_text(json, i + 1 < json_array_size(list));
    }
    if (!strcmp(args.output, "json"))
        table_json(list);
    else
        json_decref(list);
    return fflush(stdout) ? CLI_FAILURE : code;
}
