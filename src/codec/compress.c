/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* One row for each method of compression, over the libraries that do it, and each thread's working memory. */
/*
 * Theory of operation
 *
 * A piece is small (a cluster, a chunk), and there are many of them, so what costs is setting a library up.
 * Each thread has a `struct work` that keeps what the libraries have set up, and frees it when the thread
 * ends; libbz2, which can only be set up anew, gets its memory from blocks that are kept.
 *
 * DEFLATE is read by libdeflate, several times as fast as zlib but able only to do a whole stream or none.
 * What it does not like is tried by zlib: some writers of images cut the last bytes of a stream off, and
 * everything is there all the same. Whoever reads an image then has as many bytes as a cluster must have.
 *
 * Memory is bounded by us. libdeflate, zlib and zstd (which decodes a frame in one go straight into the
 * output, so it needs no window) use a fixed amount; bzip2 at most some 4 MB; xz what its memory limit says.
 */
#include "codec/compress.h"

#include <assert.h>
#include <bzlib.h>
#include <errno.h>
#include <glib.h>
#include <libdeflate.h>
#include <lzma.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <zlib.h>
#ifdef HOSTEL_HAVE_ZSTD
#include <zstd.h>
#include <zstd_errors.h>
#endif

#include "base/bits.h"
#include "codec/lzfse.h"

enum {
    PIECE_MAX = 1 << 30,     /* bytes in or out: the libraries count in int */
    XZ_MEMORY = 96 << 20,    /* xz -9 needs 65 MiB for reading */
    BZIP2_BLOCKS = 6,        /* of memory; libbz2 has at most four at once */
    RAW_WINDOW = -MAX_WBITS, /* how zlib is told that there is no header */
};

/* What a library has allocated before, for the next time. */
struct block {
    void *bytes;
    size_t size;
    bool used;
};

struct work {
    struct libdeflate_compressor *deflate;
    int deflate_level;
    struct libdeflate_decompressor *inflate;
    z_stream raw, zlib; /* set up when their state is not NULL */
#ifdef HOSTEL_HAVE_ZSTD
    ZSTD_CCtx *zstd_pack;
    ZSTD_DCtx *zstd_unpack;
#endif
    lzma_stream xz_pack, xz_unpack;
    struct block bzip2[BZIP2_BLOCKS];
    void *lzfse;
};

struct piece {
    struct work *work;
    const uint8_t *in;
    size_t size;
    uint8_t *out;
    size_t room;
};

struct method {
    int lowest, highest, usual; /* levels */
    ssize_t (*pack)(const struct piece *p, int level);
    ssize_t (*unpack)(const struct piece *p);
};

/* --- each thread's memory --- */

static pthread_key_t key;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void free_work(void *opaque)
{
    struct work *w = opaque;
    libdeflate_free_compressor(w->deflate);
    libdeflate_free_decompressor(w->inflate);
    inflateEnd(&w->raw);
    inflateEnd(&w->zlib);
#ifdef HOSTEL_HAVE_ZSTD
    ZSTD_freeCCtx(w->zstd_pack);
    ZSTD_freeDCtx(w->zstd_unpack);
#endif
    lzma_end(&w->xz_pack);
    lzma_end(&w->xz_unpack);
    for (unsigned i = 0; i < BZIP2_BLOCKS; i++)
        free(w->bzip2[i].bytes);
    free(w->lzfse);
    free(w);
}

static void make_key(void)
{
    int error = pthread_key_create(&key, free_work);
    g_assert(!error);
}

static struct work *mine(void)
{
    pthread_once(&once, make_key);
    struct work *w = pthread_getspecific(key);
    if (!w && (w = calloc(1, sizeof(*w))) && pthread_setspecific(key, w)) {
        free(w);
        w = NULL;
    }
    return w;
}

/* --- streams --- */

/* What all libraries that work on streams have in common. A stream may still have its end to say when
 * everything is out, and it may have more than fits: one byte of room more tells which. */
struct stream {
    void *opaque;
    /* Goes on until there is no more input or no more room, and says how many bytes of room are left. */
    int (*step)(void *opaque, size_t *left);
    void (*set_out)(void *opaque, uint8_t *out, size_t room);
};

enum { STREAM_GOES_ON, STREAM_ENDED }; /* or -errno */

