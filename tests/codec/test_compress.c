/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Every method of compression: there and back, against the libraries' own words, cut, damaged, and bombs. */
#include <bzlib.h>
#include <errno.h>
#include <glib.h>
#include <lzma.h>
#include <pthread.h>
#include <string.h>
#include <zlib.h>

#include "base/bits.h"
#include "codec/compress.h"
#include "lzfse_vectors.h"

enum { SIZE = 64 * 1024, ROOM = 2 * SIZE };

static const char *const names[] = {"deflate", "zlib", "zstd", "zstd-summed", "bzip2", "xz", "lzfse"};
_Static_assert(ARRAY_SIZE(names) == COMPRESS_METHODS, "a name for each");

/* What a disk may hold: 0 zeroes, 1 text, 2 noise, 3 some of all. */
static void fill(uint8_t *bytes, size_t size, unsigned kind, GRand *rand)
{
    for (size_t i = 0; i < size; i++)
        switch (kind == 3 ? (i / 1000) % 3 : kind) {
        case 0: bytes[i] = 0; break;
        case 1: bytes[i] = (uint8_t) "the quick brown fox "[(i + i / 777) % 20]; break;
        default: bytes[i] = (uint8_t)g_rand_int(rand); break;
        }
}

static bool have(enum compress_method method)
{
    uint8_t out[256];
    if (compress_pack(method, COMPRESS_LEVEL_DEFAULT, "x", 1, out, sizeof(out)) != -EOPNOTSUPP)
        return true;
    g_test_skip("not built in");
    return false;
}

static void test_round(gconstpointer opaque)
{
    static const int levels[] = {COMPRESS_LEVEL_DEFAULT, 1, 9, 1000};
    static uint8_t in[SIZE], packed[ROOM], out[SIZE + 1];
    const enum compress_method m = (enum compress_method)GPOINTER_TO_UINT(opaque);
    GRand *rand = g_rand_new_with_seed(1);
    for (unsigned i = 0; i < 16 && have(m); i++) {
        const size_t size = i % 4 == 3 ? (size_t)g_rand_int_range(rand, 1, SIZE) : SIZE;
        fill(in, size, i % 4, rand);
        ssize_t n = compress_pack(m, levels[i / 4], in, size, packed, ROOM);
        g_assert_cmpint(n, >, 0);
        memset(out, 0xee, sizeof(out));
        g_assert_cmpint(compress_unpack(m, packed, (size_t)n, out, size), ==, (ssize_t)size);
        g_assert_cmpmem(in, size, out, size);
        g_assert_cmpuint(out[size], ==, 0xee);
        /* Padding behind it, and more room than it needs. */
        memset(packed + n, 0xa5, 511);
        g_assert_cmpint(compress_unpack(m, packed, (size_t)n + 511, out, sizeof(out)), ==, (ssize_t)size);
        g_assert_cmpmem(in, size, out, size);
        /* Too little room, for either. */
        memset(out, 0xee, sizeof(out));
        g_assert_cmpint(compress_unpack(m, packed, (size_t)n, out, size - 1), ==, -ENOSPC);
        g_assert_cmpuint(out[size - 1], ==, 0xee);
        g_assert_cmpint(compress_pack(m, levels[i / 4], in, size, packed, (size_t)n / 2), ==, -ENOSPC);
    }
    g_rand_free(rand);
}

