/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What there is to tell about the protocols whose drivers are modules. */
#include "block/protocol/remote.h"

/* size: rows are never opened; the driver in the module says its own. */
#define REMOTE(row, kinds, text, options_name)                                                               \
    const struct block_driver block_driver_##row = {                                                         \
        .name = #row,                                                                                        \
        .help = text,                                                                                        \
        .kind = BLOCK_PROTOCOL,                                                                              \
        .schemes = kinds,                                                                                    \
        .module = #row,                                                                                      \
        .size = sizeof(struct disk),                                                                         \
        .options = options_name##_option_rows,                                                               \
        .options_size = sizeof(struct options_name##_options),                                               \
    }

REMOTE(nbd, "nbd|nbds|nbd+unix|nbds+unix", "on a server of network block devices", nbd);
REMOTE(curl, "http|https|ftp", "a file on a server of the web, read only", curl);
REMOTE(ssh, "ssh", "a file on another host, over SFTP", ssh);
REMOTE(iscsi, "iscsi", "a logical unit on an iSCSI server", iscsi);
