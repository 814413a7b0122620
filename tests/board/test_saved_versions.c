/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Guests that earlier versions saved go on: tables of state only grow, and files kept from then are loaded.
 */
/*
 * tests/board/saved/tables lists each table in each of its versions: how many bytes its plain form has, and a
 * checksum of the names, types and lengths of its fields. A field that is added with since = N + 1 and
 * version = N + 1 leaves the lines of older versions as they are and needs one more. Any other change alters
 * a line, and guests that were saved before would be loaded wrongly.
 *
 * tests/board/saved/format-1 is a saved machine of full.h: the size of the file, then each page that is not
 * all zeroes behind its place, compressed. `test_board_saved_versions --write` writes both files anew. The
 * first may only get longer by that; the second is a promise from the day of the first release on.
 */
#include <stdio.h>

#include "base/error.h"
#include "codec/crc32c.h"
#include "full.h"

static const char *const type_names[] = {
    [STATE_BOOL] = "bool", [STATE_U8] = "u8", [STATE_U16] = "u16", [STATE_U32] = "u32", [STATE_U64] = "u64"};

static char *file_path(const char *name)
{
    const char *root = g_getenv("HOSTEL_SOURCE");
    return g_build_filename(root ? root : ".", "tests/board/saved", name, NULL);
}

/* --- the list of tables --- */

static uint32_t table_sum(const struct state_field *fields, unsigned version)
{
    uint32_t crc = 0;
    for (const struct state_field *f = fields; f && f->name; f++) {
        g_autofree char *line = g_strdup_printf("%s %s %u\n", f->name, type_names[f->type], f->count);
        if (f->since <= version)
            crc = crc32c(crc, line, strlen(line));
    }
    return crc;
}

static void add_table(GPtrArray *lines, const char *name, const struct state_field *fields, unsigned newest)
{
    for (unsigned version = 1; version <= newest; version++)
        g_ptr_array_add(lines, g_strdup_printf("%s version %u: %zu bytes, sum %08x", name, version,
                                               state_size(fields, version), table_sum(fields, version)));
}

/* The tables as they are compiled. */
static GPtrArray *tables(void)
{
    GPtrArray *lines = g_ptr_array_new_with_free_func(g_free);
    for (unsigned i = 0; isas[i]; i++)
        add_table(lines, isas[i]->name, isas[i]->state, isas[i]->version);
    for (unsigned i = 0; device_types[i]; i++)
        add_table(lines, device_types[i]->name, device_types[i]->state, device_types[i]->version);
    return lines;
}

static const char *find_line(char *const *lines, const char *text, size_t length)
{
    for (; *lines; lines++)
        if (!strncmp(*lines, text, length) && (!text[length] || (*lines)[length] == text[length]))
            return *lines;
    return NULL;
}

/* The part of a line that says which table it is of. */
static size_t key_length(const char *line)
{
    return strcspn(line, ":");
}

static void test_tables(void)
{
    g_autofree char *path = file_path("tables"), *text = NULL;
    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    g_auto(GStrv) kept = g_strsplit(g_strchomp(text), "\n", -1);
    g_autoptr(GPtrArray) now = tables();
    for (guint i = 0; i < now->len; i++) {
        const char *line = now->pdata[i], *was = find_line(kept, line, key_length(line));
        if (!was)
            g_error("new: '%s'. Add this line to %s.", line, path);
        else if (strcmp(line, was) != 0)
            g_error(
                "'%s' was '%s': a state[] table was changed without a new version, so guests saved before "
                "would be loaded wrongly. Leave its fields as they were, give new ones since = version + 1, "
                "raise the type's version, and add the line that this test then asks for.",
                line, was);
    }
    g_ptr_array_add(now, NULL);
    for (char **line = kept; *line; line++)
        if (!find_line((char *const *)now->pdata, *line, key_length(*line)))
            g_error("'%s' is in %s and no longer compiled: guests saved with it cannot go on", *line, path);
}

/* --- the kept file --- */

