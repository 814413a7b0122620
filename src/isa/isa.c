/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The list of guest instruction sets. */
#include <string.h>

#include "isa/isa.h"

#define ISA(name) extern const struct isa isa_##name;
#include "isa/isas.def"

const struct isa *const isas[] = {
#define ISA(name) &isa_##name,
#include "isa/isas.def"
    NULL,
};

const struct isa *isa_find(const char *name)
{
    for (const struct isa *const *isa = isas; *isa; isa++)
        if (strcmp((*isa)->name, name) == 0)
            return *isa;
    return NULL;
}