/* Every cut of a piece is found; every damaged byte is found or gives something that fits. */
static void test_damage(gconstpointer opaque)
{
    static uint8_t in[SIZE], packed[ROOM], out[SIZE + 1], sane[ROOM];
    const enum compress_method m = (enum compress_method)GPOINTER_TO_UINT(opaque);
    if (!have(m))
        return;
    GRand *rand = g_rand_new_with_seed(2);
    fill(in, 4096, 3, rand);
    const size_t n = (size_t)compress_pack(m, COMPRESS_LEVEL_DEFAULT, in, 4096, packed, ROOM);
    memcpy(sane, packed, n);
    for (size_t cut = 0; cut < n; cut += 1 + cut / 64) {
        ssize_t got = compress_unpack(m, packed, cut, out, SIZE);
        g_assert_cmpint(got, ==, -EILSEQ);
    }
    for (unsigned i = 0; i < 2000; i++) {
        size_t at = (size_t)g_rand_int_range(rand, 0, (gint32)n);
        packed[at] ^= (uint8_t)(1 << g_rand_int_range(rand, 0, 8));
        out[4096] = 0xee;
        ssize_t got = compress_unpack(m, packed, n, out, 4096);
        g_assert_true(got <= 4096 && (got >= 0 || got == -EILSEQ || got == -ENOSPC || got == -ENOMEM));
        g_assert_cmpuint(out[4096], ==, 0xee);
        if (i % 8 == 7)
            memcpy(packed, sane, n);
    }
    /* Nothing of it stays behind. */
    g_assert_cmpint(compress_unpack(m, sane, n, out, SIZE), ==, 4096);
    g_assert_cmpmem(in, 4096, out, 4096);
    g_rand_free(rand);
}

/* Much in little: stops at the room, whatever the input promises. */
static void test_bomb(gconstpointer opaque)
{
    enum { BOMB = 16 << 20 };
    const enum compress_method m = (enum compress_method)GPOINTER_TO_UINT(opaque);
    if (!have(m))
        return;
    g_autofree uint8_t *zeroes = g_malloc0(BOMB), *packed = g_malloc(BOMB);
    uint8_t out[4097] = {[4096] = 0xee};
    ssize_t n = compress_pack(m, COMPRESS_LEVEL_DEFAULT, zeroes, BOMB, packed, BOMB);
    g_assert_cmpint(n, >, 0);
    g_assert_cmpint(n, <, BOMB / 100);
    for (unsigned i = 0; i < 3; i++)
        g_assert_cmpint(compress_unpack(m, packed, (size_t)n, out, 4096), ==, -ENOSPC);
    g_assert_cmpuint(out[4096], ==, 0xee);
}

/* zlib at a low level of memory writes another stream than we do; one whose last bytes are missing is taken
 * when it fills the room. */
static void test_zlib_peer(void)
{
    static uint8_t in[SIZE], packed[ROOM], out[SIZE];
    GRand *rand = g_rand_new_with_seed(3);
    fill(in, SIZE, 3, rand);
    z_stream z = {0};
    g_assert_cmpint(deflateInit2(&z, 6, Z_DEFLATED, -12, 9, Z_DEFAULT_STRATEGY), ==, Z_OK);
    z.next_in = in;
    z.avail_in = SIZE;
    z.next_out = packed;
    z.avail_out = ROOM;
    g_assert_cmpint(deflate(&z, Z_SYNC_FLUSH), ==, Z_OK);
    const size_t unended = z.total_out;
    g_assert_cmpint(deflate(&z, Z_FINISH), ==, Z_STREAM_END);
    g_assert_cmpint(compress_unpack(COMPRESS_DEFLATE, packed, z.total_out, out, SIZE), ==, SIZE);
    g_assert_cmpmem(in, SIZE, out, SIZE);
    memset(out, 0, SIZE);
    g_assert_cmpint(compress_unpack(COMPRESS_DEFLATE, packed, unended, out, SIZE), ==, SIZE);
    g_assert_cmpmem(in, SIZE, out, SIZE);
    deflateEnd(&z);
    ssize_t n = compress_pack(COMPRESS_ZLIB, 9, in, SIZE, packed, ROOM);
    uLongf size = SIZE;
    memset(out, 0, SIZE);
    g_assert_cmpint(uncompress(out, &size, packed, (uLong)n), ==, Z_OK);
    g_assert_cmpmem(in, SIZE, out, size);
    g_rand_free(rand);
}

