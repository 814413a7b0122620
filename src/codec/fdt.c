/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Device trees over libfdt's sequential-write functions, with a buffer that grows. */
#include "codec/fdt.h"

#include <libfdt.h>
#include <stdarg.h>
#include <string.h>

#include "base/byteorder.h"

enum { DT_FIRST_SIZE = 8 << 10, DT_MAX_SIZE = 1 << 20 };

struct dt {
    void *blob;
    int size;
    int error;      /* of libfdt, 0 none */
    unsigned depth; /* of open nodes, which libfdt does not count */
};

/* Makes the buffer bigger after -FDT_ERR_NOSPACE. True: try again. */
static bool dt_grow(struct dt *t)
{
    if (t->size >= DT_MAX_SIZE)
        return false;
    int size = t->size * 2;
    void *blob = g_malloc((gsize)size);
    t->error = fdt_resize(t->blob, blob, size);
    g_free(t->blob);
    t->blob = blob;
    t->size = size;
    return !t->error;
}

/* Runs one libfdt call as often as the buffer has to grow for it. */
#define DT_CALL(t, call)                                                                                     \
    do {                                                                                                     \
        if ((t)->error)                                                                                      \
            break;                                                                                           \
        (t)->error = (call);                                                                                 \
    } while ((t)->error == -FDT_ERR_NOSPACE && dt_grow(t))

struct dt *dt_new(void)
{
    struct dt *t = g_new0(struct dt, 1);
    t->size = DT_FIRST_SIZE;
    t->blob = g_malloc((gsize)t->size);
    t->error = fdt_create(t->blob, t->size);
    DT_CALL(t, fdt_finish_reservemap(t->blob));
    DT_CALL(t, fdt_begin_node(t->blob, ""));
    t->depth = 1;
    return t;
}

void dt_free(struct dt *t)
{
    if (!t)
        return;
    g_free(t->blob);
    g_free(t);
}

void dt_begin(struct dt *t, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *name = g_strdup_vprintf(format, args);
    va_end(args);
    DT_CALL(t, fdt_begin_node(t->blob, name));
    t->depth++;
}

void dt_end(struct dt *t)
{
    if (!t->depth || !--t->depth)
        t->error = -FDT_ERR_BADSTRUCTURE; /* the root node ends in dt_finish() */
    DT_CALL(t, fdt_end_node(t->blob));
}

void dt_bytes(struct dt *t, const char *name, const void *bytes, size_t size)
{
    if (size > DT_MAX_SIZE)
        t->error = -FDT_ERR_NOSPACE;
    DT_CALL(t, fdt_property(t->blob, name, bytes, (int)size));
}

void dt_flag(struct dt *t, const char *name)
{
    dt_bytes(t, name, "", 0);
}

void dt_string(struct dt *t, const char *name, const char *value)
{
    dt_bytes(t, name, value, strlen(value) + 1);
}

void dt_strings(struct dt *t, const char *name, const char *const *values)
{
    g_autoptr(GString) all = g_string_new(NULL);
    for (; *values; values++)
        g_string_append_len(all, *values, (gssize)strlen(*values) + 1);
    dt_bytes(t, name, all->str, all->len);
}

void dt_u32(struct dt *t, const char *name, uint32_t value)
{
    uint8_t bytes[4];
    st32be(bytes, value);
    dt_bytes(t, name, bytes, sizeof(bytes));
}

void dt_u64(struct dt *t, const char *name, uint64_t value)
{
    uint8_t bytes[8];
    st64be(bytes, value);
    dt_bytes(t, name, bytes, sizeof(bytes));
}

void dt_cells(struct dt *t, const char *name, const uint32_t *cells, unsigned count)
{
    g_autofree uint8_t *bytes = g_malloc((size_t)count * 4);
    for (unsigned i = 0; i < count; i++)
        st32be(bytes + (size_t)i * 4, cells[i]);
    dt_bytes(t, name, bytes, (size_t)count * 4);
}

void dt_reg(struct dt *t, uint64_t base, uint64_t size)
{
    const uint32_t cells[4] = {(uint32_t)(base >> 32), (uint32_t)base, (uint32_t)(size >> 32),
                               (uint32_t)size};
    dt_cells(t, "reg", cells, 4);
}

void *dt_finish(struct dt *t, size_t *size)
{
    if (t->depth != 1)
        t->error = -FDT_ERR_BADSTRUCTURE;
    DT_CALL(t, fdt_end_node(t->blob));
    DT_CALL(t, fdt_finish(t->blob));
    t->depth = 0;
    if (t->error)
        return NULL;
    *size = fdt_totalsize(t->blob);
    return g_memdup2(t->blob, *size);
}