/* cut_off_is_fine: when room is full. */
static ssize_t unpack_stream(const struct stream *s, uint8_t *out, size_t room, bool cut_off_is_fine)
{
    uint8_t spare;
    size_t left = room;
    int status = STREAM_GOES_ON;
    s->set_out(s->opaque, out, room);
    if (room)
        status = s->step(s->opaque, &left);
    if (status == STREAM_ENDED)
        return (ssize_t)(room - left);
    if (status < 0)
        return status;
    if (left)
        return -EILSEQ;
    s->set_out(s->opaque, &spare, 1);
    status = s->step(s->opaque, &left);
    if (!left)
        return -ENOSPC;
    if (status == STREAM_ENDED || (cut_off_is_fine && status == STREAM_GOES_ON))
        return (ssize_t)room;
    return status < 0 ? status : -EILSEQ;
}

/* --- DEFLATE, with and without the header of zlib --- */

static int zlib_step(void *opaque, size_t *left)
{
    z_stream *z = opaque;
    int status = inflate(z, Z_NO_FLUSH);
    *left = z->avail_out;
    if (status == Z_STREAM_END)
        return STREAM_ENDED;
    if (status == Z_OK || status == Z_BUF_ERROR)
        return STREAM_GOES_ON;
    return status == Z_MEM_ERROR ? -ENOMEM : -EILSEQ;
}

static void zlib_set_out(void *opaque, uint8_t *out, size_t room)
{
    z_stream *z = opaque;
    z->next_out = out;
    z->avail_out = (uInt)room;
}

static ssize_t zlib_unpack(const struct piece *p, z_stream *z, int window)
{
    const struct stream s = {z, zlib_step, zlib_set_out};
    const int status = z->state ? inflateReset(z) : inflateInit2(z, window);
    if (status != Z_OK)
        return -ENOMEM;
    z->next_in = (Bytef *)(uintptr_t)p->in; /* zlib does not write there */
    z->avail_in = (uInt)p->size;
    return unpack_stream(&s, p->out, p->room, true);
}

static bool has_inflate(struct work *w)
{
    if (!w->inflate)
        w->inflate = libdeflate_alloc_decompressor();
    return w->inflate;
}

static bool has_deflate(struct work *w, int level)
{
    if (w->deflate && w->deflate_level != level) {
        libdeflate_free_compressor(w->deflate);
        w->deflate = NULL;
    }
    if (!w->deflate)
        w->deflate = libdeflate_alloc_compressor(level);
    w->deflate_level = level;
    return w->deflate;
}

static ssize_t deflate_pack(const struct piece *p, int level)
{
    if (!has_deflate(p->work, level))
        return -ENOMEM;
    size_t size = libdeflate_deflate_compress(p->work->deflate, p->in, p->size, p->out, p->room);
    return size ? (ssize_t)size : -ENOSPC;
}

static ssize_t deflate_unpack(const struct piece *p)
{
    size_t used, size;
    if (!has_inflate(p->work))
        return -ENOMEM;
    switch (
        libdeflate_deflate_decompress_ex(p->work->inflate, p->in, p->size, p->out, p->room, &used, &size)) {
    case LIBDEFLATE_SUCCESS: return (ssize_t)size;
    case LIBDEFLATE_INSUFFICIENT_SPACE: return -ENOSPC;
    default: return zlib_unpack(p, &p->work->raw, RAW_WINDOW);
    }
}

static ssize_t zlib_pack(const struct piece *p, int level)
{
    if (!has_deflate(p->work, level))
        return -ENOMEM;
    size_t size = libdeflate_zlib_compress(p->work->deflate, p->in, p->size, p->out, p->room);
    return size ? (ssize_t)size : -ENOSPC;
}

static ssize_t zlib_unpack_any(const struct piece *p)
{
    size_t used, size;
    if (!has_inflate(p->work))
        return -ENOMEM;
    switch (libdeflate_zlib_decompress_ex(p->work->inflate, p->in, p->size, p->out, p->room, &used, &size)) {
    case LIBDEFLATE_SUCCESS: return (ssize_t)size;
    case LIBDEFLATE_INSUFFICIENT_SPACE: return -ENOSPC;
    default: return zlib_unpack(p, &p->work->zlib, MAX_WBITS);
    }
}

/* --- zstd --- */

#ifdef HOSTEL_HAVE_ZSTD
static ssize_t zstd_error(size_t result)
{
    switch (ZSTD_getErrorCode(result)) {
    case ZSTD_error_dstSize_tooSmall: return -ENOSPC;
    case ZSTD_error_memory_allocation: return -ENOMEM;
    default: return -EILSEQ;
    }
}

static ssize_t zstd_pack(const struct piece *p, int level)
{
    if (!p->work->zstd_pack && !(p->work->zstd_pack = ZSTD_createCCtx()))
        return -ENOMEM;
    size_t size = ZSTD_compressCCtx(p->work->zstd_pack, p->out, p->room, p->in, p->size, level);
    return ZSTD_isError(size) ? zstd_error(size) : (ssize_t)size;
}

