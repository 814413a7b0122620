/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A schema in the words of query-qmp-schema. */
/*
 * Specification: QEMU 7.2, qapi/introspect.json. Names of types mean nothing there; ours are those of
 * schema.def, and a command's arguments are called after it.
 */
#include "control/schema_int.h"

/* A list of types that are spoken of, each once; those to be described yet are at its end. */
struct writer {
    GPtrArray *shapes;               /* borrowed */
    GHashTable *known;               /* by public name */
    const struct qmp_shape *nothing; /* what a case has that adds no members */
    json_t *out;
};

/* Sees to it that the type is described, and returns what it is called. */
static const char *refer(struct writer *w, const struct qmp_shape *shape)
{
    const char *name = qmp_shape_public_name(shape);
    if (shape->meta == META_ARRAY && shape->element->json == JSON_INTEGER &&
        shape->element->meta == META_BUILTIN)
        name = "[int]";
    if (g_hash_table_add(w->known, (void *)(uintptr_t)name))
        g_ptr_array_add(w->shapes, (void *)(uintptr_t)shape);
    return name;
}

static json_t *members(struct writer *w, const struct qmp_shape *shape)
{
    json_t *list = json_array();
    for (unsigned i = 0; i < shape->count; i++) {
        const struct qmp_member *m = &shape->members[i];
        json_t *row = json_pack("{s:s,s:s}", "name", m->name, "type", refer(w, m->shape));
        if (m->optional)
            json_object_set_new(row, "default", json_null());
        json_array_append_new(list, row);
    }
    return list;
}

static json_t *cases(struct writer *w, const struct qmp_shape *shape)
{
    const struct qmp_shape *tag = NULL;
    for (unsigned i = 0; i < shape->count; i++)
        if (g_str_equal(shape->members[i].name, shape->tag))
            tag = shape->members[i].shape;
    json_t *list = json_array();
    for (char **word = tag->words; *word; word++) {
        const struct qmp_shape *type = w->nothing;
        for (unsigned i = 0; i < shape->n_cases; i++)
            if (g_str_equal(shape->cases[i].name, *word))
                type = shape->cases[i].shape;
        json_array_append_new(list, json_pack("{s:s,s:s}", "case", *word, "type", refer(w, type)));
    }
    return list;
}

static json_t *describe(struct writer *w, const struct qmp_shape *shape)
{
    switch (shape->meta) {
    case META_BUILTIN: {
        static const char *const kinds[] = {
            [JSON_STRING] = "string", [JSON_INTEGER] = "int", [JSON_REAL] = "number",
            [JSON_TRUE] = "boolean",  [JSON_NULL] = "null",
        };
        const char *kind = shape->json == JSON_ANYTHING ? "value" : kinds[shape->json];
        return json_pack("{s:s,s:s}", "meta-type", "builtin", "json-type", kind);
    }
    case META_ENUM: {
        json_t *words = json_array(), *rows = json_array();
        for (char **word = shape->words; *word; word++) {
            json_array_append_new(words, json_string(*word));
            json_array_append_new(rows, json_pack("{s:s}", "name", *word));
        }
        return json_pack("{s:s,s:o,s:o}", "meta-type", "enum", "members", rows, "values", words);
    }
    case META_ARRAY:
        return json_pack("{s:s,s:s}", "meta-type", "array", "element-type", refer(w, shape->element));
    case META_OBJECT: {
        json_t *out = json_pack("{s:s,s:o}", "meta-type", "object", "members", members(w, shape));
        if (shape->tag)
            json_object_update_new(out,
                                   json_pack("{s:s,s:o}", "tag", shape->tag, "variants", cases(w, shape)));
        return out;
    }
    case META_ALTERNATE: {
        json_t *list = json_array();
        for (unsigned i = 0; i < shape->count; i++)
            json_array_append_new(list, json_pack("{s:s}", "type", refer(w, shape->members[i].shape)));
        return json_pack("{s:s,s:o}", "meta-type", "alternate", "members", list);
    }
    }
    g_assert_not_reached();
}

static void write_types(struct writer *w)
{
    for (unsigned i = 0; i < w->shapes->len; i++) {
        const struct qmp_shape *shape = w->shapes->pdata[i];
        const char *name = refer(w, shape);
        json_t *row = describe(w, shape);
        json_object_set_new(row, "name", json_string(name));
        json_array_append_new(w->out, row);
    }
}

json_t *qmp_schema_json(const struct qmp_schema *s)
{
    struct writer w = {.shapes = g_ptr_array_new(),
                       .known = g_hash_table_new(g_str_hash, g_str_equal),
                       .nothing = s->no_members,
                       .out = json_array()};
    for (unsigned i = 0; i < s->commands->len; i++) {
        const struct qmp_method *m = s->commands->pdata[i];
        json_t *row = json_pack("{s:s,s:s,s:s,s:s}", "name", m->row->name, "meta-type", "command", "arg-type",
                                refer(&w, m->args), "ret-type", refer(&w, m->returns));
        if (m->row->flags & QMP_OOB)
            json_object_set_new(row, "allow-oob", json_true());
        json_array_append_new(w.out, row);
    }
    for (unsigned i = 0; i < s->events->len; i++) {
        const struct qmp_event_shape *event = s->events->pdata[i];
        json_array_append_new(w.out, json_pack("{s:s,s:s,s:s}", "name", event->name, "meta-type", "event",
                                               "arg-type", refer(&w, event->data)));
    }
    write_types(&w);
    g_ptr_array_unref(w.shapes);
    g_hash_table_unref(w.known);
    return w.out;
}

json_t *qmp_schema_commands(const struct qmp_schema *s)
{
    json_t *list = json_array();
    for (unsigned i = 0; i < s->commands->len; i++) {
        const struct qmp_method *m = s->commands->pdata[i];
        json_array_append_new(list, json_pack("{s:s}", "name", m->row->name));
    }
    return list;
}
