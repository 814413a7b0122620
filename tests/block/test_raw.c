/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Driver raw and what all drivers have in common when things go wrong: locks, holes, failed flushes, wrong
 * files. */
#include <errno.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/bits.h"
#include "block/file.h"
#include "block/filter/fault.h"
#include "rig.h"

/* A named file of size bytes; the name is owned by the caller, who unlinks it. */
static char *named_file(uint64_t size)
{
    char *path = g_build_filename(g_get_tmp_dir(), "hostel-disk-XXXXXX", NULL);
    int fd = g_mkstemp(path);
    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(ftruncate(fd, (off_t)size), ==, 0);
    close(fd);
    return path;
}

static struct disk *open_path(const char *path, bool readonly, GError **error)
{
    int fd = block_file_open(path, readonly, error);
    if (fd < 0)
        return NULL;
    struct block_config config = {.name = path, .fd = fd, .readonly = readonly};
    return block_open(block_driver_find("raw"), &config, error);
}

static void assert_fails(const char *path, bool readonly, const char *word)
{
    g_autoptr(GError) error = NULL;
    g_assert_null(open_path(path, readonly, &error));
    if (!strstr(error->message, word))
        g_error("'%s' does not say '%s'", error->message, word);
    g_assert_nonnull(strstr(error->message, path));
}

static int write_at(struct disk *b, const void *bytes, size_t size, uint64_t offset)
{
    const struct iovec iov = {(void *)(uintptr_t)bytes, size};
    return block_write(b, &iov, 1, offset);
}

static int read_at(struct disk *b, void *bytes, size_t size, uint64_t offset)
{
    const struct iovec iov = {bytes, size};
    return block_read(b, &iov, 1, offset, 0);
}

/* --- files --- */

static void test_wrong_files(void)
{
    assert_fails("/nonexistent/disk", false, "truncate -s 4G");
    assert_fails(g_get_tmp_dir(), false, "directory");
    assert_fails(g_get_tmp_dir(), true, "directory");
    assert_fails("/dev/null", false, "neither a file nor a block device");
    g_autofree char *path = named_file(0);
    assert_fails(path, false, "empty");
    g_assert_cmpint(truncate(path, 1000), ==, 0);
    assert_fails(path, true, "1000 bytes");
    assert_fails(path, true, "truncate -s 1024");
    g_unlink(path);
}

static void test_permission(void)
{
    if (!geteuid()) {
        g_test_skip("root may open everything");
        return;
    }
    g_autofree char *path = named_file(512);
    g_assert_cmpint(chmod(path, 0400), ==, 0);
    assert_fails(path, false, "readonly=on");
    AUTO(disk) b = open_path(path, true, NULL);
    g_assert_nonnull(b);
    g_unlink(path);
}

/* One writer or many readers; a lock ends with its disk. */
static void test_locks(void)
{
    g_autofree char *path = named_file(4096);
    struct disk *writer = open_path(path, false, NULL);
    g_assert_nonnull(writer);
    assert_fails(path, false, "in use by another guest");
    assert_fails(path, true, "which writes to it");
    block_free(writer);
    struct disk *a = open_path(path, true, NULL), *b = open_path(path, true, NULL);
    g_assert_nonnull(a);
    g_assert_nonnull(b);
    assert_fails(path, false, "readonly=on");
    block_free(a);
    assert_fails(path, false, "in use");
    block_free(b);
    writer = open_path(path, false, NULL);
    g_assert_nonnull(writer);
    block_free(writer);
    g_unlink(path);
}

/* Opening and closing the file meanwhile, as classic locks of a process do not survive. */
static void test_lock_stays(void)
{
    g_autofree char *path = named_file(4096);
    AUTO(disk) writer = open_path(path, false, NULL);
    g_assert_nonnull(writer);
    close(open(path, O_RDWR));
    assert_fails(path, false, "in use");
    g_unlink(path);
}

static void test_readonly(void)
{
    g_autofree char *path = named_file(4096);
    AUTO(disk) b = open_path(path, true, NULL);
    char bytes[512] = {0};
    g_assert_true(b->facts.readonly);
    g_assert_cmpint(read_at(b, bytes, sizeof(bytes), 0), ==, 0);
    g_assert_cmpint(write_at(b, bytes, sizeof(bytes), 0), ==, -EROFS);
    g_assert_cmpint(block_zero(b, 0, 512, 0), ==, -EROFS);
    g_assert_cmpint(block_discard(b, 0, 512), ==, -EROFS);
    g_assert_cmpint(block_flush(b), ==, 0);
    g_unlink(path);
}

/* A descriptor that cannot be written to is no disk to write to. */
static void test_descriptor_mode(void)
{
    g_autofree char *path = named_file(4096);
    struct block_config config = {.name = path, .fd = open(path, O_RDONLY)};
    g_autoptr(GError) error = NULL;
    g_assert_null(block_open(block_driver_find("raw"), &config, &error));
    g_assert_nonnull(strstr(error->message, "not open for reading and writing"));
    g_unlink(path);
}

