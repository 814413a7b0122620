/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* T0: floating-point cells. */
#include "engine/x86_64/t0.h"

bool t0_float(struct t0_translation *t, const struct cell *c, unsigned op)
{
    (void)t;
    (void)c;
    (void)op;
    return false;
}
