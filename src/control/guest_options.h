/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What a guest is made of, as read from a command line: people's (`hostel run`) or a VMM's. */
#ifndef HOSTEL_CONTROL_GUEST_OPTIONS_H
#define HOSTEL_CONTROL_GUEST_OPTIONS_H

#include "base/option.h"

/* One --disk. */
struct disk_options {
#define LIST_KEY(field, name, TYPE, WHO, how, arg, value, choice, help) OPTION_C_TYPE_##TYPE field;
#include "control/disk_options.def"
#undef LIST_KEY
};

/* One --disk-file. */
struct disk_file_options {
#define LIST_KEY(field, name, TYPE, WHO, how, arg, value, choice, help) OPTION_C_TYPE_##TYPE field;
#include "control/disk_file_options.def"
#undef LIST_KEY
};

/* One --disk-layer. */
struct disk_layer_options {
#define LIST_KEY(field, name, TYPE, WHO, how, arg, value, choice, help) OPTION_C_TYPE_##TYPE field;
#include "control/disk_layer_options.def"
#undef LIST_KEY
};

/* One --channel. */
struct channel_options {
#define LIST_KEY(field, name, TYPE, WHO, how, arg, value, choice, help) OPTION_C_TYPE_##TYPE field;
#include "control/channel_options.def"
#undef LIST_KEY
};

/* One --flash. */
struct flash_options {
#define LIST_KEY(field, name, TYPE, WHO, how, arg, value, choice, help) OPTION_C_TYPE_##TYPE field;
#include "control/flash_options.def"
#undef LIST_KEY
};

/* One --fw-cfg. */
struct fw_cfg_options {
#define LIST_KEY(field, name, TYPE, WHO, how, arg, value, choice, help) OPTION_C_TYPE_##TYPE field;
#include "control/fw_cfg_options.def"
#undef LIST_KEY
};

/* One --net. */
struct net_options {
#define LIST_KEY(field, name, TYPE, WHO, how, arg, value, choice, help) OPTION_C_TYPE_##TYPE field;
#include "control/net_options.def"
#undef LIST_KEY
};

struct guest_options {
#define GUEST_OPTION(field, name, TYPE, WHO, arg, value, choice, group, help) OPTION_C_TYPE_##TYPE field;
#define GUEST_LIST(field, name, WHO, arg, item, group, help) struct option_list field;
#include "control/guest_options.def"
#undef GUEST_OPTION
#undef GUEST_LIST
};

/* The rows of the table, ending with a NULL name. */
extern const struct option_row guest_option_rows[];

/* Defaults; and the end of the descriptors in it. */
void guest_options_init(struct guest_options *o);
void guest_options_fini(struct guest_options *o);

#endif