/* What looks like an image of another format is bytes like any other. */
static void test_never_guessed(void)
{
    AUTO(disk) b = rig_disk(block_driver_find("raw"), 65536);
    static const uint8_t qcow2[8] = {'Q', 'F', 'I', 0xfb, 0, 0, 0, 3};
    uint8_t back[8] = {0};
    g_assert_cmpint(write_at(b, qcow2, sizeof(qcow2), 0), ==, 0);
    int fd = rig_file(65536);
    g_assert_cmpint(pwrite(fd, qcow2, sizeof(qcow2), 0), ==, sizeof(qcow2));
    struct block_config config = {.name = "q", .fd = fd};
    AUTO(disk) again = block_open(block_driver_find("raw"), &config, NULL);
    g_assert_cmpuint(again->facts.size, ==, 65536);
    g_assert_cmpint(read_at(again, back, sizeof(back), 0), ==, 0);
    g_assert_cmpmem(back, 8, qcow2, 8);
}

/* --- space --- */

static void test_holes(void)
{
    const uint64_t piece = 64 * KiB;
    int fd = rig_file(16 * piece), copy = dup(fd);
    struct block_config config = {.name = "holes", .fd = fd};
    AUTO(disk) b = block_open(block_driver_find("raw"), &config, NULL);
    g_autofree uint8_t *ones = g_malloc(4 * piece);
    memset(ones, 1, 4 * piece);
    g_assert_cmpint(write_at(b, ones, 4 * piece, 4 * piece), ==, 0);
    struct block_extent extent;
    g_assert_cmpint(block_extent(b, 0, 16 * piece, &extent), ==, 0);
    if (!extent.hole) {
        g_test_skip("the file system has no holes");
        close(copy);
        return;
    }
    g_assert_true(extent.zero);
    g_assert_cmpuint(extent.size, ==, 4 * piece);
    g_assert_cmpint(block_extent(b, 4 * piece, 2 * piece, &extent), ==, 0);
    g_assert_false(extent.hole);
    g_assert_cmpuint(extent.size, ==, 2 * piece);
    g_assert_cmpint(block_extent(b, 9 * piece, 3 * piece, &extent), ==, 0);
    g_assert_true(extent.hole);
    g_assert_cmpuint(extent.size, ==, 3 * piece);

    struct stat before, after;
    g_assert_cmpint(block_flush(b), ==, 0);
    g_assert_cmpint(fstat(copy, &before), ==, 0);
    g_assert_cmpint(block_discard(b, 4 * piece, 4 * piece), ==, 0);
    g_assert_cmpint(fstat(copy, &after), ==, 0);
    g_assert_cmpint(after.st_blocks, <, before.st_blocks);
    g_assert_cmpint(after.st_size, ==, before.st_size);
    close(copy);
}

/* --- trouble --- */

/* The file became shorter behind our back. */
static void test_cut_off(void)
{
    int fd = rig_file(8192), copy = dup(fd);
    struct block_config config = {.name = "short", .fd = fd};
    AUTO(disk) b = block_open(block_driver_find("raw"), &config, NULL);
    g_assert_cmpint(ftruncate(copy, 4096), ==, 0);
    uint8_t bytes[1024];
    g_assert_cmpint(read_at(b, bytes, sizeof(bytes), 0), ==, 0);
    g_assert_cmpint(read_at(b, bytes, sizeof(bytes), 3584), ==, -EIO); /* the second half is gone */
    g_assert_cmpint(read_at(b, bytes, sizeof(bytes), 4096), ==, -EIO);
    close(copy);
}

/* A limit on file sizes makes the kernel write less than was asked for, in the middle of a buffer. */
static void test_short_writes(void)
{
    struct rlimit before, limit;
    AUTO(disk) b = rig_disk(block_driver_find("raw"), 64 * KiB);
    uint8_t bytes[3][1000], back[3000];
    struct iovec iov[3];
    for (unsigned i = 0; i < 3; i++) {
        memset(bytes[i], (int)i + 1, sizeof(bytes[i]));
        iov[i] = (struct iovec){bytes[i], sizeof(bytes[i])};
    }
    signal(SIGXFSZ, SIG_IGN);
    g_assert_cmpint(getrlimit(RLIMIT_FSIZE, &before), ==, 0);
    limit = before;
    limit.rlim_cur = 4096 + 1500;
    g_assert_cmpint(setrlimit(RLIMIT_FSIZE, &limit), ==, 0);
    int status = block_write(b, iov, 3, 4096);
    g_assert_cmpint(setrlimit(RLIMIT_FSIZE, &before), ==, 0);
    g_assert_cmpint(status, ==, -EFBIG);
    g_assert_cmpint(read_at(b, back, sizeof(back), 4096), ==, 0);
    for (unsigned i = 0; i < 1500; i++)
        g_assert_cmpuint(back[i], ==, i / 1000 + 1);
    g_assert_cmpuint(back[1500], ==, 0);
    g_assert_cmpint(block_write(b, iov, 3, 4096), ==, 0);
}

