/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Any file of a saved guest: it is refused, or the guest that goes on from it runs, can be saved and loaded
 * again, and starts anew after a reset. */
/*
 * Input edits the file of a machine that has one chip of each kind, in steps of eight bytes: which edit, a
 * section, a place in it (16 bits), a value (32 bits). Checksums are made true again behind the edits, so
 * that they reach what stands behind the checks of the file's layout; one edit spoils them.
 */
#include "../tests/board/full.h"
#include "codec/crc32c.h"
#include "device/pci_port.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
const char *__lsan_default_suppressions(void);

/* The machine is never freed, and its blocks of code are found from mapped tables, which are not looked
 * through. */
const char *__lsan_default_suppressions(void)
{
    return "leak:code_find\n";
}

enum edit {
    SET_BYTE,
    SET_HALF,
    SET_WORD,
    SET_WIDE,
    FLIP,
    FILL,
    COPY,
    MEMORY,
    RUN,
    DROP,
    TWICE,
    RENAME,
    RESIZE,
    VERSION,
    SWAP,
    SPOIL,
    HEAD,
    CUT,
    EDITS
};
enum { STEP = 8, STEPS_MAX = 64, HEAD_SIZE = 64, SECTION_SIZE = 80, KIND = 16, NAME = 48 };

struct section {
    uint8_t head[SECTION_SIZE]; /* as codec/saved.h lays it out: kind, name, version, size, CRC */
    GByteArray *bytes;
    bool spoilt;
};

static struct machine *machine;
static int original;   /* the file that is edited */
static uint8_t *pages; /* what is in its memory */
static struct saved_memory ram;
static uint64_t memory_end;

static void set_up(void)
{
    uint8_t head[HEAD_SIZE];
    machine = full_machine(false);
    full_run(machine);
    original = full_save(machine);
    AUTO(saved) s = saved_open(original, NULL);
    g_assert_true(saved_find_memory(s, "ram", &ram, NULL));
    pages = g_malloc(FULL_RAM);
    g_assert_cmpint(pread(original, pages, FULL_RAM, (off_t)ram.place), ==, FULL_RAM);
    g_assert_cmpint(pread(original, head, HEAD_SIZE, 0), ==, HEAD_SIZE);
    memory_end = ld64le(head + 16);
}

/* --- the file, in pieces --- */

static void free_section(void *opaque)
{
    struct section *s = opaque;
    g_byte_array_unref(s->bytes);
    g_free(s);
}

static struct section *copy_section(const struct section *s)
{
    struct section *copy = g_new0(struct section, 1);
    memcpy(copy->head, s->head, SECTION_SIZE);
    copy->bytes = g_byte_array_append(g_byte_array_new(), s->bytes->data, s->bytes->len);
    return copy;
}

static GPtrArray *read_sections(void)
{
    unsigned count;
    AUTO(saved) s = saved_open(original, NULL);
    const struct saved_section *section = saved_sections(s, &count);
    GPtrArray *out = g_ptr_array_new_with_free_func(free_section);
    for (unsigned i = 0; i < count; i++) {
        struct section *one = g_new0(struct section, 1);
        memcpy(one->head, section[i].kind, strlen(section[i].kind));
        memcpy(one->head + KIND, section[i].name, strlen(section[i].name));
        st32le(one->head + KIND + NAME, section[i].version);
        one->bytes = g_byte_array_append(g_byte_array_new(), section[i].bytes, section[i].size);
        g_ptr_array_add(out, one);
    }
    return out;
}

/* What is edited beside the sections. */
struct file {
    GPtrArray *sections;
    uint8_t head[HEAD_SIZE]; /* is added to the true one */
    uint64_t cut;
    int fd;
};

static void put_bytes(GByteArray *bytes, uint16_t place, unsigned size, uint32_t value)
{
    uint8_t wide[8];
    st64le(wide, size == 8 ? (uint64_t)(int64_t)(int32_t)value : value);
    for (unsigned i = 0; i < size && bytes->len; i++)
        bytes->data[(place + i) % bytes->len] = wide[i];
}

/* Values of a section. */
static void edit_bytes(GByteArray *bytes, enum edit what, uint16_t place, uint32_t value)
{
    const uint16_t from = bytes->len ? (uint16_t)(value % bytes->len) : 0;
    switch (what) {
    case SET_BYTE: put_bytes(bytes, place, 1, value); break;
    case SET_HALF: put_bytes(bytes, place, 2, value); break;
    case SET_WORD: put_bytes(bytes, place, 4, value); break;
    case SET_WIDE: put_bytes(bytes, place, 8, value); break;
    case FLIP:
        if (bytes->len)
            bytes->data[place % bytes->len] ^= (uint8_t)BIT(value & 7);
        break;
    case FILL:
        for (unsigned i = 0; bytes->len && i < (value >> 8 & 0xff); i++)
            put_bytes(bytes, (uint16_t)(place + i), 1, value);
        break;
    case COPY:
        for (unsigned i = 0; bytes->len && i < (value >> 24); i++)
            bytes->data[(place + i) % bytes->len] = bytes->data[(from + i) % bytes->len];
        break;
    case RESIZE: g_byte_array_set_size(bytes, place); break;
    default: break;
    }
}

