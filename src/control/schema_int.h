/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The graph of types that a schema is read into. */
#ifndef HOSTEL_CONTROL_SCHEMA_INT_H
#define HOSTEL_CONTROL_SCHEMA_INT_H

#include <stdint.h>

#include "control/schema.h"

enum qmp_meta { META_BUILTIN, META_ENUM, META_ARRAY, META_OBJECT, META_ALTERNATE };

/* JSON_TRUE stands for both truth values, JSON_REAL for all numbers, and this for anything at all. */
enum { JSON_ANYTHING = 100 };

struct qmp_member {
    char *name;
    struct qmp_shape *shape;
    bool optional;
};

struct qmp_shape {
    char *name; /* unique; how query-qmp-schema refers to it */
    enum qmp_meta meta;
    int json;                   /* builtin: what it is in JSON, a json_type or JSON_ANYTHING */
    int64_t least, most;        /* builtin, JSON_INTEGER */
    const char *said;           /* builtin: as in "must be ..." */
    char **words;               /* enum; ends with NULL */
    struct qmp_shape *element;  /* array */
    struct qmp_member *members; /* object, alternate */
    unsigned count;
    const char *tag;          /* object with cases, else NULL: the member that chooses */
    struct qmp_member *cases; /* called as the values of tag */
    unsigned n_cases;
};

struct qmp_schema {
    GHashTable *shapes;  /* by name, owned */
    GPtrArray *commands; /* of struct qmp_method, owned, in their tables' order */
    GHashTable *by_name; /* of these */
    GPtrArray *events;   /* of struct qmp_event_shape, owned */
    struct qmp_shape *no_members;
};

struct qmp_event_shape {
    const char *name;
    const struct qmp_shape *data;
    bool limited;
};

/* The builtin that query-qmp-schema names for this one: all integers are int. */
static inline const char *qmp_shape_public_name(const struct qmp_shape *shape)
{
    return shape->meta == META_BUILTIN && shape->json == JSON_INTEGER ? "int" : shape->name;
}

#endif
