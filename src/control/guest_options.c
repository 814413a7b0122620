/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The rows of guest_options.def and of the lists in it. */
#include "control/guest_options.h"

enum key_how { KEY_NORMAL, KEY_REQUIRED, KEY_BARE };

#define LIST_KEY(field, key, TYPE, WHO, how, argument, preset, choices, text)                                \
    {.name = key,                                                                                            \
     .arg = argument,                                                                                        \
     .value = preset,                                                                                        \
     .choice = choices,                                                                                      \
     .help = text,                                                                                           \
     .type = OPTION_##TYPE,                                                                                  \
     .who = OPTION_##WHO,                                                                                    \
     .required = KEY_##how != KEY_NORMAL,                                                                    \
     .bare = KEY_##how == KEY_BARE,                                                                          \
     .offset = offsetof(struct LIST_STRUCT, field)},

#define LIST_STRUCT disk_options
static const struct option_row disk_options_keys[] = {
#include "control/disk_options.def"
    {0},
};
#undef LIST_STRUCT

#define LIST_STRUCT disk_file_options
static const struct option_row disk_file_options_keys[] = {
#include "control/disk_file_options.def"
    {0},
};
#undef LIST_STRUCT

#define LIST_STRUCT disk_layer_options
static const struct option_row disk_layer_options_keys[] = {
#include "control/disk_layer_options.def"
    {0},
};
#undef LIST_STRUCT

#define LIST_STRUCT channel_options
static const struct option_row channel_options_keys[] = {
#include "control/channel_options.def"
    {0},
};
#undef LIST_STRUCT

#define LIST_STRUCT flash_options
static const struct option_row flash_options_keys[] = {
#include "control/flash_options.def"
    {0},
};
#undef LIST_STRUCT

#define LIST_STRUCT fw_cfg_options
static const struct option_row fw_cfg_options_keys[] = {
#include "control/fw_cfg_options.def"
    {0},
};
#undef LIST_STRUCT

#define LIST_STRUCT net_options
static const struct option_row net_options_keys[] = {
#include "control/net_options.def"
    {0},
};
#undef LIST_STRUCT

const struct option_row guest_option_rows[] = {
#define GUEST_OPTION(field, option, TYPE, WHO, argument, preset, choices, heading, text)                     \
    {.name = option,                                                                                         \
     .arg = argument,                                                                                        \
     .value = preset,                                                                                        \
     .choice = choices,                                                                                      \
     .group = heading,                                                                                       \
     .help = text,                                                                                           \
     .type = OPTION_##TYPE,                                                                                  \
     .who = OPTION_##WHO,                                                                                    \
     .offset = offsetof(struct guest_options, field)},
#define GUEST_LIST(field, option, WHO, argument, item, heading, text)                                        \
    {.name = option,                                                                                         \
     .arg = argument,                                                                                        \
     .group = heading,                                                                                       \
     .help = text,                                                                                           \
     .type = OPTION_LIST,                                                                                    \
     .who = OPTION_##WHO,                                                                                    \
     .offset = offsetof(struct guest_options, field),                                                        \
     .keys = item##_keys,                                                                                    \
     .item_size = sizeof(struct item)},
#include "control/guest_options.def"
#undef GUEST_OPTION
#undef GUEST_LIST
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
