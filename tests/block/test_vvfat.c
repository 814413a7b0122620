/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A folder as a FAT disk: dosfstools find nothing wrong with it, mtools read what is in it, links stay out.
 */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bits.h"
#include "block/block.h"

/* As the driver's rows say; a test may give its options in this way, too. */
struct values {
    const char *dir, *fat_type, *label;
    bool floppy;
};

enum { START = 2048 * 512 };

static char *make_folder(void)
{
    char *folder = g_build_filename(g_get_tmp_dir(), "hostel-vvfat-XXXXXX", NULL);
    g_assert_nonnull(g_mkdtemp(folder));
    return folder;
}

static void remove_all(const char *folder)
{
    g_autofree char *command = g_strdup_printf("rm -rf '%s'", folder);
    g_assert_cmpint(system(command), ==, 0);
}

static void put(const char *folder, const char *name, const void *bytes, size_t size)
{
    g_autofree char *path = g_build_filename(folder, name, NULL);
    g_autofree char *parent = g_path_get_dirname(path);
    g_assert_cmpint(g_mkdir_with_parents(parent, 0700), ==, 0);
    g_assert_true(g_file_set_contents(path, bytes, (gssize)size, NULL));
}

/* size bytes that depend on seed. */
static char *make_bytes(size_t size, unsigned seed)
{
    char *bytes = g_malloc(size + 1);
    for (size_t i = 0; i < size; i++)
        bytes[i] = (char)((i * 7 + i / 256 + seed) & 0xff);
    return bytes;
}

static struct disk *try_open(const struct values *values, bool readonly, GError **error)
{
    struct block_config config = {.name = "folder", .fd = -1, .readonly = readonly, .options = values};
    const struct block_driver *driver = block_driver_find("vvfat");
    g_assert_cmpuint(driver->options_size, ==, sizeof(*values));
    return block_open(driver, &config, error);
}

static struct disk *open_folder(const char *folder, const char *fat_type, bool floppy)
{
    g_autoptr(GError) error = NULL;
    const struct values values = {.dir = folder, .fat_type = fat_type, .label = "Tests", .floppy = floppy};
    struct disk *b = try_open(&values, true, &error);
    g_assert_no_error(error);
    return b;
}

/* The disk as a file of its own, sparse; in pieces that end anywhere. */
static char *dump(struct disk *b)
{
    enum { PIECE = 1000003 };
    static uint8_t bytes[PIECE], zeroes[PIECE];
    char *path = g_build_filename(g_get_tmp_dir(), "hostel-fat-XXXXXX", NULL);
    int fd = g_mkstemp(path);
    g_assert_cmpint(fd, >=, 0);
    const uint64_t size = b->facts.size;
    g_assert_cmpint(ftruncate(fd, (off_t)size), ==, 0);
    for (uint64_t at = 0; at < size; at += PIECE) {
        const size_t now = (size_t)MIN(PIECE, size - at);
        g_assert_cmpint(block_pread(b, bytes, now, at), ==, 0);
        if (memcmp(bytes, zeroes, now) != 0)
            g_assert_cmpint(pwrite(fd, bytes, now, (off_t)at), ==, (ssize_t)now);
    }
    close(fd);
    return path;
}

/* Standard output of a command of the shell, which must succeed. */
static char *run(const char *format, ...) __attribute__((format(printf, 1, 2)));
static char *run(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *line = g_strdup_vprintf(format, args);
    va_end(args);
    const char *argv[] = {"/bin/sh", "-c", line, NULL};
    char *out = NULL;
    g_autofree char *err = NULL;
    int status = 0;
    g_autoptr(GError) error = NULL;
    g_spawn_sync(NULL, (char **)(uintptr_t)argv, NULL, G_SPAWN_DEFAULT, NULL, NULL, &out, &err, &status,
                 &error);
    g_assert_no_error(error);
    if (status)
        g_error("%s\n%s%s", line, out, err);
    return out;
}

static bool have_tools(void)
{
    g_autofree char *fsck = g_find_program_in_path("fsck.fat"), *mtype = g_find_program_in_path("mtype");
    if (!fsck && !g_file_test("/usr/sbin/fsck.fat", G_FILE_TEST_IS_EXECUTABLE)) {
        g_test_skip("fsck.fat is not installed (package dosfstools)");
        return false;
    }
    if (!mtype) {
        g_test_skip("mtools is not installed");
        return false;
    }
    return true;
}

/* fsck.fat wants the volume alone. */
static void check_volume(const char *image, uint64_t start)
{
    g_autofree char *volume = g_strdup_printf("%s.volume", image);
    g_free(run("dd if='%s' of='%s' bs=65536 iflag=skip_bytes skip=%u conv=sparse status=none", image, volume,
               (unsigned)start));
    g_autofree char *said = run("PATH=$PATH:/usr/sbin:/sbin fsck.fat -n '%s' 2>&1", volume);
    if (strstr(said, "differ") || strstr(said, "Wrong") || strstr(said, "Dirty"))
        g_error("%s", said);
    unlink(volume);
}

