/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What commands take and give, as data: it checks messages and answers query-qmp-schema. */
/*
 * Theory of operation
 *
 * A command's row and the rows of schema.def describe values in a short notation:
 *
 *   MEMBERS   "id: str, ?size: uint32, sizes: [uint32]"    `?` = may be absent, `[T]` = an array of T
 *   TYPE      the name of a built-in type or of a row, or "[T]"
 *   ARGS      MEMBERS, or the name of a struct or union (which has no ':'); NULL = no arguments
 *
 * Built-in are str, bool, number, null, any, and the integers int, int8, int16, int32, int64, uint8, uint16,
 * uint32, uint64 and size, which differ in their range (JSON's integers here end at 2^63 - 1).
 * query-qmp-schema calls all integers int, as QEMU's does.
 *
 * qmp_schema_new() reads all of it once into a graph of types. A mistake in the notation, a type that does
 * not exist or a name that is there twice is a mistake of ours: it ends the program, at its start.
 */
#ifndef HOSTEL_CONTROL_SCHEMA_H
#define HOSTEL_CONTROL_SCHEMA_H

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>

#include "base/cleanup.h"
#include "control/qmp.h"

enum qmp_kind { QMP_STRUCT, QMP_UNION, QMP_ENUM, QMP_ALTERNATE, QMP_EVENT };

/* A named type, or an event. */
struct qmp_type {
    enum qmp_kind kind;
    const char *name;
    /* Struct: MEMBERS. Union: the MEMBERS that all cases have. Enum: the words, between blanks. Alternate:
     * MEMBERS, whose types JSON's kinds tell apart and whose names are for the reader. Event: ARGS of its
     * data. */
    const char *what;
    const char *tag; /* union: the member, an enum, that says which case it is */
    const char
        *cases;   /* union: MEMBERS, each a word of that enum and the struct added then; others add none */
    bool limited; /* event: a guest can cause it as often as it likes */
};

/* The rows of schema.def, ending with a NULL name. */
extern const struct qmp_type qmp_types[];

struct qmp_schema;

/* A command as the schema knows it. */
struct qmp_method {
    const struct qmp_command *row;
    const struct qmp_shape *args, *returns; /* the schema's */
    unsigned table;                         /* the index of the table that has it */
};

/* types ends with a NULL name, tables with NULL; all is borrowed. Any thread may use it then. */
struct qmp_schema *qmp_schema_new(const struct qmp_type *types, const struct qmp_command *const *tables);
void qmp_schema_free(struct qmp_schema *s); /* NULL is fine */
CLEANUP_DEFINE(qmp_schema, qmp_schema_free)

/* NULL when there is none. */
const struct qmp_method *qmp_schema_command(const struct qmp_schema *s, const char *name);

/* Is value of that shape? If not, *error says which member is wrong and why; it is called parameter, as in
 * "parameter 'a.b[3]' must be a string". */
bool qmp_schema_check(const struct qmp_shape *shape, json_t *value, GError **error);

/* The shape of the data of an event, or of a TYPE; NULL when the schema has none of that name. */
const struct qmp_shape *qmp_schema_event(const struct qmp_schema *s, const char *name);
const struct qmp_shape *qmp_schema_type(const struct qmp_schema *s, const char *name);

/* Is it an event that a guest can cause as often as it likes? */
bool qmp_schema_event_limited(const struct qmp_schema *s, const char *name);

/* All commands by name: [{"name": ...}], as query-commands answers. Owned by the caller. */
json_t *qmp_schema_commands(const struct qmp_schema *s);

/* What query-qmp-schema answers: commands, events and all types that they reach, as [SchemaInfo]. Owned by
 * the caller. */
json_t *qmp_schema_json(const struct qmp_schema *s);

#endif
