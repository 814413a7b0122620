/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Compression of single pieces of memory, by whichever library is fastest for each method. */
/*
 * Each thread keeps the working memory of the methods it has used, so nothing is allocated for a piece. Any
 * thread; several at once compress in parallel.
 */
#ifndef HOSTEL_CODEC_COMPRESS_H
#define HOSTEL_CODEC_COMPRESS_H

#include <stddef.h>
#include <sys/types.h>

enum compress_method {
    COMPRESS_DEFLATE,     /* RFC 1951, bare */
    COMPRESS_ZLIB,        /* RFC 1950 */
    COMPRESS_ZSTD,        /* RFC 8878, one frame */
    COMPRESS_ZSTD_SUMMED, /* the same, with a checksum of what was compressed, which reading compares */
    COMPRESS_BZIP2,
    COMPRESS_XZ,    /* an .xz stream; LZMA as dmg has it */
    COMPRESS_LZFSE, /* Apple's; only read */
    COMPRESS_METHODS,
};

enum { COMPRESS_LEVEL_DEFAULT = -1 };

/* The size of the compressed piece; -ENOSPC when it does not fit into room bytes, -EOPNOTSUPP when this
 * Hostel was built without the method or cannot write it, -ENOMEM, -EINVAL for a piece of more than 1 GiB.
 * level: the method's own, or COMPRESS_LEVEL_DEFAULT. */
ssize_t compress_pack(enum compress_method method, int level, const void *in, size_t size, void *out,
                      size_t room);

/* The size of the piece; never writes more than room bytes, nor needs memory by what the input says. What
 * lies behind the piece's own end in `in` is left alone (images pad). -EILSEQ when the input is damaged or
 * cut off (COMPRESS_DEFLATE and COMPRESS_ZLIB: unless room bytes came out of it: some writers of images lose
 * the stream's last bytes), -ENOSPC when there is more than fits, -EOPNOTSUPP, -ENOMEM, -EINVAL when room is
 * more than 1 GiB. */
ssize_t compress_unpack(enum compress_method method, const void *in, size_t size, void *out, size_t room);

#endif
