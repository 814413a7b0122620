/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The file of a saved guest: what is written is read, and nothing else is. */
#include "codec/saved.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/byteorder.h"
#include "base/error.h"
#include "codec/crc32c.h"

enum { PAGES = 700, MEMORY = PAGES * SAVED_PAGE };

static int new_file(void)
{
    int fd = memfd_create("saved", MFD_CLOEXEC);
    g_assert_cmpint(fd, >=, 0);
    return fd;
}

/* Memory with data here and there. */
static void fill(uint8_t *memory)
{
    memset(memory, 0, MEMORY);
    for (unsigned i = 0; i < PAGES; i++)
        if (i % 7 == 3 || (i > 200 && i < 240) || i == PAGES - 1)
            memory[i * SAVED_PAGE + i] = (uint8_t)(i + 1);
}

static uint64_t write_one(int fd, const uint8_t *memory)
{
    AUTO(saved_writer) w = saved_writer_new(fd);
    const uint64_t place = saved_add_memory(w, "ram", 0x80000000, MEMORY);
    const uint64_t small = saved_add_memory(w, "rom", 0x1000, SAVED_PAGE);
    g_autoptr(GError) error = NULL;
    g_assert_cmpint(saved_write_pages(w, place, memory, MEMORY, true), ==, 0);
    g_assert_cmpint(saved_write_pages(w, small, memory + 3 * SAVED_PAGE, SAVED_PAGE, true), ==, 0);
    saved_add(w, "device", "uart", 3, "0123456789", 10);
    saved_add(w, "device", "empty", 1, "", 0);
    g_assert_true(saved_finish(w, true, &error));
    g_assert_no_error(error);
    return place;
}