static GByteArray *pack(int fd)
{
    uint8_t page[SAVED_PAGE], number[8];
    g_autoptr(GByteArray) out = g_byte_array_new();
    const off_t size = lseek(fd, 0, SEEK_END);
    st64le(number, (uint64_t)size);
    g_byte_array_append(out, number, 8);
    for (off_t at = 0; at < size; at += SAVED_PAGE) {
        memset(page, 0, sizeof(page));
        g_assert_cmpint(pread(fd, page, sizeof(page), at), >, 0);
        if (!page[0] && !memcmp(page, page + 1, SAVED_PAGE - 1))
            continue;
        st64le(number, (uint64_t)at);
        g_byte_array_append(out, number, 8);
        g_byte_array_append(out, page, SAVED_PAGE);
    }
    return make_gzip(out);
}

static int unpack(const char *path)
{
    enum { UNPACKED_MAX = 4 << 20 };
    g_autofree char *packed = NULL;
    g_autofree uint8_t *bytes = g_malloc(UNPACKED_MAX);
    gsize length;
    z_stream z = {.next_out = bytes, .avail_out = UNPACKED_MAX};
    g_assert_true(g_file_get_contents(path, &packed, &length, NULL));
    z.next_in = (uint8_t *)packed;
    z.avail_in = (uInt)length;
    g_assert_cmpint(inflateInit2(&z, 15 + 16), ==, Z_OK);
    g_assert_cmpint(inflate(&z, Z_FINISH), ==, Z_STREAM_END);
    inflateEnd(&z);
    int fd = full_file();
    const uint64_t size = ld64le(bytes);
    for (size_t at = 8; at < z.total_out; at += 8 + SAVED_PAGE)
        g_assert_cmpint(pwrite(fd, bytes + at + 8, SAVED_PAGE, (off_t)ld64le(bytes + at)), ==, SAVED_PAGE);
    g_assert_cmpint(ftruncate(fd, (off_t)size), ==, 0);
    return fd;
}

static int kept_file(void)
{
    g_autofree char *path = file_path("format-1");
    return unpack(path);
}

/* Has it all sections of the other, with the same bytes where the version is the same? */
static void assert_same_sections(int fd, int other)
{
    unsigned count, same = 0;
    AUTO(saved) a = saved_open(fd, NULL);
    AUTO(saved) b = saved_open(other, NULL);
    const struct saved_section *sections = saved_sections(a, &count);
    for (unsigned i = 0; i < count; i++) {
        const struct saved_section *there = saved_look(b, sections[i].kind, sections[i].name);
        g_assert_nonnull(there);
        if (there->version != sections[i].version || !strcmp(there->kind, "memory"))
            continue;
        g_test_message("%s %s", there->kind, there->name);
        g_assert_cmpmem(there->bytes, there->size, sections[i].bytes, sections[i].size);
        same++;
    }
    g_test_message("%u of %u sections", same, count);
}

static void load_kept(struct machine *m, int fd)
{
    uint64_t counted;
    g_autoptr(GError) error = NULL;
    AUTO(saved) s = saved_open(fd, &error);
    g_assert_no_error(error);
    g_assert_true(saved_verify(s, &error));
    machine_load(m, s, fd, &error);
    if (error)
        g_error("the kept file is refused: %s. What guests were saved with must stay, or do without; before "
                "the first "
                "release, '--write' keeps another one.",
                error->message);
    int again = full_save(m);
    assert_same_sections(fd, again);
    close(again);
    const uint64_t count = bench_reg(m, 0, FULL_REG_A0);
    g_assert_cmpuint(count, >, 10);
    g_assert_cmpint(mem_read(m->mem, GPA(VIRT_DRAM + FULL_DATA), &counted, 8), ==, 0);
    g_assert_cmpuint(count - counted, <=, 1);
    while (bench_reg(m, 0, FULL_REG_A0) <= count) /* a busy host may not let it run at once */
        full_run(m);
}

/* It goes on where it was, and what is saved of it then is what was in the file. */
static void test_kept(void)
{
    struct machine *m = full_machine(true);
    int fd = kept_file();
    load_kept(m, fd);
    close(fd);
    machine_free(m);
}

