/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Pieces of a file on a server of the web, through libcurl. */
#ifndef HOSTEL_BLOCK_PROTOCOL_CURL_FETCH_H
#define HOSTEL_BLOCK_PROTOCOL_CURL_FETCH_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "block/protocol/lines.h"
#include "block/protocol/remote.h"

struct fetch {
    const char *uri;
    const struct curl_options *options;
    char *password; /* or NULL */
    bool http;
    uint64_t size;
    /* What the server said of this version of the file; each piece must be of the same. NULL = it said
     * nothing. */
    char *etag, *modified;
    struct lines lines; /* of handles, which keep their connections */
};

/* Copies uri and options, finds the size, and that the server gives pieces. False with *error; then there is
 * nothing to be given up. */
bool fetch_init(struct fetch *f, const char *name, const char *uri, const struct curl_options *options,
                GError **error);
void fetch_fini(struct fetch *f);

/* size bytes (at least 1) from offset on. 0 or -errno. Any thread. */
int fetch_range(struct fetch *f, const struct iovec *iov, uint64_t offset, uint64_t size);

#endif