/* The list of sections, and what is around it. */
static void edit_file(struct file *f, enum edit what, unsigned i, uint16_t place, uint32_t value)
{
    struct section *s = f->sections->pdata[i];
    uint8_t word[4];
    st32le(word, value);
    switch (what) {
    case MEMORY: /* programs and queues */
        if (pwrite(f->fd, word, 4, (off_t)(ram.place + (place & 1 ? FULL_CODE : FULL_DATA) + (place >> 1))) <
            0)
            g_error("a memory file cannot be written");
        break;
    case DROP: g_ptr_array_remove_index(f->sections, i); break;
    case TWICE: g_ptr_array_insert(f->sections, (gint)(value % f->sections->len), copy_section(s)); break;
    case RENAME: s->head[place % (KIND + NAME)] = (uint8_t)value; break;
    case VERSION: st32le(s->head + KIND + NAME, value); break;
    case SWAP: {
        const unsigned other = value % f->sections->len;
        f->sections->pdata[i] = f->sections->pdata[other];
        f->sections->pdata[other] = s;
        break;
    }
    case SPOIL: s->spoilt = true; break;
    case HEAD: f->head[place % HEAD_SIZE] = (uint8_t)value; break;
    case CUT: f->cut = value; break;
    default: edit_bytes(s->bytes, what, place, value);
    }
}

static void put_section(GByteArray *out, struct section *s)
{
    static const uint8_t zeroes[8];
    st32le(s->head + KIND + NAME + 4, s->bytes->len);
    const uint32_t crc = crc32c(crc32c(0, s->head, KIND + NAME + 8), s->bytes->data, s->bytes->len);
    st32le(s->head + KIND + NAME + 8, s->spoilt ? crc + 1 : crc);
    g_byte_array_append(out, s->head, SECTION_SIZE);
    g_byte_array_append(out, s->bytes->data, s->bytes->len);
    g_byte_array_append(out, zeroes, -s->bytes->len & 7);
}

static void write_file(struct file *f)
{
    uint8_t head[HEAD_SIZE] = {0};
    g_autoptr(GByteArray) out = g_byte_array_new();
    for (guint i = 0; i < f->sections->len; i++)
        put_section(out, f->sections->pdata[i]);
    g_assert_cmpint(pread(original, head, 12, 0), ==, 12);
    st32le(head + 12, f->sections->len);
    st64le(head + 16, memory_end);
    st64le(head + 24, out->len);
    st64le(head + 32, memory_end + out->len);
    for (unsigned i = 0; i < HEAD_SIZE; i++)
        head[i] = (uint8_t)(head[i] + f->head[i]);
    if (!f->head[60])
        st32le(head + 60, crc32c(0, head, 60));
    g_assert_cmpint(pwrite(f->fd, head, HEAD_SIZE, 0), ==, HEAD_SIZE);
    g_assert_cmpint(pwrite(f->fd, out->data, out->len, (off_t)memory_end), ==, out->len);
    if (f->cut)
        g_assert_cmpint(ftruncate(f->fd, (off_t)(f->cut % (memory_end + out->len))), ==, 0);
}

static int copy_memory(void)
{
    int fd = full_file();
    g_assert_cmpint(ftruncate(fd, (off_t)memory_end), ==, 0);
    for (uint64_t at = 0; at < FULL_RAM; at += SAVED_PAGE)
        if (pages[at] || memcmp(pages + at, pages + at + 1, SAVED_PAGE - 1) != 0)
            g_assert_cmpint(pwrite(fd, pages + at, SAVED_PAGE, (off_t)(ram.place + at)), ==, SAVED_PAGE);
    return fd;
}

/* --- one input --- */

/* A guest that was asked to let go of a device has done so. */
static void plug_again(void)
{
    struct machine_port *port = machine_port(machine, 1);
    if (pci_port_answer(port->port) != PCI_PORT_REMOVED)
        return;
    machine_unplug(machine, port);
    full_plug(machine);
}

/* A guest that goes on from such a file is one like any other. */
static void check_guest(bool runs)
{
    if (runs)
        full_run(machine);
    int fd = full_save(machine);
    full_load(machine, fd);
    close(fd);
    g_assert_true(machine_reset(machine, NULL));
    full_run(machine);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(GError) error = NULL;
    bool runs = false;
    if (!machine)
        set_up();
    struct file f = {.sections = read_sections(), .fd = copy_memory()};
    for (unsigned i = 0; size >= STEP && i < STEPS_MAX; i++, data += STEP, size -= STEP) {
        const enum edit what = data[0] % EDITS;
        runs = runs || what == RUN;
        if (f.sections->len)
            edit_file(&f, what, data[1] % f.sections->len, ld16le(data + 2), ld32le(data + 4));
    }
    write_file(&f);
    plug_again();
    full_load(machine, original);
    AUTO(saved) s = saved_open(f.fd, &error);
    if (s && machine_can_load(machine, s, &error)) {
        saved_verify(s, NULL);
        if (machine_load(machine, s, f.fd, &error))
            check_guest(runs);
    } else {
        g_assert_nonnull(error);
        if (s)
            saved_verify(s, NULL);
    }
    g_assert_true(!error || (*error->message && !strchr(error->message, '\n')));
    close(f.fd);
    g_ptr_array_unref(f.sections);
    return 0;
}
