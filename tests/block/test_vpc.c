/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* VHDs: as a disk, beside qemu-img, sizes by geometry, footers, differencing images, damage. */
#include <errno.h>
#include <glib.h>
#include <string.h>

#include "base/bits.h"
#include "base/byteorder.h"
#include "block/format/vpc_int.h"
#include "flat.h"
#include "peer.h"

enum { FOOTER = 512, HEADER = 512, BLOCK = 2 << 20, BITMAP = 512 };

static const struct image_setup setups[] = {
    {.name = "dynamic", .driver = "vpc", .options = "force_size=on", .size = 9 * MiB + 1536},
    {.name = "fixed", .driver = "vpc", .options = "force_size=on,subformat=fixed", .size = 6 * MiB},
    {.name = "geometry", .driver = "vpc", .size = 5 * MiB},
    {0},
};

/* Makes the sums right after a change. */
static void sum(struct store *s, uint64_t footer)
{
    struct vpc_footer f;
    store_read(s, &f, sizeof(f), footer);
    f.checksum = htobe32(vpc_checksum(&f, sizeof(f), offsetof(struct vpc_footer, checksum)));
    store_write(s, &f, sizeof(f), footer);
}

static void sum_header(struct store *s)
{
    struct vpc_header h;
    store_read(s, &h, sizeof(h), HEADER);
    h.checksum = htobe32(vpc_checksum(&h, sizeof(h), offsetof(struct vpc_header, checksum)));
    store_write(s, &h, sizeof(h), HEADER);
}

static void put(struct store *s, uint64_t at, uint64_t value, unsigned size)
{
    uint8_t bytes[8];
    st64be(bytes, value);
    store_write(s, bytes + 8 - size, size, at);
}

/* --- footers and headers --- */

static void test_footer(void)
{
    static const struct {
        uint32_t at, size;
        uint64_t value;
        const char *words;
    } cases[] = {
        {12, 4, 0x00020000, "version 2"},
        {60, 4, 9, "type 9"},
        {48, 8, 0, "disk of 0"},
        {48, 8, 1000, "disk of 1000"},
        {48, 8, INT64_MAX / 512 * 512, "disk of"},
        {48, 8, UINT64_C(1) << 40, "entries"},
        {16, 8, 100, "inside the file"},
        {16, 8, 0, "inside the file"},
        {16, 8, UINT64_MAX, "inside the file"},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(store) s = image_make(&setups[0]);
        const uint64_t end = store_size(s) - FOOTER;
        put(s, end + cases[i].at, cases[i].value, cases[i].size);
        sum(s, end);
        flat_refused(&setups[0], s, i % 2, cases[i].words);
    }
    AUTO(store) s = image_make(&setups[0]);
    store_fill(s, 0, FOOTER, store_size(s) - FOOTER);
    store_fill(s, 0, FOOTER, 0);
    flat_refused(&setups[0], s, true, "no VHD");
    store_resize(s, 100);
    flat_refused(&setups[0], s, true, "no VHD");
}

static void test_header(void)
{
    static const struct {
        uint32_t at, size;
        uint64_t value;
        const char *words;
    } cases[] = {
        {24, 4, 0x00020000, "version 2"}, {28, 4, 4, "4 entries"},        {28, 4, UINT32_MAX, "entries"},
        {32, 4, 0, "blocks of 0"},        {32, 4, 3 << 20, "blocks of"},  {32, 4, 1 << 30, "blocks of"},
        {16, 8, 1, "inside the file"},    {16, 8, 0, "inside the file"},  {16, 8, UINT64_MAX - 511, "inside"},
        {16, 8, 1 << 30, "inside"},       {0, 8, 0, "header is damaged"},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(store) s = image_make(&setups[0]);
        put(s, HEADER + cases[i].at, cases[i].value, cases[i].size);
        sum_header(s);
        flat_refused(&setups[0], s, i % 2, cases[i].words);
    }
    AUTO(store) s = image_make(&setups[0]);
    put(s, HEADER + 700, 1, 1);
    flat_refused(&setups[0], s, true, "header is damaged");
}

