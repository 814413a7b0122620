/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What a board puts into its fw_cfg chip for the firmware to find. */
#ifndef HOSTEL_DEVICE_FW_CFG_H
#define HOSTEL_DEVICE_FW_CFG_H

#include "device/device.h"

/* The items with keys of their own; each is there when somebody put it there. Numbers are little-endian. */
enum fw_cfg_key {
    FW_CFG_SIGNATURE = 0x00,
    FW_CFG_ID = 0x01,
    FW_CFG_UUID = 0x02,
    FW_CFG_NOGRAPHIC = 0x04,
    FW_CFG_NB_CPUS = 0x05,
    FW_CFG_KERNEL_SIZE = 0x08,
    FW_CFG_INITRD_SIZE = 0x0b,
    FW_CFG_BOOT_MENU = 0x0e,
    FW_CFG_KERNEL_DATA = 0x11,
    FW_CFG_INITRD_DATA = 0x12,
    FW_CFG_CMDLINE_SIZE = 0x14,
    FW_CFG_CMDLINE_DATA = 0x15,
    FW_CFG_FILE_DIR = 0x19,
    FW_CFG_FILE_FIRST = 0x20,
};

enum { FW_CFG_FILES_MAX = 32, FW_CFG_NAME_MAX = 55 /* characters */ };

/* All of these: set-up. An item that was there is replaced. bytes are copied. */
void fw_cfg_put(struct device *d, enum fw_cfg_key key, const void *bytes, size_t size);
void fw_cfg_put_number(struct device *d, enum fw_cfg_key key, uint64_t value, unsigned size);

/* An item that is read from a file when it is asked for. fd is borrowed for the chip's life. */
void fw_cfg_put_fd(struct device *d, enum fw_cfg_key key, int fd, uint64_t size);

/* A file in the directory, from bytes (copied), or with bytes NULL from fd (borrowed). False with *error: a
 * name that is empty, too long, not printable or taken; more files or bytes than there may be. */
bool fw_cfg_add_file(struct device *d, const char *name, const void *bytes, int fd, uint64_t size,
                     GError **error);

#endif
