/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Reads the rows of a schema into a graph of types. */
#include "control/schema.h"

#include <string.h>

#include "base/bits.h"
#include "control/schema_int.h"

const struct qmp_type qmp_types[] = {
#define QMP_STRUCT(type, members) {.kind = QMP_STRUCT, .name = #type, .what = members},
#define QMP_ENUM(type, words) {.kind = QMP_ENUM, .name = #type, .what = words},
#define QMP_ALTERNATE(type, choices) {.kind = QMP_ALTERNATE, .name = #type, .what = choices},
#define QMP_UNION(type, members, member, variants)                                                           \
    {.kind = QMP_UNION, .name = #type, .what = members, .tag = member, .cases = variants},
#define QMP_EVENT(event, data) {.kind = QMP_EVENT, .name = #event, .what = data},
#define QMP_EVENT_LIMITED(event, data) {.kind = QMP_EVENT, .name = #event, .what = data, .limited = true},
#include "control/schema.def"
#undef QMP_STRUCT
#undef QMP_ENUM
#undef QMP_ALTERNATE
#undef QMP_UNION
#undef QMP_EVENT
#undef QMP_EVENT_LIMITED
    {0},
};

/* --- shapes by name --- */

static const struct qmp_shape builtins[] = {
    {.name = (void *)(uintptr_t) "str", .json = JSON_STRING, .said = "a string"},
    {.name = (void *)(uintptr_t) "bool", .json = JSON_TRUE, .said = "true or false"},
    {.name = (void *)(uintptr_t) "number", .json = JSON_REAL, .said = "a number"},
    {.name = (void *)(uintptr_t) "null", .json = JSON_NULL, .said = "null"},
    {.name = (void *)(uintptr_t) "any", .json = JSON_ANYTHING, .said = "anything"},
#define INTEGER(type, low, high)                                                                             \
    {                                                                                                        \
        .name = (void *)(uintptr_t)type, .json = JSON_INTEGER, .least = low, .most = high,                   \
        .said = "an integer"                                                                                 \
    }
    INTEGER("int", INT64_MIN, INT64_MAX),
    INTEGER("int8", INT8_MIN, INT8_MAX),
    INTEGER("int16", INT16_MIN, INT16_MAX),
    INTEGER("int32", INT32_MIN, INT32_MAX),
    INTEGER("int64", INT64_MIN, INT64_MAX),
    INTEGER("uint8", 0, UINT8_MAX),
    INTEGER("uint16", 0, UINT16_MAX),
    INTEGER("uint32", 0, UINT32_MAX),
    INTEGER("uint64", 0, INT64_MAX),
    INTEGER("size", 0, INT64_MAX),
#undef INTEGER
};

static void free_members(struct qmp_member *members, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        g_free(members[i].name);
    g_free(members);
}

static void free_shape(void *data)
{
    struct qmp_shape *shape = data;
    free_members(shape->members, shape->count);
    free_members(shape->cases, shape->n_cases);
    g_strfreev(shape->words);
    g_free(shape->name);
    g_free(shape);
}

static struct qmp_shape *add_shape(struct qmp_schema *s, const char *name, enum qmp_meta meta)
{
    struct qmp_shape *shape = g_new0(struct qmp_shape, 1);
    shape->name = g_strdup(name);
    shape->meta = meta;
    if (!g_hash_table_insert(s->shapes, shape->name, shape))
        g_error("the schema has two types %s", name);
    return shape;
}

/* The shape of TYPE; an array comes into being when it is first named. */
static struct qmp_shape *shape_of(struct qmp_schema *s, const char *type)
{
    struct qmp_shape *shape = g_hash_table_lookup(s->shapes, type);
    if (shape)
        return shape;
    size_t size = strlen(type);
    if (size < 3 || type[0] != '[' || type[size - 1] != ']')
        g_error("the schema has no type '%s'", type);
    g_autofree char *inner = g_strndup(type + 1, size - 2);
    struct qmp_shape *element = shape_of(s, inner);
    shape = add_shape(s, type, META_ARRAY);
    shape->element = element;
    return shape;
}

/* --- the notation --- */

static bool is_name(const char *text)
{
    for (const char *c = text; *c; c++)
        if (!g_ascii_isalnum(*c) && *c != '-' && *c != '_' && *c != '.')
            return false;
    return *text;
}

static void read_member(struct qmp_schema *s, char *text, struct qmp_member *m)
{
    char *colon = strchr(text, ':');
    if (!colon)
        g_error("the schema says '%s' where it should say NAME: TYPE", text);
    *colon = '\0';
    char *name = g_strstrip(text);
    m->optional = *name == '?';
    name += m->optional;
    if (!is_name(name))
        g_error("the schema has a member '%s'", name);
    m->name = g_strdup(name);
    m->shape = shape_of(s, g_strstrip(colon + 1));
}

/* MEMBERS as an array of *count, owned by the caller. */
static struct qmp_member *read_members(struct qmp_schema *s, const char *text, unsigned *count)
{
    *count = 0;
    if (!text || !*text)
        return NULL;
    g_auto(GStrv) parts = g_strsplit(text, ",", -1);
    struct qmp_member *members = g_new0(struct qmp_member, g_strv_length(parts));
    for (char **part = parts; *part; part++) {
        read_member(s, *part, &members[*count]);
        for (unsigned i = 0; i < *count; i++)
            if (!strcmp(members[i].name, members[*count].name))
                g_error("the schema has '%s' twice in '%s'", members[i].name, text);
        ++*count;
    }
    return members;
}

/* ARGS of the command or event called owner. */
static struct qmp_shape *read_args(struct qmp_schema *s, const char *owner, const char *text)
{
    if (!text || !*text)
        return s->no_members;
    if (!strchr(text, ':')) {
        struct qmp_shape *shape = shape_of(s, text);
        if (shape->meta != META_OBJECT)
            g_error("the arguments of %s are %s, which is no object", owner, text);
        return shape;
    }
    g_autofree char *name = g_strconcat(owner, "-arg", NULL);
    struct qmp_shape *shape = add_shape(s, name, META_OBJECT);
    shape->members = read_members(s, text, &shape->count);
    return shape;
}

static void check_tag(const struct qmp_shape *shape)
{
    const struct qmp_shape *tag = NULL;
    for (unsigned i = 0; i < shape->count; i++)
        if (!strcmp(shape->members[i].name, shape->tag))
            tag = shape->members[i].shape;
    if (!tag || tag->meta != META_ENUM)
        g_error("the union %s has no enum '%s'", shape->name, shape->tag);
    for (unsigned i = 0; i < shape->n_cases; i++)
        if (!g_strv_contains((const char *const *)tag->words, shape->cases[i].name) ||
            shape->cases[i].shape->meta != META_OBJECT)
            g_error("the union %s cannot have the case '%s'", shape->name, shape->cases[i].name);
}

/* What an alternate's choices are told apart by. */
static int json_kind(const struct qmp_shape *shape)
{
    switch (shape->meta) {
    case META_BUILTIN: return shape->json;
    case META_ENUM: return JSON_STRING;
    case META_ARRAY: return JSON_ARRAY;
    default: return JSON_OBJECT;
    }
}

static void check_choices(const struct qmp_shape *shape)
{
    for (unsigned i = 0; i < shape->count; i++)
        for (unsigned k = 0; k < i; k++)
            if (json_kind(shape->members[i].shape) == json_kind(shape->members[k].shape))
                g_error("nothing tells '%s' from '%s' in the alternate %s", shape->members[i].name,
                        shape->members[k].name, shape->name);
}

/* --- the whole --- */

/* First pass: every name exists, so that types may refer to each other in any order. */
static void declare(struct qmp_schema *s, const struct qmp_type *row)
{
    static const enum qmp_meta metas[] = {[QMP_STRUCT] = META_OBJECT,
                                          [QMP_UNION] = META_OBJECT,
                                          [QMP_ENUM] = META_ENUM,
                                          [QMP_ALTERNATE] = META_ALTERNATE};
    if (row->kind == QMP_EVENT)
        return;
    struct qmp_shape *shape = add_shape(s, row->name, metas[row->kind]);
    if (row->kind == QMP_ENUM)
        shape->words = g_strsplit(row->what, " ", -1);
}

/* Second pass: what the names stand for. */
static void define(struct qmp_schema *s, const struct qmp_type *row)
{
    if (row->kind == QMP_EVENT) {
        struct qmp_event_shape *event = g_new(struct qmp_event_shape, 1);
        *event = (struct qmp_event_shape){row->name, read_args(s, row->name, row->what), row->limited};
        g_ptr_array_add(s->events, event);
        return;
    }
    struct qmp_shape *shape = g_hash_table_lookup(s->shapes, row->name);
    if (row->kind == QMP_ENUM)
        return;
    shape->members = read_members(s, row->what, &shape->count);
    shape->tag = row->tag;
    shape->cases = read_members(s, row->cases, &shape->n_cases);
    if (row->kind == QMP_ALTERNATE)
        check_choices(shape);
}

static void add_command(struct qmp_schema *s, const struct qmp_command *row, unsigned table)
{
    struct qmp_method *method = g_new(struct qmp_method, 1);
    *method = (struct qmp_method){row, read_args(s, row->name, row->args),
                                  row->returns ? shape_of(s, row->returns) : s->no_members, table};
    g_ptr_array_add(s->commands, method);
    if (!g_hash_table_insert(s->by_name, (void *)(uintptr_t)row->name, method))
        g_error("the command %s is there twice", row->name);
}

struct qmp_schema *qmp_schema_new(const struct qmp_type *types, const struct qmp_command *const *tables)
{
    struct qmp_schema *s = g_new0(struct qmp_schema, 1);
    s->shapes = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, free_shape);
    s->commands = g_ptr_array_new_with_free_func(g_free);
    s->by_name = g_hash_table_new(g_str_hash, g_str_equal);
    s->events = g_ptr_array_new_with_free_func(g_free);
    for (unsigned i = 0; i < ARRAY_SIZE(builtins); i++) {
        struct qmp_shape *shape = add_shape(s, builtins[i].name, META_BUILTIN);
        char *name = shape->name;
        *shape = builtins[i];
        shape->name = name;
    }
    s->no_members = add_shape(s, "{}", META_OBJECT);
    for (const struct qmp_type *row = types; row->name; row++)
        declare(s, row);
    for (const struct qmp_type *row = types; row->name; row++)
        define(s, row);
    for (const struct qmp_type *row = types; row->name; row++)
        if (row->kind == QMP_UNION)
            check_tag(g_hash_table_lookup(s->shapes, row->name));
    for (unsigned table = 0; tables[table]; table++)
        for (const struct qmp_command *row = tables[table]; row->name; row++)
            add_command(s, row, table);
    return s;
}

void qmp_schema_free(struct qmp_schema *s)
{
    if (!s)
        return;
    g_ptr_array_unref(s->commands);
    g_hash_table_unref(s->by_name);
    g_ptr_array_unref(s->events);
    g_hash_table_unref(s->shapes);
    g_free(s);
}

const struct qmp_method *qmp_schema_command(const struct qmp_schema *s, const char *name)
{
    return g_hash_table_lookup(s->by_name, name);
}

static const struct qmp_event_shape *find_event(const struct qmp_schema *s, const char *name)
{
    for (unsigned i = 0; i < s->events->len; i++) {
        const struct qmp_event_shape *event = s->events->pdata[i];
        if (!strcmp(event->name, name))
            return event;
    }
    return NULL;
}

const struct qmp_shape *qmp_schema_event(const struct qmp_schema *s, const char *name)
{
    const struct qmp_event_shape *event = find_event(s, name);
    return event ? event->data : NULL;
}

bool qmp_schema_event_limited(const struct qmp_schema *s, const char *name)
{
    const struct qmp_event_shape *event = find_event(s, name);
    return event && event->limited;
}

const struct qmp_shape *qmp_schema_type(const struct qmp_schema *s, const char *name)
{
    return g_hash_table_lookup(s->shapes, name);
}