/* Without the footer at the end the copy will do; a check says so, and writing brings it back. */
static void test_copy(void)
{
    AUTO(store) s = image_make(&setups[0]);
    AUTO(disk) b = flat_good(&setups[0], s);
    flat_write(b, 3 * MiB, 5000, 1);
    block_free(STEAL(b));
    const uint64_t end = store_size(s) - FOOTER;
    store_fill(s, 0, FOOTER, end);
    store_resize(s, end + 10 * MiB);
    g_assert_cmpuint(flat_check(&setups[0], s, 0).leaks, ==, 1);
    b = flat_good(&setups[0], s);
    flat_same(b, 3 * MiB, 5000, 1);
    flat_write(b, 3 * MiB, 5000, 2);
    block_free(STEAL(b));
    g_assert_cmpuint(store_size(s), ==, end + FOOTER);
    g_assert_cmpuint(flat_check(&setups[0], s, 0).leaks, ==, 0);
}

/* The first sector of a fixed image is the guest's, and does not say what the image is. */
static void test_forged(void)
{
    AUTO(store) s = image_make(&setups[1]);
    struct vpc_footer f;
    AUTO(store) other = image_make(&setups[0]);
    store_read(other, &f, sizeof(f), 0);
    AUTO(disk) b = flat_good(&setups[1], s);
    g_assert_cmpint(block_pwrite(b, &f, sizeof(f), 0), ==, 0);
    block_free(STEAL(b));
    b = flat_good(&setups[1], s);
    g_assert_cmpuint(b->facts.size, ==, setups[1].size);
    struct vpc_footer back;
    g_assert_cmpint(block_pread(b, &back, sizeof(back), 0), ==, 0);
    g_assert_cmpmem(&back, sizeof(back), &f, sizeof(f));
    block_free(STEAL(b));
    store_resize(s, store_size(s) - FOOTER);
    flat_refused(&setups[1], s, true, "its dynamic header"); /* what is left is what the guest made of it */
}

/* --- sizes --- */

static void test_creators(void)
{
    static const struct {
        const char *creator;
        bool exact;
    } cases[] = {{"qemu", false}, {"vpc ", false}, {"abcd", false}, {"qem2", true},
                 {"win ", true},  {"d2v ", true},  {"tap", true},   {"CTXS", true}};
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(store) s = image_make(&setups[1]);
        const uint64_t end = store_size(s) - FOOTER;
        store_write(s, cases[i].creator, 4, end + 28);
        sum(s, end);
        AUTO(disk) b = flat_good(&setups[1], s);
        uint16_t cylinders;
        uint8_t heads, track;
        const uint64_t geometry = vpc_geometry(setups[1].size / 512, &cylinders, &heads, &track) * 512;
        g_assert_cmpuint(geometry, <, setups[1].size);
        g_assert_cmpuint(b->facts.size, ==, cases[i].exact ? setups[1].size : geometry);
    }
}

/* Rounded as qemu-img does it. */
static void test_rounding(void)
{
    static const uint64_t sizes[] = {512,       1 * MiB,   33 * MiB,       504 * MiB,
                                     512 * MiB, 3 * GiB,   31 * GiB + 512, 126 * GiB,
                                     127 * GiB, 128 * GiB, 700 * GiB};
    if (!peer_has("qemu-img"))
        return;
    struct peer_dir dir = peer_dir();
    g_autofree char *image = peer_path(&dir, "image");
    for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
        const struct image_setup setup = {.name = "size", .driver = "vpc", .size = sizes[i]};
        AUTO(store) ours = image_make(&setup);
        AUTO(disk) b = flat_good(&setup, ours);
        peer_run("qemu-img create -q -f vpc %s %" G_GUINT64_FORMAT, image, sizes[i]);
        g_autofree char *info = peer_output("qemu-img info --output=json -f vpc %s", image);
        g_autofree char *want =
            g_strdup_printf("\"virtual-size\": %" G_GUINT64_FORMAT, (uint64_t)b->facts.size);
        if (!strstr(info, want))
            g_error("%s\nand here %s", info, want);
    }
    peer_dir_gone(&dir);
}