static void check_file(const char *image, uint64_t start, const char *folder, const char *name)
{
    g_autofree char *path = g_build_filename(folder, name, NULL);
    g_free(
        run("MTOOLS_SKIP_CHECK=1 mtype -i '%s@@%u' '::%s' | cmp - '%s'", image, (unsigned)start, name, path));
}

static const char *const names[] = {
    "README",
    "readme2.txt",
    "A name with blanks.text",
    "UPPER.TXT",
    "two.dots.here",
    ".hidden",
    ("gr\xc3\xbc\xc3\x9f"
     "e.txt"),
    "a+b,c;d=e.x",
    "sub/one",
    "sub/sub2/deep file of a folder.bin",
    "longest name that needs more than two parts of it.extension",
};

static void test_kind(gconstpointer data)
{
    const char *fat_type = data;
    if (!have_tools())
        return;
    const bool floppy = !strcmp(fat_type, "floppy");
    const uint64_t start = floppy ? 0 : START;
    g_autofree char *folder = make_folder();
    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *bytes = make_bytes(i * 9001, i);
        put(folder, names[i], bytes, i * 9001);
    }
    for (unsigned i = 0; !floppy && i < 700; i++) {
        g_autofree char *name = g_strdup_printf("many/a file of many %u.data", i);
        put(folder, name, name, i % 3 ? strlen(name) : 0);
    }
    AUTO(disk) b = open_folder(folder, floppy ? NULL : fat_type, floppy);
    g_autofree char *image = dump(b);
    check_volume(image, start);
    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++)
        check_file(image, start, folder, names[i]);
    if (!floppy)
        check_file(image, start, folder, "many/a file of many 698.data");
    g_autofree char *info = run("minfo -i '%s@@%u' ::", image, (unsigned)start);
    g_autofree char *kind = g_strdup_printf("disk type=\"FAT%s   \"", floppy ? "12" : fat_type);
    g_assert_nonnull(strstr(info, kind));
    g_assert_nonnull(strstr(info, "disk label=\"TESTS      \""));
    unlink(image);
    remove_all(folder);
}

/* What links point to is no part of the folder, also when a file becomes a link while it is open. */
static void test_links(void)
{
    g_autofree char *folder = make_folder(), *outside = make_folder();
    put(outside, "secret", "SECRETSECRET", 12);
    put(folder, "plain", "plain contents", 14);
    put(folder, "changes", "these will go away", 18);
    g_autofree char *secret = g_build_filename(outside, "secret", NULL);
    g_autofree char *link = g_build_filename(folder, "link", NULL),
                    *changes = g_build_filename(folder, "changes", NULL);
    g_autofree char *folder_link = g_build_filename(folder, "folder", NULL);
    g_assert_cmpint(symlink(secret, link), ==, 0);
    g_assert_cmpint(symlink(outside, folder_link), ==, 0);
    AUTO(disk) b = open_folder(folder, "12", false);
    g_assert_cmpint(unlink(changes), ==, 0);
    g_assert_cmpint(symlink(secret, changes), ==, 0);

    bool plain = false, failed = false;
    for (uint64_t at = 0; at < b->facts.size; at += BLOCK_SECTOR) {
        char bytes[BLOCK_SECTOR];
        int status = block_pread(b, bytes, sizeof(bytes), at);
        failed |= status != 0;
        if (status)
            continue;
        g_assert_null(memmem(bytes, sizeof(bytes), "SECRET", 6));
        plain |= memmem(bytes, sizeof(bytes), "plain contents", 14) != NULL;
    }
    g_assert_true(plain);
    g_assert_true(failed); /* the file that became a link */
    remove_all(folder);
    remove_all(outside);
}

/* Files that change do so alone. */
static void test_changes(void)
{
    if (!have_tools())
        return;
    g_autofree char *folder = make_folder();
    for (unsigned i = 0; i < 5; i++) {
        g_autofree char *name = g_strdup_printf("FILE%u", i), *bytes = make_bytes(20000, i);
        put(folder, name, bytes, 20000);
    }
    AUTO(disk) b = open_folder(folder, NULL, false);
    g_autofree char *shorter = g_build_filename(folder, "FILE1", NULL),
                    *longer = g_build_filename(folder, "FILE2", NULL);
    g_assert_cmpint(truncate(shorter, 100), ==, 0);
    g_assert_cmpint(truncate(longer, 1 << 20), ==, 0);
    put(folder, "NEW", "new", 3);
    g_autofree char *image = dump(b);
    check_volume(image, START);
    check_file(image, START, folder, "FILE0");
    check_file(image, START, folder, "FILE3");
    g_assert_cmpint(truncate(longer, 20000), ==, 0);
    g_assert_cmpint(truncate(shorter, 20000), ==, 0); /* zeroes behind the first 100 bytes, as it was read */
    check_file(image, START, folder, "FILE1");
    check_file(image, START, folder, "FILE2");
    unlink(image);
    remove_all(folder);
}

