/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Drivers that are loaded when the first disk of theirs is opened, because they bring heavy libraries. */
/*
 * drivers.def has a row for each, with all that can be told about it; its `module` is the name of a file
 * hostel-block-NAME.so beside our helpers. The file has one symbol, a struct block_module, and brings along
 * what it uses of Hostel, so that it needs nothing of the program that loads it but GLib.
 *
 * Only a folder of ours is looked into: beside the running program in a build's folder, else where helpers
 * are installed. $HOSTEL_MODULES names another one, absolutely, for tests; a program with more privileges
 * than who called it does not look there. What was loaded stays.
 */
#ifndef HOSTEL_BLOCK_MODULE_H
#define HOSTEL_BLOCK_MODULE_H

#include "block/block.h"

#define BLOCK_MODULE_SYMBOL "hostel_block_module"

/* What both sides must have compiled alike. */
struct block_module_stamp {
    char version[16];
    uint32_t driver_size, disk_size, config_size, extent_size, option_size;
};

struct block_module {
    struct block_module_stamp stamp;
    const struct block_driver *driver;
};

#define BLOCK_MODULE_STAMP                                                                                   \
    {                                                                                                        \
        .version = HOSTEL_VERSION, .driver_size = sizeof(struct block_driver),                               \
        .disk_size = sizeof(struct disk), .config_size = sizeof(struct block_config),                        \
        .extent_size = sizeof(struct block_extent), .option_size = sizeof(struct option_row)                 \
    }

/* In a module, once: its symbol. */
#define BLOCK_MODULE_DEFINE(row)                                                                             \
    extern const struct block_module hostel_block_module;                                                    \
    __attribute__((visibility("default")))                                                                   \
    const struct block_module hostel_block_module = {.stamp = BLOCK_MODULE_STAMP, .driver = &(row)}

/* The driver that a row with a module stands for. NULL with *error, which names the module. Any thread; opens
 * files. */
const struct block_driver *block_module_load(const struct block_driver *row, GError **error);

/* Was any loaded so far? Then a disk may lie on a server. */
bool block_module_any(void);

/* From now on none is loaded: before a process locks itself down. */
void block_module_close_door(void);

/* Of "SCHEME://...": the row that opens such; NULL when it is no URI, or of a scheme nobody knows. */
const struct block_driver *block_driver_for_uri(const char *text);

/* Is it "SCHEME://..." at all, and not a path? */
bool block_is_uri(const char *text);

#endif
