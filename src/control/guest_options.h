/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What a guest is made of, as read from a command line: people's (`hostel run`) or a VMM's. */
#ifndef HOSTEL_CONTROL_GUEST_OPTIONS_H
#define HOSTEL_CONTROL_GUEST_OPTIONS_H

#include "control/option.h"

struct guest_options {
#define C_TYPE_FLAG bool
#define C_TYPE_TEXT const char *
#define C_TYPE_COUNT unsigned
#define C_TYPE_SIZE uint64_t
#define C_TYPE_FILE struct option_file
#define C_TYPE_CONSOLE struct option_console
#define GUEST_OPTION(field, name, TYPE, WHO, arg, value, choice, group, help) C_TYPE_##TYPE field;
#include "control/guest_options.def"
#undef GUEST_OPTION
#undef C_TYPE_FLAG
#undef C_TYPE_TEXT
#undef C_TYPE_COUNT
#undef C_TYPE_SIZE
#undef C_TYPE_FILE
#undef C_TYPE_CONSOLE
};

/* The rows of the table, ending with a NULL name. */
extern const struct option_row guest_option_rows[];

/* Defaults; and the end of the descriptors in it. */
void guest_options_init(struct guest_options *o);
void guest_options_fini(struct guest_options *o);

#endif
