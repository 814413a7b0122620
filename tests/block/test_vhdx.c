/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* VHDX images: as a disk, beside qemu-img, growing, damage, differencing images. The log: see
 * test_vhdx_log.c. */
#include <errno.h>
#include <glib.h>
#include <string.h>

#include "base/bits.h"
#include "base/byteorder.h"
#include "block/format/vhdx/vhdx.h"
#include "codec/crc32c.h"
#include "flat.h"
#include "peer.h"

/* Where a new image of ours has what. */
enum { LOG = 1 << 20, METADATA = 2 << 20, ITEMS = METADATA + VHDX_TABLE, BAT = 3 << 20, DATA = 4 << 20 };

static const struct image_setup setups[] = {
    {.name = "dynamic", .driver = "vhdx", .size = 20 * MiB, .qemu = "vhdx"},
    {.name = "1m", .driver = "vhdx", .options = "block_size=1M", .size = 9 * MiB + 1536, .qemu = "vhdx"},
    {.name = "fixed",
     .driver = "vhdx",
     .options = "subformat=fixed,block_size=1M",
     .size = 6 * MiB,
     .qemu = "vhdx"},
    {.name = "missing",
     .driver = "vhdx",
     .options = "block_state_zero=off,log_size=2M,block_size=2M",
     .size = 9 * MiB,
     .qemu = "vhdx"},
    {0},
};
#define SMALL (&setups[1])

static void put(struct store *s, uint64_t at, uint64_t value, unsigned size)
{
    uint8_t bytes[8];
    st64le(bytes, value);
    store_write(s, bytes, size, at);
}

static uint64_t get64(struct store *s, uint64_t at)
{
    uint8_t bytes[8];
    store_read(s, bytes, 8, at);
    return ld64le(bytes);
}

/* Makes the sum of what lies there right. */
static void sum(struct store *s, uint64_t at, size_t size)
{
    g_autofree uint8_t *bytes = g_malloc(size);
    store_read(s, bytes, size, at);
    put(s, at + 4, vhdx_checksum(bytes, size), 4);
}

static void test_crc(void)
{
    g_assert_cmphex(crc32c(0, "123456789", 9), ==, 0xe3069283); /* the check value of the catalogues */
    uint8_t bytes[32] = {0};
    g_assert_cmphex(crc32c(0, bytes, 32), ==, 0x8a9136aa); /* RFC 3720, B.4 */
    memset(bytes, 0xff, 32);
    g_assert_cmphex(crc32c(0, bytes, 32), ==, 0x62a8ab43);
    for (uint8_t i = 0; i < 32; i++)
        bytes[i] = i;
    g_assert_cmphex(crc32c(crc32c(0, bytes, 13), bytes + 13, 19), ==, 0x46dd794e);
}

/* --- headers --- */

static void test_header(void)
{
    static const struct {
        uint32_t at, size;
        uint64_t value;
        const char *words;
    } cases[] = {
        {66, 2, 2, "damaged, or of a version"},
        {68, 4, 0, "a log of 0"},
        {68, 4, 1 << 20 | 4096, "a log of"},
        {72, 8, 0, "a log of"},
        {72, 8, 4096, "a log of"},
        {72, 8, UINT64_MAX << 20, "a log of"},
        {0, 4, 0, "damaged, or of a version"},
        {72, 8, METADATA, "or the log"},
        {72, 8, BAT, "or the log"},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(store) s = image_make(SMALL);
        for (unsigned k = 0; k < 2; k++) {
            const uint64_t header = VHDX_HEADER_AT * (uint64_t)(k + 1);
            put(s, header + cases[i].at, cases[i].value, cases[i].size);
            sum(s, header, sizeof(struct vhdx_header));
        }
        flat_refused(SMALL, s, i % 2, cases[i].words);
    }
    AUTO(store) s = image_make(SMALL);
    store_fill(s, 0xff, 8, 0);
    flat_refused(SMALL, s, true, "no vhdx");
}