/* --- damage --- */

static void test_damage(void)
{
    static const uint64_t values[] = {0, 1, 3, 0x7fffffff, UINT32_MAX - 1};
    for (unsigned i = 0; i < ARRAY_SIZE(values); i++) {
        AUTO(store) s = image_make(&setups[0]);
        put(s, 1536 + 4, values[i], 4);
        flat_refused(&setups[0], s, false, "damaged");
        g_autoptr(GError) error = NULL;
        AUTO(disk) b = flat_open(&setups[0], s, true, 0, NULL, NULL, &error);
        uint8_t byte;
        g_assert_cmpint(block_pread(b, &byte, 1, BLOCK), ==, -EIO);
        flat_zeroes(b, 0, BLOCK);
        g_assert_cmpuint(flat_check(&setups[0], s, 0).corruptions, ==, 1);
        g_assert_cmpuint(flat_check(&setups[0], s, BLOCK_FIX_ERRORS).corruptions_fixed, ==, 1);
        AUTO(disk) mended = flat_good(&setups[0], s);
        flat_zeroes(mended, BLOCK, BLOCK);
    }
    AUTO(store) s = image_make(&setups[0]);
    AUTO(disk) b = flat_good(&setups[0], s);
    flat_write(b, 0, 100, 1);
    block_free(STEAL(b));
    uint8_t entry[4];
    store_read(s, entry, 4, 1536);
    store_write(s, entry, 4, 1536 + 8);
    g_assert_cmpuint(flat_check(&setups[0], s, 0).corruptions, ==, 1);
}

/* --- differencing --- */

static const struct image_setup child_setup = {
    .name = "child", .driver = "vpc", .options = "force_size=on", .size = 9 * MiB + 1536};

/* A child of the parent: block 1 has sectors 10 to 19, and every second one from 3000 on; in block 3 is
 * nothing yet. */
static struct store *make_child(struct store *parent)
{
    static const char name[] = "parent.vhd", path[] = ".\\parent.vhd";
    struct store *s = image_make(&child_setup);
    struct vpc_header h;
    struct vpc_footer f;
    store_read(s, &f, sizeof(f), 0);
    store_read(s, &h, sizeof(h), HEADER);
    f.type = htobe32(VPC_DIFFERENCING);
    f.id[0] ^= 1;
    store_read(parent, h.parent_id, 16, offsetof(struct vpc_footer, id));
    for (unsigned i = 0; i < sizeof(name) - 1; i++)
        st16be(h.parent_name + i * 2, (uint8_t)name[i]);
    const uint64_t text_at = 2048, block_at = 4096 - BITMAP, end = block_at + BITMAP + BLOCK;
    for (unsigned i = 0; i < sizeof(path) - 1; i++) {
        uint8_t wide[2];
        st16le(wide, (uint8_t)path[i]);
        store_write(s, wide, 2, text_at + i * 2);
    }
    h.locators[2] = (struct vpc_locator){
        .space = htobe32(512), .length = htobe32((sizeof(path) - 1) * 2), .offset = htobe64(text_at)};
    memcpy(&h.locators[2].platform, "W2ru", 4);
    store_write(s, &h, sizeof(h), HEADER);
    sum_header(s);
    put(s, 1536 + 4, block_at / 512, 4);
    uint8_t bitmap[BITMAP] = {0};
    for (unsigned i = 0; i < BLOCK / 512; i++)
        if ((i >= 10 && i < 20) || (i >= 3000 && i % 2))
            bitmap[i / 8] |= (uint8_t)(0x80 >> i % 8);
    store_fill(s, 0, FOOTER, store_size(s) - FOOTER);
    store_write(s, bitmap, sizeof(bitmap), block_at);
    g_autofree uint8_t *data = g_malloc(BLOCK);
    flat_fill(data, BLOCK, BLOCK, 77);
    store_write(s, data, BLOCK, block_at + BITMAP);
    store_write(s, &f, sizeof(f), 0);
    sum(s, 0);
    store_read(s, &f, sizeof(f), 0);
    store_write(s, &f, sizeof(f), end);
    return s;
}