/* --- a version to come --- */

/* The table with one more field in its middle, which is a byte of the struct itself. */
static const struct state_field *with_later(const struct state_field *fields, unsigned version, size_t offset)
{
    const struct state_field later = {
        .name = "later", .type = STATE_U8, .offset = offset, .count = 1, .since = version};
    const struct state_field end = {0};
    GArray *out = g_array_new(FALSE, FALSE, sizeof(struct state_field));
    for (const struct state_field *f = fields; f && f->name; f++) {
        if (f == fields + 1)
            g_array_append_val(out, later);
        g_array_append_vals(out, f, 1);
    }
    if (out->len < 2)
        g_array_append_val(out, later);
    g_array_append_val(out, end);
    return full_keep(g_array_free(out, FALSE));
}

/* All tables of a machine, as if the next version had brought a field. */
static void make_newer(struct machine *m)
{
    for (guint i = 0; i < m->devices->len; i++) {
        struct device *d = m->devices->pdata[i];
        struct device_type *type = full_keep(g_memdup2(d->type, sizeof(*type)));
        type->version++;
        type->state = with_later(type->state, type->version, offsetof(struct device, overlapped));
        d->type = type;
    }
    struct isa *isa = full_keep(g_memdup2(m->isa, sizeof(*isa)));
    isa->version++;
    isa->state = with_later(isa->state, isa->version, offsetof(struct env, fp_flags));
    m->isa = isa;
}

/* A machine whose tables have all grown takes the kept file; what it saves itself is refused by name where
 * they have not. */
static void test_newer(void)
{
    struct machine *m = full_machine(true), *older = full_machine(true);
    g_autoptr(GError) error = NULL;
    int fd = kept_file();
    make_newer(m);
    load_kept(m, fd);
    int newer = full_save(m);
    full_load(m, newer);
    AUTO(saved) s = saved_open(newer, NULL);
    g_assert_false(machine_can_load(older, s, &error));
    g_assert_error(error, HOSTEL_ERROR, HOSTEL_ERROR_UNSUPPORTED);
    g_assert_nonnull(strstr(error->message, "use a newer one"));
    close(fd);
    close(newer);
    machine_free(m);
    machine_free(older);
}

/* --- writing them --- */

/* A chip is told many things, so that there is something to keep. */
static void hammer(struct device *d, GRand *rand)
{
    const struct bus_ops *ops = d->type->ops;
    const uint64_t extent = MIN(d->type->extent(d), 0x1000);
    for (unsigned i = 0; i < 200; i++) {
        const uint64_t offset = g_rand_int(rand) % extent & ~(uint64_t)(ops->max_size - 1);
        ops->write(d, offset, ops->max_size, g_rand_int(rand) >> g_rand_int_range(rand, 0, 32));
    }
}

static int write_files(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(1);
    g_autofree char *list = file_path("tables"), *kept = file_path("format-1");
    struct machine *m = full_machine(false);
    for (guint i = 0; i < m->devices->len; i++) {
        struct device *d = m->devices->pdata[i];
        if (strcmp(d->type->name, "fw_cfg") != 0 && strcmp(d->type->name, "pflash") != 0)
            hammer(d, rand);
    }
    full_put_program(m);
    full_run(m);
    int fd = full_save(m);
    g_autoptr(GByteArray) packed = pack(fd);
    g_autoptr(GPtrArray) lines = tables();
    g_ptr_array_add(lines, g_strdup(""));
    g_ptr_array_add(lines, NULL);
    g_autofree char *text = g_strjoinv("\n", (char **)lines->pdata);
    return g_file_set_contents(list, text, -1, NULL) &&
                   g_file_set_contents(kept, (const char *)packed->data, packed->len, NULL)
               ? 0
               : 1;
}

int main(int argc, char **argv)
{
    if (argc == 2 && !strcmp(argv[1], "--write"))
        return write_files();
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/saved-versions/tables", test_tables);
    g_test_add_func("/saved-versions/kept", test_kept);
    g_test_add_func("/saved-versions/newer", test_newer);
    return g_test_run();
}
