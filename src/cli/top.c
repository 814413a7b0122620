/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* `hostel top`: what running guests use, again and again. */
/*
 * A connection to each guest stays open between two looks. One whose process does not answer within ANSWER_MS
 * is not asked any more, so that it holds up nobody: what the host knows of it is shown.
 */
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "cli/cli.h"
#include "cli/guest.h"
#include "cli/guest_call.h"
#include "cli/named.h"
#include "cli/ps.h"
#include "cli/sample.h"
#include "cli/table.h"

enum { ANSWER_MS = 500, FIRST_DELAY_MS = 500, DELAY = 2 };

struct watched {
    char *name;
    struct guest_call *call; /* NULL: it does not answer */
    struct guest_state state;
    struct sample before, now;
    bool seen; /* in this look */
};

static void free_watched(gpointer data)
{
    struct watched *w = data;
    guest_call_close(w->call);
    guest_state_fini(&w->state);
    g_free(w->name);
    g_free(w);
}

static struct watched *find(GPtrArray *all, const char *name)
{
    for (unsigned i = 0; i < all->len; i++) {
        struct watched *w = all->pdata[i];
        if (!strcmp(w->name, name))
            return w;
    }
    return NULL;
}

static void look_at(GPtrArray *all, const char *name)
{
    AUTO_STATE state = {0};
    guest_state_read(name, &state);
    if (!state.live)
        return;
    struct watched *w = find(all, name);
    if (w && w->state.vmm.pid != state.vmm.pid) { /* it was started again */
        g_ptr_array_remove(all, w);
        w = NULL;
    }
    if (!w) {
        w = g_new0(struct watched, 1);
        w->name = g_strdup(name);
        w->call = guest_call_open(name, ANSWER_MS, NULL);
        g_ptr_array_add(all, w);
    }
    guest_state_fini(&w->state);
    w->state = state;
    state = (struct guest_state){0};
    w->before = w->now;
    w->seen = true;
    sample_take(&w->now, &w->state, w->call);
    if (!w->now.answered) {
        guest_call_close(w->call);
        w->call = NULL;
    }
}

static void look(GPtrArray *all, const struct cli_args *args)
{
    g_auto(GStrv) names = args->n ? NULL : named_list();
    for (char **name = args->n ? args->names : names; *name; name++)
        look_at(all, *name);
    for (unsigned i = all->len; i; i--) {
        struct watched *w = all->pdata[i - 1];
        if (!w->seen)
            g_ptr_array_remove_index(all, i - 1);
        else
            w->seen = false;
    }
}

/* --- what is shown --- */

static char *bytes(bool known, const struct watched *w, uint64_t before, uint64_t now)
{
    return known ? table_bytes(sample_rate(&w->before, &w->now, before, now)) : g_strdup("-");
}

static char *count(bool known, const struct watched *w, uint64_t before, uint64_t now, double unit)
{
    const double rate = sample_rate(&w->before, &w->now, before, now) / unit;
    return known ? g_strdup_printf(unit > 1 ? "%.1f" : "%.0f", rate) : g_strdup("-");
}

static void add_row(struct table *t, const struct watched *w)
{
    const struct sample *a = &w->before, *b = &w->now;
    const bool disks = a->disks && b->disks, nets = a->nets && b->nets, counters = a->counters && b->counters;
    g_autofree char *cpu = table_share(b->at > a->at && a->at > 0 ? (b->cpu - a->cpu) / (b->at - a->at) : 0);
    g_autofree char *rss = table_bytes((double)b->rss), *size = table_bytes((double)w->state.memory);
    g_autofree char *read = bytes(disks, w, a->disk_read, b->disk_read);
    g_autofree char *written = bytes(disks, w, a->disk_written, b->disk_written);
    g_autofree char *received = bytes(nets, w, a->net_received, b->net_received);
    g_autofree char *sent = bytes(nets, w, a->net_sent, b->net_sent);
    g_autofree char *mips = count(counters, w, a->instructions, b->instructions, 1e6);
    g_autofree char *exits = count(counters, w, a->exits, b->exits, 1);
    const char *const cells[] = {w->name, w->state.status, cpu,  rss,  size, read,
                                 written, received,        sent, mips, exits};
    table_add(t, cells);
}

static void show_table(GPtrArray *all, bool clear)
{
    static const char *const titles[] = {"NAME",     "STATUS",  ">CPU",    ">RESIDENT", ">MEMORY",  ">READ/s",
                                         ">WRITE/s", ">RECV/s", ">SENT/s", ">MIPS",     ">EXITS/s", NULL};
    struct table *table = table_new(titles);
    g_autoptr(GString) out = g_string_new(clear ? "\033[H\033[J" : "");
    for (unsigned i = 0; i < all->len; i++)
        add_row(table, all->pdata[i]);
    table_finish(table, out);
    if (clear && !all->len)
        g_string_append(out, "no guest with a name is running\n");
    fputs(out->str, stdout);
}

static void show_json(GPtrArray *all)
{
    json_t *list = json_array();
    for (unsigned i = 0; i < all->len; i++) {
        const struct watched *w = all->pdata[i];
        json_t *json = ps_json(w->name, &w->state);
        json_object_set_new(json, "usage", sample_json(&w->now));
        json_object_set_new(json, "rates", sample_rates(&w->before, &w->now));
        json_array_append_new(list, json);
    }
    table_json(list);
}

static bool show(GPtrArray *all, const struct cli_args *args)
{
    if (!strcmp(args->output, "json"))
        show_json(all);
    else if (!strcmp(args->output, "table"))
        show_table(all, !args->once && isatty(STDOUT_FILENO));
    for (unsigned i = 0; i < all->len && !strcmp(args->output, "name"); i++)
        printf("%s\n", ((struct watched *)all->pdata[i])->name);
    return !fflush(stdout);
}

int cli_top(char **argv)
{
    AUTO_ARGS args = {.output = "table", .delay = DELAY};
    int code;
    if (!cli_args_parse(&args, argv, &code))
        return code;
    for (unsigned i = 0; i < args.n; i++) {
        GError *error = NULL;
        AUTO_STATE state = {0};
        if (!guest_find_live(args.names[i], &state, &error))
            return cli_fail(error);
    }
    g_autoptr(GPtrArray) all = g_ptr_array_new_with_free_func(free_watched);
    look(all, &args);
    for (int delay = FIRST_DELAY_MS;; delay = (int)(args.delay * 1000)) {
        poll(NULL, 0, delay);
        look(all, &args);
        if (!show(all, &args))
            return CLI_FAILURE;
        if (args.once)
            return CLI_OK;
    }
}