/* One good header, one good region table are enough; none of either is not. */
static void test_copies(void)
{
    static const uint64_t places[] = {VHDX_HEADER_AT, VHDX_REGIONS_AT};
    for (unsigned i = 0; i < ARRAY_SIZE(places); i++)
        for (unsigned k = 0; k < 2; k++) {
            AUTO(store) s = image_make(SMALL);
            store_fill(s, 0x11, 1, places[i] + k * 65536 + 100);
            AUTO(disk) b = flat_good(SMALL, s);
            flat_write(b, 5000, 10000, 1);
            block_free(STEAL(b));
            b = flat_good(SMALL, s);
            flat_same(b, 5000, 10000, 1);
            block_free(STEAL(b));
            store_fill(s, 0x11, 1, places[i] + 100);
            store_fill(s, 0x11, 1, places[i] + 65536 + 100);
            flat_refused(SMALL, s, false, "damaged");
        }
}

/* Of the region table and the metadata, one field at a time. */
static void test_tables(void)
{
    const uint64_t bat = 16, metadata = 48;
    const struct {
        uint64_t at, value;
        unsigned size;
        const char *words;
    } regions[] = {
        {8, 2048, 4, "damaged"},
        {8, 1, 4, "missing"},
        {bat + 16, 0, 8, "lies at 0"},
        {bat + 16, BAT + 4096, 8, "no multiple"},
        {bat + 16, LOG, 8, "or the log"},
        {bat + 16, METADATA, 8, "overlap"},
        {bat + 16, UINT64_MAX << 20, 8, "lies at"},
        {bat + 24, 0, 4, "0 bytes"},
        {bat + 24, 1000, 4, "1000 bytes"},
        {bat, 1, 4, "needs the region"},
        {metadata, 0x2dc27766, 4, "needs the region"},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(regions); i++) {
        AUTO(store) s = image_make(SMALL);
        for (unsigned k = 0; k < 2; k++) {
            put(s, VHDX_REGIONS_AT + k * 65536 + regions[i].at, regions[i].value, regions[i].size);
            sum(s, VHDX_REGIONS_AT + k * (uint64_t)65536, VHDX_TABLE);
        }
        flat_refused(SMALL, s, i % 2, regions[i].words);
    }
    const struct {
        uint64_t at, value;
        unsigned size;
        const char *words;
    } items[] = {
        {METADATA, 0, 8, "table of metadata"},
        {METADATA + 10, 2048, 2, "table of metadata"},
        {METADATA + 10, 1, 2, "lacks"},
        {METADATA + 32, 1, 4, "needs the metadata"},
        {METADATA + 48, 100, 4, "file parameters"},
        {METADATA + 48, 1 << 20, 4, "file parameters"},
        {METADATA + 52, 9, 4, "file parameters"},
        {METADATA + 32 + 24, VHDX_ITEM_REQUIRED | VHDX_ITEM_USER, 4, "needs the metadata"},
        {ITEMS, 0, 4, "blocks of 0"},
        {ITEMS, 3 << 20, 4, "blocks of"},
        {ITEMS, 1 << 19, 4, "blocks of"},
        {ITEMS, 1 << 29, 4, "blocks of"},
        {ITEMS + 4, 2, 4, "does not say which"},
        {ITEMS + 8, 0, 8, "disk of 0"},
        {ITEMS + 8, 1000, 8, "disk of 1000"},
        {ITEMS + 8, VHDX_SIZE_MAX + 512, 8, "disk of"},
        {ITEMS + 8, VHDX_SIZE_MAX, 8, "blocks, and a table of"},
        {ITEMS + 8, UINT64_C(1) << 38, 8, "blocks, and a table of"},
        {ITEMS + 32, 1024, 4, "sectors of 1024"},
        {ITEMS + 36, 0, 4, "physically 0"},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(items); i++) {
        AUTO(store) s = image_make(SMALL);
        put(s, items[i].at, items[i].value, items[i].size);
        flat_refused(SMALL, s, i % 2, items[i].words);
    }
}

/* --- damage --- */

