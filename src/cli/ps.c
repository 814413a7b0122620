/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* `hostel ps`: the guests that have a name. */
/*
 * Nobody is asked: files and the numbers of processes say it all (guest_state.h), so a hundred guests take a
 * few milliseconds, and one that hangs takes no longer than the others.
 */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/cli.h"
#include "cli/guest_state.h"
#include "cli/named.h"
#include "cli/ps.h"
#include "cli/table.h"

uint64_t ps_storage(const char *name)
{
    g_autofree char *all = named_folder(), *folder = g_build_filename(all, name, NULL);
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    uint64_t bytes = 0;
    for (const char *file; dir && (file = g_dir_read_name(dir));) {
        g_autofree char *path = g_build_filename(folder, file, NULL);
        struct stat status;
        if (!lstat(path, &status) && status.st_nlink == 1)
            bytes += (uint64_t)status.st_blocks * 512;
    }
    return bytes;
}

json_t *ps_json(const char *name, const struct guest_state *s)
{
    json_t *json = json_pack("{s:s,s:s,s:b}", "name", name, "status", s->status, "live", s->live);
    if (s->why)
        json_object_set_new(json, "why", json_string(s->why));
    if (s->started > 0) {
        json_object_set_new(json, "started", json_real(s->started));
        json_object_set_new(json, "since", json_real(s->since));
    }
    if (s->isa)
        json_object_set_new(json, "isa", json_string(s->isa));
    if (s->cpus)
        json_object_set_new(json, "cpus", json_integer(s->cpus));
    if (s->memory)
        json_object_set_new(json, "memory", json_integer((json_int_t)s->memory));
    if (s->live) {
        json_object_set_new(json, "pid", json_integer(s->vmm.pid));
        json_object_set_new(json, "supervisor-pid", json_integer(s->supervisor.pid));
        json_object_set_new(json, "foreground", json_boolean(s->foreground));
    }
    if (!s->live && s->exit_code >= 0)
        json_object_set_new(json, "exit-code", json_integer(s->exit_code));
    if (s->signal)
        json_object_set_new(json, "signal", json_integer(s->signal));
    return json;
}

static void add_row(struct table *t, const char *name, const struct guest_state *s, bool all)
{
    const double now = (double)g_get_real_time() / G_USEC_PER_SEC;
    g_autofree char *since = s->since > 0 ? table_duration(now - s->since) : NULL;
    g_autofree char *cpus = s->cpus ? g_strdup_printf("%u", s->cpus) : NULL;
    g_autofree char *memory = s->memory ? table_bytes((double)s->memory) : NULL;
    g_autofree char *pid = s->live && s->vmm.pid ? g_strdup_printf("%d", (int)s->vmm.pid) : NULL;
    g_autofree char *storage = all ? table_bytes((double)ps_storage(name)) : NULL;
    const char *const cells[] = {name, s->status, since, cpus, memory, pid, storage, s->live ? NULL : s->why};
    const char *const few[] = {name, s->status, since, cpus, memory, pid};
    table_add(t, all ? cells : few);
}

int cli_ps(char **argv)
{
    static const char *const titles[] = {"NAME", "STATUS",   ">FOR",         ">CPUS", ">MEMORY",
                                         ">PID", ">STORAGE", "HOW IT ENDED", NULL};
    static const char *const few[] = {"NAME", "STATUS", ">FOR", ">CPUS", ">MEMORY", ">PID", NULL};
    AUTO_ARGS args = {.output = "table"};
    int code;
    args.all = !strcmp(argv[0], "guests");
    if (!cli_args_parse(&args, argv, &code))
        return code;
    g_auto(GStrv) names = named_list();
    struct table *table = table_new(args.all ? titles : few);
    json_t *json = json_array();
    for (char **name = names; *name; name++) {
        AUTO_STATE state = {0};
        guest_state_read(*name, &state);
        if (!state.live && !args.all)
            continue;
        if (!strcmp(args.output, "name"))
            printf("%s\n", *name);
        else if (!strcmp(args.output, "json"))
            json_array_append_new(json, ps_json(*name, &state));
        else
            add_row(table, *name, &state, args.all);
    }
    table_print(table);
    if (!strcmp(args.output, "json"))
        table_json(json);
    else
        json_decref(json);
    return fflush(stdout) ? CLI_FAILURE : CLI_OK;
}