static ssize_t zstd_pack_summed(const struct piece *p, int level)
{
    if (!p->work->zstd_pack && !(p->work->zstd_pack = ZSTD_createCCtx()))
        return -ENOMEM;
    ZSTD_CCtx *zstd = p->work->zstd_pack;
    ZSTD_CCtx_reset(zstd, ZSTD_reset_session_and_parameters);
    size_t size = ZSTD_CCtx_setParameter(zstd, ZSTD_c_compressionLevel, level);
    if (!ZSTD_isError(size))
        size = ZSTD_CCtx_setParameter(zstd, ZSTD_c_checksumFlag, 1);
    if (!ZSTD_isError(size))
        size = ZSTD_compress2(zstd, p->out, p->room, p->in, p->size);
    return ZSTD_isError(size) ? zstd_error(size) : (ssize_t)size;
}

static ssize_t zstd_unpack(const struct piece *p)
{
    if (!p->work->zstd_unpack && !(p->work->zstd_unpack = ZSTD_createDCtx()))
        return -ENOMEM;
    size_t frame = ZSTD_findFrameCompressedSize(p->in, p->size);
    if (ZSTD_isError(frame))
        return -EILSEQ;
    size_t size = ZSTD_decompressDCtx(p->work->zstd_unpack, p->out, p->room, p->in, frame);
    return ZSTD_isError(size) ? zstd_error(size) : (ssize_t)size;
}
#else
#define zstd_pack NULL
#define zstd_pack_summed NULL
#define zstd_unpack NULL
#endif

/* --- bzip2 --- */

/* A block that was there before, or the place of one that is not in use. */
static void *bzip2_alloc(void *opaque, int items, int item_size)
{
    struct work *w = opaque;
    const size_t size = (size_t)items * (size_t)item_size;
    struct block *free_one = NULL;
    for (unsigned i = 0; i < BZIP2_BLOCKS; i++) {
        struct block *b = &w->bzip2[i];
        if (!b->used && (!free_one || b->size >= size))
            free_one = b;
        if (!b->used && b->size >= size && b->size / 2 <= size)
            break;
    }
    if (!free_one)
        return NULL;
    if (free_one->size < size) {
        free(free_one->bytes);
        free_one->bytes = malloc(size);
        free_one->size = free_one->bytes ? size : 0;
    }
    free_one->used = free_one->bytes;
    return free_one->bytes;
}

static void bzip2_free(void *opaque, void *bytes)
{
    struct work *w = opaque;
    for (unsigned i = 0; bytes && i < BZIP2_BLOCKS; i++)
        if (w->bzip2[i].bytes == bytes)
            w->bzip2[i].used = false;
}

static bz_stream bzip2_stream(const struct piece *p)
{
    return (bz_stream){.next_in = (char *)(uintptr_t)p->in, /* libbz2 does not write there */
                       .avail_in = (unsigned)p->size,
                       .next_out = (char *)p->out,
                       .avail_out = (unsigned)p->room,
                       .bzalloc = bzip2_alloc,
                       .bzfree = bzip2_free,
                       .opaque = p->work};
}

static ssize_t bzip2_pack(const struct piece *p, int level)
{
    bz_stream z = bzip2_stream(p);
    if (BZ2_bzCompressInit(&z, level, 0, 0) != BZ_OK)
        return -ENOMEM;
    const int status = BZ2_bzCompress(&z, BZ_FINISH);
    const size_t left = z.avail_out;
    BZ2_bzCompressEnd(&z);
    return status == BZ_STREAM_END ? (ssize_t)(p->room - left) : -ENOSPC;
}

static int bzip2_step(void *opaque, size_t *left)
{
    bz_stream *z = opaque;
    int status = BZ2_bzDecompress(z);
    *left = z->avail_out;
    if (status == BZ_STREAM_END)
        return STREAM_ENDED;
    if (status == BZ_OK)
        return STREAM_GOES_ON;
    return status == BZ_MEM_ERROR ? -ENOMEM : -EILSEQ;
}

static void bzip2_set_out(void *opaque, uint8_t *out, size_t room)
{
    bz_stream *z = opaque;
    z->next_out = (char *)out;
    z->avail_out = (unsigned)room;
}

static ssize_t bzip2_unpack(const struct piece *p)
{
    bz_stream z = bzip2_stream(p);
    const struct stream s = {&z, bzip2_step, bzip2_set_out};
    if (BZ2_bzDecompressInit(&z, 0, 0) != BZ_OK)
        return -ENOMEM;
    ssize_t size = unpack_stream(&s, p->out, p->room, false);
    BZ2_bzDecompressEnd(&z);
    return size;
}

/* --- xz --- */