struct refs {
    struct block_refs refs;
    struct store *parent;
    unsigned opened;
};

static struct disk *open_ref(struct block_refs *refs, enum block_ref what, const char *reference,
                             const char *format, bool readonly, GError **error)
{
    struct refs *r = CONTAINER_OF(refs, struct refs, refs);
    g_assert_cmpint(what, ==, BLOCK_REF_BACKING);
    g_assert_cmpstr(reference, ==, "parent.vhd");
    g_assert_cmpstr(format, ==, "vpc");
    g_assert_true(readonly);
    r->opened++;
    return flat_open(&child_setup, r->parent, true, 0, NULL, NULL, error);
}

/* What the child must read as, before it is written to. */
static void make_wanted(uint8_t *want, uint64_t size)
{
    flat_fill(want, size, 0, 1);
    for (unsigned i = 0; i < BLOCK / 512; i++)
        if ((i >= 10 && i < 20) || (i >= 3000 && i % 2))
            flat_fill(want + BLOCK + i * 512, 512, BLOCK + i * 512, 77);
}

static struct disk *open_child(struct store *child, struct refs *refs, bool readonly)
{
    g_autoptr(GError) error = NULL;
    struct disk *b = flat_open(&child_setup, child, readonly, 0, NULL, &refs->refs, &error);
    g_assert_no_error(error);
    return b;
}

static void test_difference(void)
{
    AUTO(store) parent = image_make(&child_setup);
    AUTO(disk) p = flat_good(&child_setup, parent);
    const uint64_t size = p->facts.size;
    flat_write(p, 0, size, 1);
    block_free(STEAL(p));
    const uint64_t untouched = store_hash(parent);
    AUTO(store) child = make_child(parent);
    struct refs refs = {.refs = {.open = open_ref}, .parent = parent};
    g_autofree uint8_t *want = g_malloc(size);
    make_wanted(want, size);
    AUTO(disk) b = open_child(child, &refs, true);
    peer_same(b, want, size);
    struct block_extent extent;
    g_assert_cmpint(block_extent(b, BLOCK, 100 * 512, &extent), ==, 0);
    g_assert_cmpuint(extent.depth, ==, 1);
    g_assert_cmpuint(extent.size, ==, 10 * 512);
    block_free(STEAL(b));

    b = open_child(child, &refs, false);
    const struct {
        uint64_t at, size;
    } writes[] = {{BLOCK + 1000, 3000}, {3 * BLOCK + 700, 1}, {4 * BLOCK - 100, 1600}, {100, BLOCK}};
    for (unsigned i = 0; i < ARRAY_SIZE(writes); i++) {
        flat_write(b, writes[i].at, writes[i].size, 100 + i);
        flat_fill(want + writes[i].at, writes[i].size, writes[i].at, 100 + i);
        peer_same(b, want, size);
    }
    g_assert_cmpint(block_zero(b, 2 * BLOCK, BLOCK, 0), ==, 0);
    memset(want + 2 * BLOCK, 0, BLOCK);
    peer_same(b, want, size);
    block_free(STEAL(b));
    b = open_child(child, &refs, true);
    peer_same(b, want, size);
    block_free(STEAL(b));
    g_assert_cmpuint(refs.opened, ==, 3);
    g_assert_cmpuint(store_hash(parent), ==, untouched);
    g_assert_cmpuint(flat_check(&child_setup, child, 0).corruptions, ==, 0);
}