static void test_round(void)
{
    g_autofree uint8_t *memory = g_malloc(MEMORY);
    g_autoptr(GError) error = NULL;
    int fd = new_file();
    fill(memory);
    const uint64_t place = write_one(fd, memory);

    /* Zeroes take no room. */
    struct stat status;
    g_assert_cmpint(fstat(fd, &status), ==, 0);
    g_assert_cmpint(status.st_blocks * 512, <, MEMORY / 2);

    AUTO(saved) s = saved_open(fd, &error);
    g_assert_no_error(error);
    const struct saved_section *uart = saved_find(s, "device", "uart", 3, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(uart->version, ==, 3);
    g_assert_cmpmem(uart->bytes, uart->size, "0123456789", 10);
    g_assert_false(saved_check_used(s, NULL));
    g_assert_cmpuint(saved_find(s, "device", "empty", 1, &error)->size, ==, 0);
    struct saved_memory ram, rom;
    g_assert_true(saved_find_memory(s, "ram", &ram, &error));
    g_assert_true(saved_find_memory(s, "rom", &rom, &error));
    g_assert_true(saved_check_used(s, &error));
    g_assert_cmphex(ram.base, ==, 0x80000000);
    g_assert_cmphex(ram.place, ==, place);
    void *mapped = mmap(NULL, MEMORY, PROT_READ, MAP_PRIVATE, fd, (off_t)ram.place);
    g_assert_cmpmem(mapped, MEMORY, memory, MEMORY);
    munmap(mapped, MEMORY);
    g_assert_true(saved_verify(s, &error));

    close(fd);
}

/* Pages written again, with zeroes too, are as they were written last. */
static void test_again(void)
{
    g_autofree uint8_t *memory = g_malloc(MEMORY);
    g_autoptr(GError) error = NULL;
    int fd = new_file();
    fill(memory);
    AUTO(saved_writer) w = saved_writer_new(fd);
    const uint64_t place = saved_add_memory(w, "ram", 0, MEMORY);
    g_assert_cmpint(saved_write_pages(w, place, memory, MEMORY, true), ==, 0);
    memset(memory + 201 * SAVED_PAGE, 0, 4 * SAVED_PAGE);
    memory[5] = 1;
    g_assert_cmpint(saved_write_pages(w, place, memory, SAVED_PAGE, false), ==, 0);
    g_assert_cmpint(
        saved_write_pages(w, place + 201 * SAVED_PAGE, memory + 201 * SAVED_PAGE, 4 * SAVED_PAGE, false), ==,
        0);
    g_assert_true(saved_finish(w, false, &error));
    AUTO(saved) s = saved_open(fd, &error);
    g_assert_true(saved_verify(s, &error));
    g_autofree uint8_t *read = g_malloc(MEMORY);
    g_assert_cmpint(pread(fd, read, MEMORY, (off_t)place), ==, MEMORY);
    g_assert_cmpmem(read, MEMORY, memory, MEMORY);
    close(fd);
}

/* Ranges in any order, some written more than once: the sums are those of what is in the file. */
static void test_any_order(void)
{
    enum { WRITES = 6, LENGTH = 60 };
    g_autofree uint8_t *memory = g_malloc(MEMORY), *read = g_malloc(MEMORY);
    g_autoptr(GRand) rand = g_rand_new_with_seed(5);
    for (unsigned round = 0; round < 200; round++) {
        g_autofree bool *there = g_new0(bool, PAGES);
        int fd = new_file();
        fill(memory);
        AUTO(saved_writer) w = saved_writer_new(fd);
        const uint64_t place = saved_add_memory(w, "ram", 0, MEMORY);
        for (unsigned i = 0; i < WRITES; i++) {
            const size_t from = g_rand_int(rand) % PAGES, length = 1 + g_rand_int(rand) % LENGTH;
            const size_t end = MIN(from + length, PAGES);
            bool first = true;
            for (size_t page = from; page < end; page++) {
                first = first && !there[page];
                there[page] = true;
            }
            memory[from * SAVED_PAGE + 9] = (uint8_t)g_rand_int(rand);
            for (size_t page = from; !first && page < end; page++)
                memset(memory + page * SAVED_PAGE, g_rand_int_range(rand, 0, 3), SAVED_PAGE);
            g_assert_cmpint(saved_write_pages(w, place + from * SAVED_PAGE, memory + from * SAVED_PAGE,
                                              (end - from) * SAVED_PAGE, first),
                            ==, 0);
        }
        g_assert_true(saved_finish(w, false, NULL));
        AUTO(saved) s = saved_open(fd, NULL);
        g_assert_true(saved_verify(s, NULL));
        g_assert_cmpint(pread(fd, read, MEMORY, (off_t)place), ==, MEMORY);
        for (unsigned page = 0; page < PAGES; page++)
            if (there[page])
                g_assert_cmpmem(read + page * SAVED_PAGE, SAVED_PAGE, memory + page * SAVED_PAGE, SAVED_PAGE);
        close(fd);
    }
}

static void refused(int fd, const char *why)
{
    g_autoptr(GError) error = NULL;
    AUTO(saved) s = saved_open(fd, &error);
    g_assert_null(s);
    g_assert_error(error, HOSTEL_ERROR, HOSTEL_ERROR_INPUT);
    g_test_message("%s: %s", why, error->message);
}

/* Each bit of head and sections that is not what it was, and each length that is not, is noticed. */
static void test_damage(void)
{
    g_autofree uint8_t *memory = g_malloc(MEMORY);
    struct stat status;
    int fd = new_file();
    fill(memory);
    write_one(fd, memory);
    g_assert_cmpint(fstat(fd, &status), ==, 0);
    uint8_t head[64];
    g_assert_cmpint(pread(fd, head, sizeof(head), 0), ==, sizeof(head));
    const uint64_t sections = ld64le(head + 16);
    unsigned tried = 0;
    for (uint64_t at = 0; at < (uint64_t)status.st_size; at = at == 63 ? sections : at + 1) {
        uint8_t byte, other;
        g_assert_cmpint(pread(fd, &byte, 1, (off_t)at), ==, 1);
        for (unsigned bit = 0; bit < 8; bit += 3) {
            other = (uint8_t)(byte ^ 1u << bit);
            g_assert_cmpint(pwrite(fd, &other, 1, (off_t)at), ==, 1);
            g_autoptr(GError) error = NULL;
            AUTO(saved) s = saved_open(fd, &error);
            /* Padding between sections says nothing. */
            g_assert_true(!s || !byte);
            g_assert_true(s || error);
            tried++;
        }
        g_assert_cmpint(pwrite(fd, &byte, 1, (off_t)at), ==, 1);
    }
    g_assert_cmpuint(tried, >, 3 * 400);
    g_assert_cmpint(ftruncate(fd, status.st_size + 1), ==, 0);
    refused(fd, "longer");
    for (off_t size = status.st_size - 1; size > (off_t)sections; size -= 13) {
        g_assert_cmpint(ftruncate(fd, size), ==, 0);
        refused(fd, "shorter");
    }
    g_assert_cmpint(ftruncate(fd, 63), ==, 0);
    refused(fd, "less than a head");
    close(fd);
}

/* What was cut off before its head, and what is no such file. */
static void test_unfinished(void)
{
    g_autofree uint8_t *memory = g_malloc(MEMORY);
    int fd = new_file();
    fill(memory);
    AUTO(saved_writer) w = saved_writer_new(fd);
    const uint64_t place = saved_add_memory(w, "ram", 0, MEMORY);
    g_assert_cmpint(saved_write_pages(w, place, memory, MEMORY, true), ==, 0);
    refused(fd, "without head");
    g_assert_cmpint(pwrite(fd, "\177ELF", 4, 0), ==, 4);
    refused(fd, "another file");
    close(fd);
}

/* A head and sections with any numbers in them but true checksums: refused or read, within bounds. */
static void test_hostile(void)
{
    g_autofree uint8_t *memory = g_malloc(MEMORY);
    GRand *rand = g_rand_new_with_seed(5);
    struct stat status;
    int fd = new_file();
    fill(memory);
    write_one(fd, memory);
    g_assert_cmpint(fstat(fd, &status), ==, 0);
    uint8_t head[64], wild[64];
    g_assert_cmpint(pread(fd, head, sizeof(head), 0), ==, sizeof(head));
    for (unsigned round = 0; round < 20000; round++) {
        static const uint64_t numbers[] = {0,          1,          7,         4096,
                                           UINT32_MAX, UINT64_MAX, INT64_MAX, UINT64_C(1) << 62};
        memcpy(wild, head, sizeof(wild));
        const unsigned at = 8 + 4 * (unsigned)g_rand_int_range(rand, 0, 7);
        const uint64_t number = numbers[g_rand_int_range(rand, 0, G_N_ELEMENTS(numbers))];
        st64le(wild + at, g_rand_boolean(rand) ? number : ld64le(head + at) + number);
        st32le(wild + 60, crc32c(0, wild, 60));
        g_assert_cmpint(pwrite(fd, wild, sizeof(wild), 0), ==, sizeof(wild));
        g_autoptr(GError) error = NULL;
        AUTO(saved) s = saved_open(fd, &error);
        g_assert_true(!s != !error);
    }
    g_rand_free(rand);
    close(fd);
}

/* Sections whose own numbers are impossible. */
static void test_memory_section(void)
{
    static const struct {
        uint64_t base, size, place;
        size_t bytes;
    } bad[] = {
        {0, SAVED_PAGE, 0, 28},                         /* over the head */
        {0, SAVED_PAGE, SAVED_PAGE, 24},                /* no sums */
        {0, SAVED_PAGE, SAVED_PAGE + 1, 28},            /* not a page */
        {0, SAVED_PAGE - 1, SAVED_PAGE, 28},            /* likewise */
        {0, 0, SAVED_PAGE, 24},                         /* nothing */
        {0, UINT64_MAX - 4095, SAVED_PAGE, 28},         /* enormous */
        {0, SAVED_PAGE, UINT64_MAX - 4095, 28},         /* far */
        {0, SAVED_PAGE, SAVED_PAGE * UINT64_C(64), 28}, /* behind the end of memory */
        {0, SAVED_PAGE, SAVED_PAGE, 8},                 /* cut off */
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        int fd = new_file();
        uint8_t bytes[32] = {0};
        g_autoptr(GError) error = NULL;
        AUTO(saved_writer) w = saved_writer_new(fd);
        saved_add_memory(w, "other", 0, SAVED_PAGE);
        st64le(bytes, bad[i].base);
        st64le(bytes + 8, bad[i].size);
        st64le(bytes + 16, bad[i].place);
        saved_add(w, "memory", "ram", 1, bytes, bad[i].bytes);
        g_assert_true(saved_finish(w, false, &error));
        AUTO(saved) s = saved_open(fd, &error);
        g_assert_no_error(error);
        struct saved_memory out;
        g_assert_false(saved_find_memory(s, "ram", &out, &error));
        g_assert_error(error, HOSTEL_ERROR, HOSTEL_ERROR_INPUT);
        g_clear_error(&error);
        g_assert_false(saved_verify(s, &error));
        close(fd);
    }
}

/* Versions from the future, and what is there twice. */
static void test_refusals(void)
{
    g_autoptr(GError) error = NULL;
    int fd = new_file();
    AUTO(saved_writer) w = saved_writer_new(fd);
    saved_add(w, "device", "uart", 4, "x", 1);
    g_assert_true(saved_finish(w, false, &error));
    AUTO(saved) s = saved_open(fd, &error);
    g_assert_null(saved_find(s, "device", "uart", 3, &error));
    g_assert_error(error, HOSTEL_ERROR, HOSTEL_ERROR_UNSUPPORTED);
    g_clear_error(&error);
    g_assert_null(saved_find(s, "device", "rtc", 3, &error));
    g_assert_error(error, HOSTEL_ERROR, HOSTEL_ERROR_INPUT);
    close(fd);

    int twice = new_file();
    AUTO(saved_writer) v = saved_writer_new(twice);
    saved_add(v, "device", "uart", 1, "x", 1);
    saved_add(v, "device", "uart", 1, "x", 1);
    g_assert_true(saved_finish(v, false, NULL));
    refused(twice, "twice");
    close(twice);
}

/* One bit of memory. */
static void test_verify(void)
{
    g_autofree uint8_t *memory = g_malloc(MEMORY);
    int fd = new_file();
    fill(memory);
    const uint64_t place = write_one(fd, memory);
    GRand *rand = g_rand_new_with_seed(9);
    for (unsigned i = 0; i < 50; i++) {
        const uint64_t at = place + (uint64_t)g_rand_int_range(rand, 0, MEMORY);
        uint8_t byte;
        g_assert_cmpint(pread(fd, &byte, 1, (off_t)at), ==, 1);
        byte ^= 0x10;
        g_assert_cmpint(pwrite(fd, &byte, 1, (off_t)at), ==, 1);
        g_autoptr(GError) error = NULL;
        AUTO(saved) s = saved_open(fd, &error);
        g_assert_no_error(error);
        g_assert_false(saved_verify(s, &error));
        g_assert_error(error, HOSTEL_ERROR, HOSTEL_ERROR_INPUT);
        byte ^= 0x10;
        g_assert_cmpint(pwrite(fd, &byte, 1, (off_t)at), ==, 1);
        g_assert_true(saved_verify(s, NULL));
    }
    g_rand_free(rand);
    close(fd);
}

/* --- kept in something that is no file --- */

struct shelf {
    GByteArray *bytes;
    unsigned calls, fail_at; /* the call that fails, from 1 on; 0 = none */
    bool durable;
};

static int shelf_call(struct shelf *f)
{
    return ++f->calls == f->fail_at ? -EIO : 0;
}

static int shelf_write(void *opaque, const void *bytes, size_t size, uint64_t at)
{
    struct shelf *f = opaque;
    const guint before = f->bytes->len;
    if (at + size > before) {
        g_byte_array_set_size(f->bytes, (guint)(at + size));
        memset(f->bytes->data + before, 0, f->bytes->len - before);
    }
    memcpy(f->bytes->data + at, bytes, size);
    f->durable = false;
    return shelf_call(f);
}

static int shelf_read(void *opaque, void *bytes, size_t size, uint64_t at)
{
    struct shelf *f = opaque;
    if (at + size > f->bytes->len)
        return -ENODATA;
    memcpy(bytes, f->bytes->data + at, size);
    return shelf_call(f);
}

static int shelf_size(void *opaque, uint64_t *size)
{
    *size = ((struct shelf *)opaque)->bytes->len;
    return shelf_call(opaque);
}

static int shelf_sync(void *opaque)
{
    ((struct shelf *)opaque)->durable = true;
    return shelf_call(opaque);
}

static const struct saved_ops shelf_write_only = {.write = shelf_write};
static const struct saved_ops shelf_all = {
    .read = shelf_read, .write = shelf_write, .size = shelf_size, .sync = shelf_sync};

/* Pages in pieces, in order; again: some of them twice. */
static bool shelf_save(struct shelf *f, const struct saved_ops *ops, const uint8_t *memory, bool again)
{
    AUTO(saved_writer) w = saved_writer_new_io((struct saved_io){ops, f});
    const uint64_t place = saved_add_memory(w, "ram", 0x80000000, MEMORY);
    for (uint64_t at = 0, here; at < MEMORY; at += here) {
        here = MIN(MEMORY - at, 60 * SAVED_PAGE);
        if (saved_write_pages(w, place + at, memory + at, here, true))
            return false;
    }
    if (again && saved_write_pages(w, place, memory, 5 * SAVED_PAGE, false))
        return false;
    saved_add(w, "device", "uart", 3, "0123456789", 10);
    if (!saved_finish(w, true, NULL))
        return false;
    g_assert_cmpuint(saved_writer_size(w), ==, f->bytes->len);
    return true;
}

static int take_pages(void *opaque, uint64_t at, const uint8_t *bytes, size_t size)
{
    memcpy((uint8_t *)opaque + at, bytes, size);
    return 0;
}

static bool shelf_load(struct shelf *f, uint8_t *memory)
{
    AUTO(saved) s = saved_open_io((struct saved_io){&shelf_all, f}, NULL);
    return s && saved_find(s, "device", "uart", 3, NULL) &&
           saved_read_memory(s, "ram", take_pages, memory, NULL) && saved_verify(s, NULL);
}

static void test_io(void)
{
    g_autofree uint8_t *memory = g_malloc(MEMORY), *read = g_malloc0(MEMORY);
    fill(memory);
    for (unsigned again = 0; again < 2; again++) {
        struct shelf f = {.bytes = g_byte_array_new()};
        g_assert_true(shelf_save(&f, again ? &shelf_all : &shelf_write_only, memory, again));
        g_assert_true(f.durable == again); /* where that is possible */
        memset(read, 0, MEMORY);
        g_assert_true(shelf_load(&f, read));
        g_assert_cmpmem(read, MEMORY, memory, MEMORY);
        g_byte_array_unref(f.bytes);
    }
    /* What is written again has to be read. */
    struct shelf f = {.bytes = g_byte_array_new()};
    g_assert_false(shelf_save(&f, &shelf_write_only, memory, true));
    g_byte_array_unref(f.bytes);
}

/* Each call fails once: told, whether it reads or writes, and what was cut off is refused. */
static void test_io_fails(void)
{
    g_autofree uint8_t *memory = g_malloc(MEMORY), *read = g_malloc0(MEMORY);
    fill(memory);
    struct shelf whole = {.bytes = g_byte_array_new()};
    g_assert_true(shelf_save(&whole, &shelf_all, memory, true));
    const unsigned writes = whole.calls;
    for (unsigned i = 1; i <= writes; i++) {
        struct shelf f = {.bytes = g_byte_array_new(), .fail_at = i};
        g_assert_false(shelf_save(&f, &shelf_all, memory, true));
        g_assert_true(shelf_load(&f, read) == (i >= writes - 1)); /* the head, and its sync, are there */
        g_byte_array_unref(f.bytes);
    }
    whole.calls = 0;
    g_assert_true(shelf_load(&whole, read));
    const unsigned reads = whole.calls;
    for (unsigned i = 1; i <= reads; i++) {
        whole.calls = 0;
        whole.fail_at = i;
        g_assert_false(shelf_load(&whole, read));
    }
    whole.fail_at = 0;

    /* A damaged page is found by whoever reads it. */
    AUTO(saved) s = saved_open_io((struct saved_io){&shelf_all, &whole}, NULL);
    g_autoptr(GError) error = NULL;
    struct saved_memory ram;
    g_assert_true(saved_find_memory(s, "ram", &ram, NULL));
    whole.bytes->data[ram.place + 203 * SAVED_PAGE + 203] ^= 1;
    g_assert_false(saved_read_memory(s, "ram", take_pages, read, &error));
    g_assert_nonnull(strstr(error->message, "checksum"));
    g_byte_array_unref(whole.bytes);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/saved/round", test_round);
    g_test_add_func("/saved/again", test_again);
    g_test_add_func("/saved/damage", test_damage);
    g_test_add_func("/saved/unfinished", test_unfinished);
    g_test_add_func("/saved/hostile", test_hostile);
    g_test_add_func("/saved/any-order", test_any_order);
    g_test_add_func("/saved/memory-section", test_memory_section);
    g_test_add_func("/saved/refusals", test_refusals);
    g_test_add_func("/saved/verify", test_verify);
    g_test_add_func("/saved/io", test_io);
    g_test_add_func("/saved/io-fails", test_io_fails);
    return g_test_run();
}