/* After one failed flush nothing is acknowledged any more, whatever storage says later. */
static void test_lost(void)
{
    AUTO(disk) b = block_fault_new(rig_disk(block_driver_find("memory"), 4096));
    char bytes[512] = {1};
    g_assert_cmpint(write_at(b, bytes, 512, 0), ==, 0);
    g_assert_cmpint(block_flush(b), ==, 0);
    block_fault_set(b, BLOCK_FAULT_FLUSH, 0, 1, -ENOSPC, 0);
    g_assert_cmpint(block_flush(b), ==, -ENOSPC);
    unsigned asked = block_fault_count(b, BLOCK_FAULT_FLUSH);
    g_assert_cmpint(block_flush(b), ==, -EIO);
    g_assert_cmpuint(block_fault_count(b, BLOCK_FAULT_FLUSH), ==, asked); /* not even tried */
    g_assert_cmpint(write_at(b, bytes, 512, 0), ==, -EIO);
    g_assert_cmpint(block_zero(b, 0, 512, 0), ==, -EIO);
    g_assert_cmpint(block_discard(b, 0, 512), ==, -EIO);
    g_assert_cmpint(read_at(b, bytes, 512, 0), ==, 0);
}

static gpointer flush_many(gpointer disk)
{
    unsigned failed = 0;
    for (unsigned i = 0; i < 200; i++)
        failed += block_flush(disk) != 0;
    return GUINT_TO_POINTER(failed);
}

static gpointer flush_one(gpointer disk)
{
    return GINT_TO_POINTER(block_flush(disk));
}

/* Those who ask at once share what they wait for; when one is told of a loss, so is everybody. */
static void test_shared_flush(void)
{
    GThread *threads[4];
    unsigned failed = 0;
    AUTO(disk) b = block_fault_new(rig_disk(block_driver_find("memory"), 4096));
    for (unsigned i = 0; i < 4; i++)
        threads[i] = g_thread_new(NULL, flush_many, b);
    for (unsigned i = 0; i < 4; i++)
        failed += GPOINTER_TO_UINT(g_thread_join(threads[i]));
    g_assert_cmpuint(failed, ==, 0);
    unsigned done = block_fault_count(b, BLOCK_FAULT_FLUSH);
    g_assert_cmpuint(done, >=, 200);
    g_assert_cmpuint(done, <=, 800);

    /* One is under way; three wait for the next, which is one. */
    block_fault_gate(b, true);
    GThread *first = g_thread_new(NULL, flush_one, b);
    while (block_fault_count(b, BLOCK_FAULT_FLUSH) == done)
        usleep(100);
    for (unsigned i = 0; i < 3; i++)
        threads[i] = g_thread_new(NULL, flush_one, b);
    usleep(50000);
    block_fault_set(b, BLOCK_FAULT_FLUSH, 0, 1, -EIO, 0);
    block_fault_gate(b, false);
    g_assert_cmpint(GPOINTER_TO_INT(g_thread_join(first)), ==, 0);
    for (unsigned i = 0; i < 3; i++)
        g_assert_cmpint(GPOINTER_TO_INT(g_thread_join(threads[i])), ==, -EIO);
    g_assert_cmpuint(block_fault_count(b, BLOCK_FAULT_FLUSH), ==, done + 2);
}

/* Any other error is of its operation alone; at every write index. */
static void test_each_write(void)
{
    enum { WRITES = 20 };
    for (unsigned at = 0; at < WRITES; at++) {
        AUTO(disk) b = block_fault_new(rig_disk(block_driver_find("memory"), WRITES * 512));
        block_fault_set(b, BLOCK_FAULT_WRITE, at, 1, -ENOSPC, 100);
        for (unsigned i = 0; i < WRITES; i++) {
            uint8_t bytes[512];
            memset(bytes, (int)i + 1, sizeof(bytes));
            g_assert_cmpint(write_at(b, bytes, 512, i * 512), ==, i == at ? -ENOSPC : 0);
        }
        g_assert_cmpint(block_flush(b), ==, 0);
        for (unsigned i = 0; i < WRITES; i++) {
            uint8_t bytes[512];
            g_assert_cmpint(read_at(b, bytes, 512, i * 512), ==, 0);
            g_assert_cmpuint(bytes[0], ==, i + 1);
            g_assert_cmpuint(bytes[511], ==, i == at ? 0 : i + 1);
        }
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/raw/wrong-files", test_wrong_files);
    g_test_add_func("/raw/permission", test_permission);
    g_test_add_func("/raw/locks", test_locks);
    g_test_add_func("/raw/lock-stays", test_lock_stays);
    g_test_add_func("/raw/readonly", test_readonly);
    g_test_add_func("/raw/descriptor-mode", test_descriptor_mode);
    g_test_add_func("/raw/never-guessed", test_never_guessed);
    g_test_add_func("/raw/holes", test_holes);
    g_test_add_func("/raw/cut-off", test_cut_off);
    g_test_add_func("/raw/short-writes", test_short_writes);
    g_test_add_func("/block/lost", test_lost);
    g_test_add_func("/block/shared-flush", test_shared_flush);
    g_test_add_func("/block/each-write", test_each_write);
    return g_test_run();
}