enum { WRITERS = 3, PIECE = 64 * KiB };

struct writer {
    struct disk *disk;
    unsigned who;
};

/* Every third piece of the disk; what is at a block's first piece makes it whole. */
static void *write_thirds(void *opaque)
{
    const struct writer *w = opaque;
    for (uint64_t at = w->who * PIECE; at + PIECE <= w->disk->facts.size; at += WRITERS * PIECE)
        flat_write(w->disk, at, PIECE, w->who);
    return NULL;
}

/* Blocks become whole, and come into being, while others are written and entries and bitmaps reach the file.
 */
static void test_difference_threads(void)
{
    AUTO(store) parent = image_make(&child_setup);
    AUTO(disk) p = flat_good(&child_setup, parent);
    flat_write(p, 0, p->facts.size, 1);
    block_free(STEAL(p));
    AUTO(store) child = make_child(parent);
    struct refs refs = {.refs = {.open = open_ref}, .parent = parent};
    AUTO(disk) b = open_child(child, &refs, false);
    const uint64_t size = b->facts.size;
    struct writer writers[WRITERS];
    GThread *threads[WRITERS];
    g_autofree uint8_t *want = g_malloc(size);
    make_wanted(want, size);
    for (unsigned i = 0; i < WRITERS; i++) {
        writers[i] = (struct writer){b, i};
        threads[i] = g_thread_new("writer", write_thirds, &writers[i]);
    }
    for (unsigned i = 0; i < 20; i++)
        g_assert_cmpint(block_flush(b), ==, 0);
    for (unsigned i = 0; i < WRITERS; i++)
        g_thread_join(threads[i]);
    for (uint64_t at = 0, i = 0; at + PIECE <= size; at += PIECE, i++)
        flat_fill(want + at, PIECE, at, (unsigned)(i % WRITERS));
    peer_same(b, want, size);
    g_assert_cmpint(block_flush(b), ==, 0);
    block_free(STEAL(b));
    b = open_child(child, &refs, true);
    peer_same(b, want, size);
}

/* Whom it lies over is not opened unless that is allowed, and must be the one. */
static void test_parent(void)
{
    AUTO(store) parent = image_make(&child_setup);
    AUTO(store) child = make_child(parent);
    flat_refused(&child_setup, child, true, "parent.vhd");
    AUTO(store) other = image_make(&child_setup);
    struct refs refs = {.refs = {.open = open_ref}, .parent = other};
    g_autoptr(GError) error = NULL;
    g_assert_null(flat_open(&child_setup, child, true, 0, NULL, &refs.refs, &error));
    g_assert_nonnull(strstr(error->message, "not the parent"));
    g_clear_error(&error);
    AUTO(disk) alone = flat_open(&child_setup, child, true, BLOCK_OPEN_ALONE, NULL, NULL, &error);
    g_assert_no_error(error);
    flat_same(alone, BLOCK + 10 * 512, 10 * 512, 77);
    flat_zeroes(alone, BLOCK, 10 * 512);
    struct block_image_info info = {0};
    g_assert_true(alone->driver->image->info(alone, &info, &error));
    g_assert_cmpstr(info.backing, ==, "parent.vhd");
    block_image_info_clear(&info);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    flat_add(setups);
    g_test_add_func("/block/vpc/footer", test_footer);
    g_test_add_func("/block/vpc/header", test_header);
    g_test_add_func("/block/vpc/copy", test_copy);
    g_test_add_func("/block/vpc/forged", test_forged);
    g_test_add_func("/block/vpc/creators", test_creators);
    g_test_add_func("/block/vpc/rounding", test_rounding);
    g_test_add_func("/block/vpc/damage", test_damage);
    g_test_add_func("/block/vpc/difference", test_difference);
    g_test_add_func("/block/vpc/difference-threads", test_difference_threads);
    g_test_add_func("/block/vpc/parent", test_parent);
    return g_test_run();
}
