/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* State as data; see state.h. */
#include "base/state.h"

#include <string.h>

#include "base/byteorder.h"

uint64_t state_get(const void *value, enum state_type type)
{
    switch (type) {
    case STATE_BOOL: return *(const bool *)value;
    case STATE_U8: return *(const uint8_t *)value;
    case STATE_U16: return *(const uint16_t *)value;
    case STATE_U32: return *(const uint32_t *)value;
    case STATE_U64: return *(const uint64_t *)value;
    }
    __builtin_unreachable();
}

void state_put(void *value, enum state_type type, uint64_t number)
{
    switch (type) {
    case STATE_BOOL: *(bool *)value = number != 0; return;
    case STATE_U8: *(uint8_t *)value = (uint8_t)number; return;
    case STATE_U16: *(uint16_t *)value = (uint16_t)number; return;
    case STATE_U32: *(uint32_t *)value = (uint32_t)number; return;
    case STATE_U64: *(uint64_t *)value = number; return;
    }
    __builtin_unreachable();
}

size_t state_size(const struct state_field *fields, unsigned version)
{
    size_t size = 0;
    for (const struct state_field *f = fields; f && f->name; f++)
        if (f->since <= version)
            size += f->count * state_type_size(f->type);
    return size;
}

void state_save(const struct state_field *fields, unsigned version, const void *object, uint8_t *bytes)
{
    for (const struct state_field *f = fields; f && f->name; f++) {
        const size_t each = state_type_size(f->type);
        for (unsigned i = 0; i < f->count && f->since <= version; i++, bytes += each) {
            uint8_t wide[8];
            st64le(wide, state_get((const char *)object + f->offset + i * each, f->type));
            memcpy(bytes, wide, each);
        }
    }
}

bool state_load(const struct state_field *fields, unsigned version, void *object, const uint8_t *bytes)
{
    bool possible = true;
    for (const struct state_field *f = fields; f && f->name; f++) {
        const size_t each = state_type_size(f->type);
        for (unsigned i = 0; i < f->count && f->since <= version; i++, bytes += each) {
            uint8_t wide[8] = {0};
            memcpy(wide, bytes, each);
            const uint64_t number = ld64le(wide);
            possible = possible && (f->type != STATE_BOOL || number <= 1);
            state_put((char *)object + f->offset + i * each, f->type, number);
        }
    }
    return possible;
}