static void test_damage(void)
{
    static const uint64_t entries[] = {
        4,
        5,
        VHDX_FULLY_PRESENT,
        VHDX_FULLY_PRESENT | LOG,
        VHDX_FULLY_PRESENT | METADATA,
        VHDX_FULLY_PRESENT | BAT,
        VHDX_FULLY_PRESENT | 500 * MiB,
        VHDX_FULLY_PRESENT | UINT64_MAX << 20,
        VHDX_PARTIALLY_PRESENT | DATA,
    };
    for (unsigned i = 0; i < ARRAY_SIZE(entries); i++) {
        AUTO(store) s = image_make(SMALL);
        AUTO(disk) b = flat_good(SMALL, s);
        flat_write(b, 0, 1000, 1);
        block_free(STEAL(b));
        put(s, BAT + 8, entries[i], 8);
        flat_refused(SMALL, s, false, "damaged");
        g_autoptr(GError) error = NULL;
        b = flat_open(SMALL, s, true, 0, NULL, NULL, &error);
        uint8_t byte;
        g_assert_cmpint(block_pread(b, &byte, 1, MiB), ==, -EIO);
        flat_same(b, 0, 1000, 1);
        g_assert_cmpuint(flat_check(SMALL, s, 0).corruptions, ==, 1);
        g_assert_cmpuint(flat_check(SMALL, s, BLOCK_FIX_ERRORS).corruptions_fixed, ==, 1);
        AUTO(disk) mended = flat_good(SMALL, s);
        flat_zeroes(mended, MiB, MiB);
    }
    AUTO(store) s = image_make(SMALL);
    AUTO(disk) b = flat_good(SMALL, s);
    flat_write(b, 0, 1000, 1);
    block_free(STEAL(b));
    put(s, BAT + 16, get64(s, BAT), 8);
    g_assert_cmpuint(flat_check(SMALL, s, 0).corruptions, ==, 1);
}

/* Who writes changes the identifiers of the file and its contents; who reads does not. */
static void test_identifiers(void)
{
    AUTO(store) s = image_make(SMALL);
    AUTO(disk) b = flat_good(SMALL, s);
    const struct vhdx_header before = vhdx_of(b)->header;
    flat_zeroes(b, 0, 4096);
    block_free(STEAL(b));
    b = flat_good(SMALL, s);
    g_assert_cmpmem(&vhdx_of(b)->header, sizeof(before), &before, sizeof(before));
    flat_write(b, 0, 512, 1);
    block_free(STEAL(b));
    b = flat_good(SMALL, s);
    const struct vhdx_header *after = &vhdx_of(b)->header;
    g_assert_false(vhdx_guid_is(&after->file_write, &before.file_write));
    g_assert_false(vhdx_guid_is(&after->data_write, &before.data_write));
    g_assert_true(vhdx_guid_is(&after->log, &vhdx_guid_null)); /* closed: nothing to replay */
    g_assert_cmpuint(le64toh(after->sequence), >, le64toh(before.sequence));
}

/* --- growing --- */

static void test_grow(void)
{
    static const uint64_t sizes[] = {10 * MiB, 1 * GiB, 100 * GiB, 200 * GiB, 1024 * GiB};
    AUTO(store) s = image_make(SMALL);
    AUTO(disk) b = flat_good(SMALL, s);
    flat_write(b, 3 * MiB - 100, 200, 9);
    g_assert_cmpint(block_resize(b, 512), ==, -EOPNOTSUPP);
    for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
        g_assert_cmpint(block_resize(b, sizes[i]), ==, 0);
        flat_write(b, sizes[i] - 1000, 1000, i);
        block_free(STEAL(b));
        g_assert_cmpuint(flat_check(SMALL, s, 0).corruptions, ==, 0);
        b = flat_good(SMALL, s);
        g_assert_cmpuint(b->facts.size, ==, sizes[i]);
        flat_same(b, 3 * MiB - 100, 200, 9);
        for (unsigned k = 0; k <= i; k++)
            flat_same(b, sizes[k] - 1000, 1000, k);
        flat_zeroes(b, 5 * MiB, MiB);
    }
}

/* --- differencing --- */

