/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The rows of guest_options.def. */
#include "control/guest_options.h"

const struct option_row guest_option_rows[] = {
#define GUEST_OPTION(field, name, TYPE, WHO, arg, value, choice, group, help)                                \
    {name,          arg,          value,                                                                     \
     choice,        group,        help,                                                                      \
     OPTION_##TYPE, OPTION_##WHO, offsetof(struct guest_options, field)},
#include "control/guest_options.def"
#undef GUEST_OPTION
    {0},
};

void guest_options_init(struct guest_options *o)
{
    *o = (struct guest_options){0};
    option_init(guest_option_rows, o);
}

void guest_options_fini(struct guest_options *o)
{
    option_fini(guest_option_rows, o);
}
