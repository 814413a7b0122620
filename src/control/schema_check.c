/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Checks a message's arguments against their shape. */
/*
 * Types may refer to themselves, so the depth of the recursion is that of the message; it ends at
 * FRAMER_DEPTH_MAX, where messages from a socket end anyway.
 */
#include <string.h>

#include "base/error.h"
#include "control/framer.h"
#include "control/schema_int.h"

/* Where in the message a value stands: a chain from the inside out. */
struct place {
    const struct place *parent;
    const char *name; /* of a member; NULL = an element */
    size_t index;
    unsigned depth;
};

/* "a.b[3]", what a client sent cut short, owned by the caller. */
static char *say_place(const struct place *at)
{
    GString *s = g_string_new(NULL);
    for (; at->parent; at = at->parent) {
        g_autofree char *part = at->name ? g_strdup_printf(at->parent->parent ? ".%.40s" : "%.40s", at->name)
                                         : g_strdup_printf("[%zu]", at->index);
        g_string_prepend(s, part);
    }
    return g_string_free(s, FALSE);
}

static bool refuse(const struct place *at, GError **error, const char *what)
{
    if (!at->parent)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "the value must be %s", what);
    g_autofree char *where = say_place(at);
    return hostel_fail(error, HOSTEL_ERROR_USAGE, "parameter '%s' must be %s", where, what);
}

static bool check(const struct qmp_shape *shape, json_t *value, const struct place *at, GError **error);

static bool check_builtin(const struct qmp_shape *shape, json_t *value, const struct place *at,
                          GError **error)
{
    bool fits;
    switch (shape->json) {
    case JSON_ANYTHING: fits = true; break;
    case JSON_TRUE: fits = json_is_boolean(value); break;
    case JSON_REAL: fits = json_is_number(value); break;
    default: fits = (int)json_typeof(value) == shape->json;
    }
    if (!fits)
        return refuse(at, error, shape->said);
    json_int_t n = json_integer_value(value); /* 0 when it is none */
    if (shape->json != JSON_INTEGER || (n >= shape->least && n <= shape->most))
        return true;
    g_autofree char *range =
        g_strdup_printf("from %" G_GINT64_FORMAT " to %" G_GINT64_FORMAT, shape->least, shape->most);
    return refuse(at, error, range);
}

static bool check_enum(const struct qmp_shape *shape, json_t *value, const struct place *at, GError **error)
{
    const char *text = json_string_value(value);
    if (text && g_strv_contains((const char *const *)shape->words, text))
        return true;
    g_autofree char *list = g_strjoinv(", ", shape->words);
    g_autofree char *what = g_strconcat("one of: ", list, NULL);
    return refuse(at, error, what);
}

static bool check_array(const struct qmp_shape *shape, json_t *value, const struct place *at, GError **error)
{
    if (!json_is_array(value))
        return refuse(at, error, "an array");
    for (size_t i = 0; i < json_array_size(value); i++) {
        struct place inner = {.parent = at, .index = i, .depth = at->depth + 1};
        if (!check(shape->element, json_array_get(value, i), &inner, error))
            return false;
    }
    return true;
}

static const struct qmp_member *find_member(const struct qmp_member *members, unsigned count,
                                            const char *name)
{
    for (unsigned i = 0; i < count; i++)
        if (!strcmp(members[i].name, name))
            return &members[i];
    return NULL;
}

/* What the object has beside its members, when it is a union: the struct of its case; NULL = none. */
static const struct qmp_shape *chosen_case(const struct qmp_shape *shape, json_t *value)
{
    const char *tag = shape->tag ? json_string_value(json_object_get(value, shape->tag)) : NULL;
    const struct qmp_member *chosen = tag ? find_member(shape->cases, shape->n_cases, tag) : NULL;
    return chosen ? chosen->shape : NULL;
}

/* Those members that shape itself has. */
static bool check_members(const struct qmp_shape *shape, json_t *value, const struct place *at,
                          GError **error)
{
    for (unsigned i = 0; i < shape->count; i++) {
        const struct qmp_member *m = &shape->members[i];
        json_t *inner = json_object_get(value, m->name);
        struct place place = {.parent = at, .name = m->name, .depth = at->depth + 1};
        if (inner && !check(m->shape, inner, &place, error))
            return false;
        if (!inner && !m->optional) {
            g_autofree char *where = say_place(&place);
            return hostel_fail(error, HOSTEL_ERROR_USAGE, "parameter '%s' is missing", where);
        }
    }
    return true;
}

static bool has_member(const struct qmp_shape *shape, json_t *value, const char *name)
{
    const struct qmp_shape *more = chosen_case(shape, value);
    return find_member(shape->members, shape->count, name) || (more && has_member(more, value, name));
}

static bool check_object(const struct qmp_shape *shape, json_t *value, const struct place *at, GError **error)
{
    if (!json_is_object(value))
        return refuse(at, error, "an object");
    for (const struct qmp_shape *part = shape; part; part = chosen_case(part, value))
        if (!check_members(part, value, at, error))
            return false;
    const char *name;
    json_t *inner;
    json_object_foreach(value, name, inner)
    {
        if (has_member(shape, value, name))
            continue;
        struct place place = {.parent = at, .name = name, .depth = at->depth + 1};
        g_autofree char *where = say_place(&place);
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "there is no parameter '%s'", where);
    }
    return true;
}

/* Its choices differ in JSON's kinds: at most one of them can be meant. */
static bool check_alternate(const struct qmp_shape *shape, json_t *value, const struct place *at,
                            GError **error)
{
    for (unsigned i = 0; i < shape->count; i++) {
        const struct qmp_shape *choice = shape->members[i].shape;
        bool meant = false;
        switch (choice->meta) {
        case META_ENUM: meant = json_is_string(value); break;
        case META_ARRAY: meant = json_is_array(value); break;
        case META_BUILTIN: meant = check_builtin(choice, value, at, NULL); break;
        default: meant = json_is_object(value);
        }
        if (meant)
            return check(choice, value, at, error);
    }
    GString *list = g_string_new("one of:");
    for (unsigned i = 0; i < shape->count; i++)
        g_string_append_printf(list, "%s %s", i ? "," : "", shape->members[i].shape->name);
    g_autofree char *what = g_string_free(list, FALSE);
    return refuse(at, error, what);
}

static bool check(const struct qmp_shape *shape, json_t *value, const struct place *at, GError **error)
{
    if (at->depth > FRAMER_DEPTH_MAX)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "the value is nested deeper than %d", FRAMER_DEPTH_MAX);
    switch (shape->meta) {
    case META_BUILTIN: return check_builtin(shape, value, at, error);
    case META_ENUM: return check_enum(shape, value, at, error);
    case META_ARRAY: return check_array(shape, value, at, error);
    case META_OBJECT: return check_object(shape, value, at, error);
    case META_ALTERNATE: return check_alternate(shape, value, at, error);
    }
    g_assert_not_reached();
}

bool qmp_schema_check(const struct qmp_shape *shape, json_t *value, GError **error)
{
    struct place root = {0};
    return check(shape, value, &root, error);
}
