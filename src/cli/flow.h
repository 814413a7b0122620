/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Bytes on their way from one descriptor to another. */
#ifndef HOSTEL_CLI_FLOW_H
#define HOSTEL_CLI_FLOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Not more than a pipe that is ready takes without blocking (pipe(7), PIPE_BUF). */
enum { FLOW_SIZE = 4096 };

struct flow {
    uint8_t bytes[FLOW_SIZE];
    size_t head, length;
};

/* Appends what fits; how many bytes that was. */
size_t flow_put(struct flow *f, const uint8_t *bytes, size_t size);

/* Reads once, as much as fits. Bytes read; 0 at the end of input; -EAGAIN; or another -errno. There is room
 * (length < FLOW_SIZE). */
int flow_read(struct flow *f, int fd);

/* Writes once. 0; -EAGAIN; or another -errno, after which the bytes are gone. */
int flow_write(struct flow *f, int fd);

#endif