static ssize_t xz_error(lzma_ret status)
{
    return status == LZMA_MEM_ERROR || status == LZMA_MEMLIMIT_ERROR ? -ENOMEM : -EILSEQ;
}

/* A dictionary larger than the piece is memory for nothing. */
static ssize_t xz_pack(const struct piece *p, int level)
{
    lzma_stream *z = &p->work->xz_pack;
    lzma_options_lzma options;
    if (lzma_lzma_preset(&options, (uint32_t)level))
        return -EOPNOTSUPP;
    options.dict_size = (uint32_t)CLAMP(p->size, LZMA_DICT_SIZE_MIN, options.dict_size);
    const lzma_filter filters[] = {{LZMA_FILTER_LZMA2, &options}, {LZMA_VLI_UNKNOWN, NULL}};
    lzma_ret status = lzma_stream_encoder(z, filters, LZMA_CHECK_CRC32);
    if (status != LZMA_OK)
        return xz_error(status);
    z->next_in = p->in;
    z->avail_in = p->size;
    z->next_out = p->out;
    z->avail_out = p->room;
    while ((status = lzma_code(z, LZMA_FINISH)) == LZMA_OK && z->avail_out)
        ;
    if (status == LZMA_STREAM_END)
        return (ssize_t)(p->room - z->avail_out);
    return z->avail_out ? xz_error(status) : -ENOSPC;
}

static int xz_step(void *opaque, size_t *left)
{
    lzma_stream *z = opaque;
    lzma_ret status = lzma_code(z, LZMA_RUN);
    *left = z->avail_out;
    if (status == LZMA_STREAM_END)
        return STREAM_ENDED;
    return status == LZMA_OK || status == LZMA_BUF_ERROR ? STREAM_GOES_ON : (int)xz_error(status);
}

static void xz_set_out(void *opaque, uint8_t *out, size_t room)
{
    lzma_stream *z = opaque;
    z->next_out = out;
    z->avail_out = room;
}

static ssize_t xz_unpack(const struct piece *p)
{
    lzma_stream *z = &p->work->xz_unpack;
    const struct stream s = {z, xz_step, xz_set_out};
    lzma_ret status = lzma_stream_decoder(z, XZ_MEMORY, 0);
    if (status != LZMA_OK)
        return xz_error(status);
    z->next_in = p->in;
    z->avail_in = p->size;
    return unpack_stream(&s, p->out, p->room, false);
}

/* --- LZFSE --- */

static ssize_t lzfse_unpack_piece(const struct piece *p)
{
    if (!p->work->lzfse && !(p->work->lzfse = malloc(lzfse_work_size())))
        return -ENOMEM;
    return lzfse_unpack(p->work->lzfse, p->in, p->size, p->out, p->room);
}

/* --- what others call --- */

static const struct method methods[] = {
    [COMPRESS_DEFLATE] = {1, 12, 6, deflate_pack, deflate_unpack},
    [COMPRESS_ZLIB] = {1, 12, 6, zlib_pack, zlib_unpack_any},
    [COMPRESS_ZSTD] = {1, 19, 3, zstd_pack, zstd_unpack},
    [COMPRESS_ZSTD_SUMMED] = {1, 19, 1, zstd_pack_summed, zstd_unpack},
    [COMPRESS_BZIP2] = {1, 9, 9, bzip2_pack, bzip2_unpack},
    [COMPRESS_XZ] = {0, 9, 6, xz_pack, xz_unpack},
    [COMPRESS_LZFSE] = {0, 0, 0, NULL, lzfse_unpack_piece},
};
static_assert(ARRAY_SIZE(methods) == COMPRESS_METHODS, "a row for each method");

ssize_t compress_pack(enum compress_method method, int level, const void *in, size_t size, void *out,
                      size_t room)
{
    const struct method *m = &methods[method];
    const struct piece p = {mine(), in, size, out, MIN(room, (size_t)PIECE_MAX)};
    if (!m->pack)
        return -EOPNOTSUPP;
    if (size > PIECE_MAX)
        return -EINVAL;
    if (level == COMPRESS_LEVEL_DEFAULT)
        level = m->usual;
    return p.work ? m->pack(&p, CLAMP(level, m->lowest, m->highest)) : -ENOMEM;
}

ssize_t compress_unpack(enum compress_method method, const void *in, size_t size, void *out, size_t room)
{
    const struct method *m = &methods[method];
    const struct piece p = {mine(), in, MIN(size, (size_t)PIECE_MAX), out, room};
    if (!m->unpack)
        return -EOPNOTSUPP;
    if (room > PIECE_MAX)
        return -EINVAL;
    return p.work ? m->unpack(&p) : -ENOMEM;
}