/* What we write is read by the libraries that define the formats, and the other way round. */
static void test_peers(void)
{
    static uint8_t in[SIZE], packed[ROOM], out[SIZE];
    GRand *rand = g_rand_new_with_seed(4);
    fill(in, SIZE, 3, rand);
    unsigned room = SIZE, made = ROOM;
    ssize_t n = compress_pack(COMPRESS_BZIP2, COMPRESS_LEVEL_DEFAULT, in, SIZE, packed, ROOM);
    g_assert_cmpint(BZ2_bzBuffToBuffDecompress((char *)out, &room, (char *)packed, (unsigned)n, 0, 0), ==,
                    BZ_OK);
    g_assert_cmpmem(in, SIZE, out, room);
    g_assert_cmpint(BZ2_bzBuffToBuffCompress((char *)packed, &made, (char *)in, SIZE, 1, 0, 0), ==, BZ_OK);
    g_assert_cmpint(compress_unpack(COMPRESS_BZIP2, packed, made, out, SIZE), ==, SIZE);
    g_assert_cmpmem(in, SIZE, out, SIZE);

    size_t used = 0, size = 0;
    uint64_t memory = UINT64_MAX;
    n = compress_pack(COMPRESS_XZ, COMPRESS_LEVEL_DEFAULT, in, SIZE, packed, ROOM);
    g_assert_cmpint(lzma_stream_buffer_decode(&memory, 0, NULL, packed, &used, (size_t)n, out, &size, SIZE),
                    ==, LZMA_OK);
    g_assert_cmpmem(in, SIZE, out, size);
    size = 0;
    g_assert_cmpint(lzma_easy_buffer_encode(9, LZMA_CHECK_CRC64, NULL, in, SIZE, packed, &size, ROOM), ==,
                    LZMA_OK);
    g_assert_cmpint(compress_unpack(COMPRESS_XZ, packed, size, out, SIZE), ==, SIZE);
    g_assert_cmpmem(in, SIZE, out, SIZE);
    g_rand_free(rand);
}

/* A stream that asks for a dictionary of 1.5 GiB gets none. */
static void test_xz_memory(void)
{
    uint8_t packed[256], out[16];
    size_t size = 0;
    lzma_options_lzma options;
    g_assert_false(lzma_lzma_preset(&options, 0));
    options.dict_size = 1536u << 20;
    lzma_filter filters[] = {{LZMA_FILTER_LZMA2, &options}, {LZMA_VLI_UNKNOWN, NULL}};
    g_assert_cmpint(lzma_stream_buffer_encode(filters, LZMA_CHECK_CRC32, NULL,
                                              (const uint8_t *)"sixteen bytes...", 16, packed, &size,
                                              sizeof(packed)),
                    ==, LZMA_OK);
    g_assert_cmpint(compress_unpack(COMPRESS_XZ, packed, size, out, sizeof(out)), ==, -ENOMEM);
}

static void lzfse_input(uint8_t *bytes, size_t size, bool skew)
{
    uint32_t x = 1;
    for (size_t i = 0; i < size; i++) {
        x = x * 1103515245 + 12345;
        bytes[i] = skew ? (uint8_t)(x >> 28 ? 'a' : 'b' + (x >> 16 & 31))
                        : (uint8_t) "the quick brown fox "[(i + i / 777) % 20];
    }
}