static const struct vhdx_item parent_item = {.offset = 70000, .flags = VHDX_ITEM_REQUIRED};

static void put_text(struct store *s, uint64_t at, const char *text)
{
    for (unsigned i = 0; text[i]; i++)
        put(s, at + i * 2, (uint8_t)text[i], 2);
}

static void put_locator(struct store *s, const char *path, const char *linkage)
{
    const uint64_t item = METADATA + 32 + 5 * sizeof(struct vhdx_item), at = METADATA + 70000;
    const char *const texts[4] = {"parent_linkage", linkage, "relative_path", path};
    struct vhdx_item entry = parent_item;
    entry.guid = vhdx_guid_parent;
    entry.length = htole32(1000);
    store_write(s, &entry, sizeof(entry), item);
    put(s, METADATA + 10, 6, 2);
    store_write(s, &vhdx_guid_locator, 16, at);
    put(s, at + 18, 2, 2);
    uint32_t text_at = 44;
    for (unsigned i = 0; i < 4; i++) {
        const uint64_t pair = at + 20 + i / 2 * 12;
        put(s, pair + i % 2 * 4, text_at, 4);
        put(s, pair + 8 + i % 2 * 2, strlen(texts[i]) * 2, 2);
        put_text(s, at + text_at, texts[i]);
        text_at += (uint32_t)strlen(texts[i]) * 2;
    }
}

/* Over the parent: of block 1 the sectors 10 to 19, and every second one from 1500 on; block 2 is zeroes. */
static struct store *make_child(const char *linkage)
{
    enum { RATIO = 4096, BITMAP = DATA + (1 << 20) };
    struct store *s = image_make(SMALL);
    put(s, ITEMS + 4, 2, 4);
    put_locator(s, ".\\parent.vhdx", linkage);
    for (unsigned i = 0; i < 10; i++)
        put(s, BAT + i * 8, VHDX_NOT_PRESENT, 8);
    put(s, BAT + 8, DATA | VHDX_PARTIALLY_PRESENT, 8);
    put(s, BAT + 16, VHDX_ZERO, 8);
    put(s, BAT + RATIO * 8, BITMAP | VHDX_BITMAP_PRESENT, 8);
    uint8_t bits[256] = {0};
    for (unsigned i = 0; i < 2048; i++)
        if ((i >= 10 && i < 20) || (i >= 1500 && i % 2))
            bits[i / 8] |= (uint8_t)(1 << i % 8);
    store_write(s, bits, sizeof(bits), BITMAP + 256);
    g_autofree uint8_t *data = g_malloc(MiB);
    flat_fill(data, MiB, MiB, 77);
    store_write(s, data, MiB, DATA);
    store_resize(s, BITMAP + (1 << 20));
    return s;
}

struct refs {
    struct block_refs refs;
    struct store *parent;
};

static struct disk *open_ref(struct block_refs *refs, enum block_ref what, const char *reference,
                             const char *format, bool readonly, GError **error)
{
    g_assert_cmpint(what, ==, BLOCK_REF_BACKING);
    g_assert_cmpstr(reference, ==, "parent.vhdx");
    g_assert_cmpstr(format, ==, "vhdx");
    g_assert_true(readonly);
    return flat_open(SMALL, CONTAINER_OF(refs, struct refs, refs)->parent, true, 0, NULL, NULL, error);
}

static struct disk *open_child(struct store *child, struct refs *refs, bool readonly)
{
    g_autoptr(GError) error = NULL;
    struct disk *b = flat_open(SMALL, child, readonly, 0, NULL, &refs->refs, &error);
    g_assert_no_error(error);
    return b;
}

