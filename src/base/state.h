/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* State as data: tables of what a guest can see of a struct, from which it is saved and loaded. */
#ifndef HOSTEL_BASE_STATE_H
#define HOSTEL_BASE_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum state_type { STATE_BOOL, STATE_U8, STATE_U16, STATE_U32, STATE_U64 };

#define state_type_size(type)                                                                                \
    ((type) == STATE_U64 ? 8 : (type) == STATE_U32 ? 4 : (type) == STATE_U16 ? 2 : 1)

/* One piece of guest-visible state: count values of type at offset. Names and order are part of the format of
 * a saved guest. */
struct state_field {
    const char *name;
    enum state_type type;
    size_t offset;
    unsigned count; /* array length, 1 for a single value */
    unsigned since; /* version of the table that brought it, 1 = from the beginning */
};

#define STATE_FIELD(tag, field, value_type, version)                                                         \
    {                                                                                                        \
        .name = #field, .type = (value_type), .offset = offsetof(struct tag, field),                         \
        .count = sizeof(((struct tag *)0)->field) / state_type_size(value_type), .since = (version)          \
    }

/* One value, as wide as its type. */
uint64_t state_get(const void *value, enum state_type type);
void state_put(void *value, enum state_type type, uint64_t number);

/* Tables end with a NULL name; NULL is an empty one. The plain form is each value little-endian, in order,
 * without padding. */

/* Bytes of the plain form as of a version: later fields are left out. */
size_t state_size(const struct state_field *fields, unsigned version);
void state_save(const struct state_field *fields, unsigned version, const void *object, uint8_t *bytes);
/* Fields later than the version keep what they have. False when a truth value is neither 0 nor 1; all else is
 * loaded then all the same. */
bool state_load(const struct state_field *fields, unsigned version, void *object, const uint8_t *bytes);

#endif
