/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Holds back events that a guest can cause as often as it likes. */
#include "control/limiter.h"

struct limiter {
    GMainContext *context;
    void (*send)(void *opaque, const char *text);
    void *opaque;
    unsigned period_ms;
    GHashTable *recent; /* struct entry by its key, owned */
};

/* An event that was sent less than a period ago. */
struct entry {
    struct limiter *limiter;
    char *key;
    GSource *timer; /* the end of the period */
    char *text;     /* what happened since, last; NULL = nothing */
};

static void free_entry(void *data)
{
    struct entry *e = data;
    g_source_destroy(e->timer);
    g_source_unref(e->timer);
    g_free(e->text);
    g_free(e->key);
    g_free(e);
}

struct limiter *limiter_new(GMainContext *context, void (*send)(void *opaque, const char *text), void *opaque,
                            unsigned period_ms)
{
    struct limiter *l = g_new(struct limiter, 1);
    *l = (struct limiter){.context = context,
                          .send = send,
                          .opaque = opaque,
                          .period_ms = period_ms,
                          .recent = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, free_entry)};
    return l;
}

void limiter_free(struct limiter *l)
{
    if (!l)
        return;
    g_hash_table_unref(l->recent);
    g_free(l);
}

/* The event and what it is about, owned by the caller. */
static char *make_key(const char *name, json_t *data)
{
    static const char *const members[] = {"device", "node-name", "id", "operation", "action"};
    GString *key = g_string_new(name);
    for (unsigned i = 0; i < G_N_ELEMENTS(members); i++) {
        const char *value = json_string_value(json_object_get(data, members[i]));
        g_string_append_printf(key, "\n%s", value ? value : "");
    }
    return g_string_free(key, FALSE);
}

static gboolean period_over(gpointer data)
{
    struct entry *e = data;
    if (!e->text) {
        g_hash_table_remove(e->limiter->recent, e->key);
        return G_SOURCE_REMOVE;
    }
    g_autofree char *text = STEAL(e->text);
    e->limiter->send(e->limiter->opaque, text);
    return G_SOURCE_CONTINUE;
}

void limiter_flush(struct limiter *l)
{
    GHashTableIter i;
    void *value;
    g_hash_table_iter_init(&i, l->recent);
    while (g_hash_table_iter_next(&i, NULL, &value)) {
        g_autofree char *text = STEAL(((struct entry *)value)->text);
        if (text)
            l->send(l->opaque, text);
    }
}

static void begin_period(struct limiter *l, char *key)
{
    struct entry *e = g_new0(struct entry, 1);
    e->limiter = l;
    e->key = key;
    e->timer = g_timeout_source_new(l->period_ms);
    g_source_set_callback(e->timer, period_over, e, NULL);
    g_source_attach(e->timer, l->context);
    g_hash_table_insert(l->recent, e->key, e);
}

void limiter_event(struct limiter *l, const char *name, json_t *data, const char *text)
{
    g_autofree char *key = make_key(name, data);
    struct entry *e = g_hash_table_lookup(l->recent, key);
    if (e) {
        g_free(e->text);
        e->text = g_strdup(text);
        return;
    }
    if (g_hash_table_size(l->recent) < LIMITER_KEYS_MAX)
        begin_period(l, g_steal_pointer(&key));
    l->send(l->opaque, text);
}