/* Names that differ for the host alone, and many that begin alike. */
static void test_clashes(void)
{
    if (!have_tools())
        return;
    g_autofree char *folder = make_folder();
    const char *same[] = {"Name", "NAME",     "name",        "x:y",         "x?y",
                          "x*y",  "LONGNA~1", "long name a", "long name b", "bad\xff"};
    for (unsigned i = 0; i < G_N_ELEMENTS(same); i++)
        put(folder, same[i], same[i], strlen(same[i]));
    for (unsigned i = 0; i < 1200; i++) {
        g_autofree char *name = g_strdup_printf("alike in the beginning %u", i);
        put(folder, name, name, strlen(name));
    }
    AUTO(disk) b = open_folder(folder, "32", false);
    g_autofree char *image = dump(b);
    check_volume(image, START);
    check_file(image, START, folder, "alike in the beginning 1199");
    g_autofree char *listed = run("mdir -b -i '%s@@%u' :: | wc -l", image, (unsigned)START);
    g_assert_cmpint(atoi(listed), ==, 1200 + (int)G_N_ELEMENTS(same));
    unlink(image);
    remove_all(folder);
}

static void test_refusals(void)
{
    g_autofree char *folder = make_folder();
    const struct {
        struct values values;
        bool readonly;
        const char *says;
    } cases[] = {
        {{.dir = folder, .label = "X"}, false, "only read"},
        {{.label = "X"}, true, "dir="},
        {{.dir = "/nowhere/at/all", .label = "X"}, true, "cannot open"},
        {{.dir = folder, .label = ""}, true, "label"},
        {{.dir = folder, .label = "twelve chars"}, true, "label"},
        {{.dir = folder, .label = "a/b"}, true, "label"},
        {{.dir = folder, .label = "X", .fat_type = "16", .floppy = true}, true, "floppy"},
        {{.dir = folder, .label = "X", .fat_type = "12"}, true, "fat-type=32"},
    };
    g_autofree char *large = g_build_filename(folder, "large", NULL);
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        put(folder, "large", "", 0);
        g_assert_cmpint(truncate(large, i == G_N_ELEMENTS(cases) - 1 ? 200 << 20 : 0), ==, 0);
        g_assert_null(try_open(&cases[i].values, cases[i].readonly, &error));
        g_assert_nonnull(strstr(error->message, cases[i].says));
    }
    g_autoptr(GError) error = NULL;
    g_assert_cmpint(truncate(large, INT64_C(5) << 30), ==, 0);
    g_assert_null(try_open(&(struct values){.dir = folder, .label = "X"}, true, &error));
    g_assert_nonnull(strstr(error->message, "4 GiB"));
    remove_all(folder);
}

struct reader {
    struct disk *disk;
    const char *want;
    unsigned seed;
};

static gpointer read_much(gpointer data)
{
    const struct reader *r = data;
    g_autoptr(GRand) rand = g_rand_new_with_seed(r->seed);
    for (unsigned i = 0; i < 3000; i++) {
        char bytes[3000];
        const uint64_t at = (uint64_t)g_rand_int(rand) % (r->disk->facts.size - sizeof(bytes));
        const size_t size = (size_t)g_rand_int_range(rand, 1, sizeof(bytes));
        g_assert_cmpint(block_pread(r->disk, bytes, size, at), ==, 0);
        g_assert_true(memcmp(bytes, r->want + at, size) == 0);
    }
    return NULL;
}

/* More files than are kept open, by several threads. */
static void test_threads(void)
{
    g_autofree char *folder = make_folder();
    for (unsigned i = 0; i < 60; i++) {
        g_autofree char *name = g_strdup_printf("F%u", i), *bytes = make_bytes(30000, i);
        put(folder, name, bytes, 30000);
    }
    AUTO(disk) b = open_folder(folder, "12", false);
    g_autofree char *want = g_malloc((gsize)b->facts.size);
    g_assert_cmpint(block_pread(b, want, (size_t)b->facts.size, 0), ==, 0);
    struct reader readers[4];
    GThread *threads[4];
    for (unsigned i = 0; i < 4; i++) {
        readers[i] = (struct reader){b, want, i};
        threads[i] = g_thread_new("reader", read_much, &readers[i]);
    }
    for (unsigned i = 0; i < 4; i++)
        g_thread_join(threads[i]);
    remove_all(folder);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    static const char *const kinds[] = {"12", "16", "32", "floppy"};
    for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++) {
        g_autofree char *path = g_strdup_printf("/vvfat/%s", kinds[i]);
        g_test_add_data_func(path, kinds[i], test_kind);
    }
    g_test_add_func("/vvfat/links", test_links);
    g_test_add_func("/vvfat/changes", test_changes);
    g_test_add_func("/vvfat/clashes", test_clashes);
    g_test_add_func("/vvfat/refusals", test_refusals);
    g_test_add_func("/vvfat/threads", test_threads);
    return g_test_run();
}