static void test_difference(void)
{
    AUTO(store) parent = image_make(SMALL);
    AUTO(disk) p = flat_good(SMALL, parent);
    const uint64_t size = p->facts.size;
    flat_write(p, 0, size, 1);
    g_autofree char *id = vhdx_guid_text(&vhdx_of(p)->header.data_write);
    g_autofree char *linkage = g_strdup_printf("{%s}", id);
    block_free(STEAL(p));
    const uint64_t untouched = store_hash(parent);
    AUTO(store) child = make_child(linkage);
    struct refs refs = {.refs = {.open = open_ref}, .parent = parent};
    g_autofree uint8_t *want = g_malloc(size);
    flat_fill(want, size, 0, 1);
    for (unsigned i = 0; i < 2048; i++)
        if ((i >= 10 && i < 20) || (i >= 1500 && i % 2))
            flat_fill(want + MiB + i * 512, 512, MiB + i * 512, 77);
    memset(want + 2 * MiB, 0, MiB);
    AUTO(disk) b = open_child(child, &refs, true);
    peer_same(b, want, size);
    block_free(STEAL(b));

    b = open_child(child, &refs, false);
    const struct {
        uint64_t at, size;
    } writes[] = {
        {MiB + 1000, 3000}, {3 * MiB + 700, 1}, {4 * MiB - 100, 1600}, {2 * MiB + 5, 10}, {100, MiB}};
    for (unsigned i = 0; i < ARRAY_SIZE(writes); i++) {
        flat_write(b, writes[i].at, writes[i].size, 100 + i);
        flat_fill(want + writes[i].at, writes[i].size, writes[i].at, 100 + i);
        peer_same(b, want, size);
    }
    g_assert_cmpint(block_zero(b, 5 * MiB, 2 * MiB + 100, BLOCK_MAY_UNMAP), ==, 0);
    memset(want + 5 * MiB, 0, 2 * MiB + 100);
    peer_same(b, want, size);
    block_free(STEAL(b));
    b = open_child(child, &refs, true);
    peer_same(b, want, size);
    block_free(STEAL(b));
    g_assert_cmpuint(get64(child, BAT + 5 * 8), ==, VHDX_ZERO);
    g_assert_cmpuint(store_hash(parent), ==, untouched);
    g_assert_cmpuint(flat_check(SMALL, child, 0).corruptions, ==, 0);
}

static void test_parent(void)
{
    AUTO(store) parent = image_make(SMALL);
    AUTO(store) child = make_child("{12345678-1234-1234-1234-123456789abc}");
    flat_refused(SMALL, child, true, "parent.vhdx");
    struct refs refs = {.refs = {.open = open_ref}, .parent = parent};
    g_autoptr(GError) error = NULL;
    g_assert_null(flat_open(SMALL, child, true, 0, NULL, &refs.refs, &error));
    g_assert_nonnull(strstr(error->message, "it was made over {12345678"));
    g_clear_error(&error);
    AUTO(disk) alone = flat_open(SMALL, child, true, BLOCK_OPEN_ALONE, NULL, NULL, &error);
    g_assert_no_error(error);
    flat_same(alone, MiB + 10 * 512, 10 * 512, 77);
    flat_zeroes(alone, 0, MiB + 10 * 512);
    struct block_image_info info = {0};
    g_assert_true(alone->driver->image->info(alone, &info, &error));
    g_assert_cmpstr(info.backing, ==, "parent.vhdx");
    g_assert_cmpstr(info.backing_format, ==, "vhdx");
    block_image_info_clear(&info);
    /* Texts outside the locator are none. */
    put(child, METADATA + 70000 + 20 + 12 + 4, UINT32_MAX - 3, 4);
    flat_refused(SMALL, child, true, "does not name it");
    put(child, METADATA + 70000, 1, 4);
    flat_refused(SMALL, child, true, "in a way");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    flat_add(setups);
    g_test_add_func("/block/vhdx/crc", test_crc);
    g_test_add_func("/block/vhdx/header", test_header);
    g_test_add_func("/block/vhdx/copies", test_copies);
    g_test_add_func("/block/vhdx/tables", test_tables);
    g_test_add_func("/block/vhdx/damage", test_damage);
    g_test_add_func("/block/vhdx/identifiers", test_identifiers);
    g_test_add_func("/block/vhdx/grow", test_grow);
    g_test_add_func("/block/vhdx/difference", test_difference);
    g_test_add_func("/block/vhdx/parent", test_parent);
    return g_test_run();
}
