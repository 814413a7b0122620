/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Gzip over zlib: the output grows by doubling, never beyond the cap. */
#include "codec/gunzip.h"

#include <errno.h>
#include <glib.h>
#include <limits.h>
#include <zlib.h>

enum { GUNZIP_FIRST = 1 << 20, GUNZIP_WINDOW = 15 + 16 /* gzip header wanted */ };

/* Doubles the output up to the cap. */
static int grow(uint8_t **out, size_t *size, size_t cap)
{
    if (*size >= cap)
        return -EFBIG;
    size_t bigger = *size > cap / 2 ? cap : *size * 2;
    uint8_t *p = g_try_realloc(*out, bigger);
    if (!p)
        return -ENOMEM;
    *out = p;
    *size = bigger;
    return 0;
}

/* Feeds and drains z until the member ends. */
static int inflate_all(z_stream *z, const uint8_t *in, size_t in_size, size_t cap, uint8_t **out,
                       size_t *size)
{
    size_t fed = 0;
    for (;;) {
        if (!z->avail_in) {
            z->avail_in = (uInt)MIN(in_size - fed, (size_t)INT_MAX);
            z->next_in = (Bytef *)(uintptr_t)(in + fed); /* zlib does not write there */
            fed += z->avail_in;
        }
        if (z->total_out == *size) {
            /* One byte of room beyond the cap tells "exactly full" from "too big". */
            int r = grow(out, size, cap + 1);
            if (r)
                return r;
        }
        z->next_out = *out + z->total_out;
        z->avail_out = (uInt)MIN(*size - z->total_out, (size_t)INT_MAX);
        int r = inflate(z, Z_NO_FLUSH);
        if (z->total_out > cap)
            return -EFBIG;
        if (r == Z_STREAM_END)
            return 0;
        if (r == Z_MEM_ERROR)
            return -ENOMEM;
        if (r != Z_OK && r != Z_BUF_ERROR)
            return -EINVAL;
        if (!z->avail_in && fed == in_size && z->avail_out)
            return -ENODATA;
    }
}

int codec_gunzip(const uint8_t *in, size_t in_size, size_t cap, uint8_t **out, size_t *out_size)
{
    z_stream z = {0};
    if (inflateInit2(&z, GUNZIP_WINDOW) != Z_OK)
        return -ENOMEM;
    size_t size = MIN((size_t)GUNZIP_FIRST, cap + 1);
    uint8_t *buffer = g_try_malloc(size);
    int result = buffer ? inflate_all(&z, in, in_size, cap, &buffer, &size) : -ENOMEM;
    if (result) {
        g_free(buffer);
    } else {
        *out = buffer;
        *out_size = z.total_out;
    }
    inflateEnd(&z);
    return result;
}