/* LZFSE cannot be made here: what Apple's program has made, whole, cut and damaged. */
static void test_lzfse(void)
{
    static uint8_t in[20000], out[20001], bad[4096];
    GRand *rand = g_rand_new_with_seed(5);
    for (unsigned v = 0; v < ARRAY_SIZE(lzfse_vectors); v++) {
        const size_t size = lzfse_vectors[v].unpacked, packed = lzfse_vectors[v].size;
        lzfse_input(in, size, lzfse_vectors[v].skew);
        memcpy(bad, lzfse_vectors[v].bytes, packed);
        memset(bad + packed, 0xa5, 100);
        g_assert_cmpint(compress_unpack(COMPRESS_LZFSE, bad, packed + 100, out, sizeof(out)), ==,
                        (ssize_t)size);
        g_assert_cmpmem(in, size, out, size);
        g_assert_cmpint(compress_unpack(COMPRESS_LZFSE, bad, packed, out, size), ==, (ssize_t)size);
        out[size - 1] = 0xee;
        g_assert_cmpint(compress_unpack(COMPRESS_LZFSE, bad, packed, out, size - 1), ==, -ENOSPC);
        g_assert_cmpuint(out[size - 1], ==, 0xee);
        for (size_t cut = 0; cut < packed; cut++) {
            g_autofree uint8_t *exact = g_memdup2(bad, cut);
            g_assert_cmpint(compress_unpack(COMPRESS_LZFSE, exact, cut, out, size), ==, -EILSEQ);
        }
        for (unsigned i = 0; i < 4000; i++) {
            const size_t at = (size_t)g_rand_int_range(rand, 0, (gint32)packed);
            bad[at] ^= (uint8_t)(1 << g_rand_int_range(rand, 0, 8));
            const ssize_t got = compress_unpack(COMPRESS_LZFSE, bad, packed, out, size);
            g_assert_true(got <= (ssize_t)size && (got >= 0 || got == -EILSEQ || got == -ENOSPC));
            if (i % 8 == 7)
                memcpy(bad, lzfse_vectors[v].bytes, packed);
        }
    }
    g_assert_cmpint(compress_pack(COMPRESS_LZFSE, 1, in, 10, out, sizeof(out)), ==, -EOPNOTSUPP);
    g_rand_free(rand);
}

static void *worker(void *opaque)
{
    g_autofree uint8_t *in = g_malloc(SIZE), *packed = g_malloc(ROOM), *out = g_malloc(SIZE);
    GRand *rand = g_rand_new_with_seed(GPOINTER_TO_UINT(opaque));
    for (unsigned i = 0; i < 60; i++) {
        const enum compress_method m = (enum compress_method)(i % COMPRESS_LZFSE);
        fill(in, SIZE, i % 4, rand);
        ssize_t n = compress_pack(m, 1, in, SIZE, packed, ROOM);
        if (n == -EOPNOTSUPP)
            continue;
        g_assert_cmpint(n, >, 0);
        g_assert_cmpint(compress_unpack(m, packed, (size_t)n, out, SIZE), ==, SIZE);
        g_assert_cmpmem(in, SIZE, out, SIZE);
    }
    g_rand_free(rand);
    return NULL;
}

static void test_threads(void)
{
    pthread_t threads[4];
    for (unsigned i = 0; i < ARRAY_SIZE(threads); i++)
        g_assert_false(pthread_create(&threads[i], NULL, worker, GUINT_TO_POINTER(i + 1)));
    for (unsigned i = 0; i < ARRAY_SIZE(threads); i++)
        pthread_join(threads[i], NULL);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    static const struct {
        const char *name;
        GTestDataFunc run;
    } tests[] = {{"round", test_round}, {"damage", test_damage}, {"bomb", test_bomb}};
    for (unsigned m = 0; m < COMPRESS_METHODS; m++)
        for (unsigned t = 0; t < ARRAY_SIZE(tests); t++) {
            g_autofree char *path = g_strdup_printf("/compress/%s/%s", names[m], tests[t].name);
            g_test_add_data_func(path, GUINT_TO_POINTER(m), tests[t].run);
        }
    g_test_add_func("/compress/zlib-peer", test_zlib_peer);
    g_test_add_func("/compress/peers", test_peers);
    g_test_add_func("/compress/xz-memory", test_xz_memory);
    g_test_add_func("/compress/lzfse", test_lzfse);
    g_test_add_func("/compress/threads", test_threads);
    return g_test_run();
}
