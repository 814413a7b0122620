/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What objdump should say, written down independently of the encoder, and the comparison. */
#include "listing.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bits.h"

#define DIFFERENCES 10 /* shown */

/* --- Names --- */

const char *listing_reg(unsigned size, unsigned reg)
{
    static const char *const names[4][16] = {
        {"al", "cl", "dl", "bl", "spl", "bpl", "sil", "dil", "r8b", "r9b", "r10b", "r11b", "r12b", "r13b",
         "r14b", "r15b"},
        {"ax", "cx", "dx", "bx", "sp", "bp", "si", "di", "r8w", "r9w", "r10w", "r11w", "r12w", "r13w", "r14w",
         "r15w"},
        {"eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi", "r8d", "r9d", "r10d", "r11d", "r12d", "r13d",
         "r14d", "r15d"},
        {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13",
         "r14", "r15"},
    };

    return names[size == 8 ? 0 : size == 16 ? 1 : size == 32 ? 2 : 3][reg];
}

const char *listing_cond(unsigned cond)
{
    static const char *const names[16] = {"o", "no", "b", "ae", "e", "ne", "be", "a",
                                          "s", "ns", "p", "np", "l", "ge", "le", "g"};

    return names[cond];
}

static char *scratch(void)
{
    static char buffers[8][96];
    static unsigned turn;

    return buffers[turn++ % 8];
}

char *listing_imm(unsigned size, int64_t imm)
{
    return g_strdup_printf("0x%" PRIx64, (uint64_t)imm & bits_mask(size));
}

/* --- Memory operands --- */

static const struct mem_case {
    int base, index; /* -1: none */
    unsigned scale;
    int32_t disp;
} mem_cases[LISTING_MEMS] = {
    {HOST_RAX, -1, 1, 0},          {HOST_RCX, -1, 1, 127},
    {HOST_RDX, -1, 1, 128},        {HOST_RBX, -1, 1, -128},
    {HOST_RBX, -1, 1, -129},       {HOST_RSP, -1, 1, 0},
    {HOST_RSP, -1, 1, 8},          {HOST_RBP, -1, 1, 0},
    {HOST_RBP, -1, 1, INT32_MIN},  {HOST_RSI, -1, 1, INT32_MAX},
    {HOST_R8, -1, 1, 1},           {HOST_R12, -1, 1, 0},
    {HOST_R12, -1, 1, 4096},       {HOST_R13, -1, 1, 0},
    {HOST_R15, -1, 1, -8},         {HOST_RAX, HOST_RCX, 1, 0},
    {HOST_RBP, HOST_RBP, 2, 0},    {HOST_RSP, HOST_R12, 4, -4},
    {HOST_R13, HOST_RAX, 8, 0},    {HOST_R12, HOST_R13, 8, 1024},
    {HOST_R9, HOST_R15, 1, 64},    {-1, HOST_RCX, 8, 0},
    {-1, HOST_R12, 4, 0x12345678}, {-1, HOST_RBP, 2, -16},
    {-1, -1, 1, 0x1000},           {-1, -1, 1, -4096},
};

struct host_mem listing_mem(unsigned i)
{
    const struct mem_case *c = &mem_cases[i];

    if (c->base < 0)
        return c->index < 0 ? host_mem_abs(c->disp)
                            : host_mem_scaled((enum host_reg)c->index, c->scale, c->disp);
    return c->index < 0 ? host_mem((enum host_reg)c->base, c->disp)
                        : host_mem_index((enum host_reg)c->base, (enum host_reg)c->index, c->scale, c->disp);
}

static const char *width(unsigned bits)
{
    switch (bits) {
    case 8: return "BYTE PTR ";
    case 16: return "WORD PTR ";
    case 32: return "DWORD PTR ";
    case 64: return "QWORD PTR ";
    case 128: return "XMMWORD PTR ";
    default: return "";
    }
}

static const char *mem_text(unsigned bits, const struct mem_case *c)
{
    GString *s = g_string_new(width(bits));
    char *out = scratch();
    /* A displacement is shown when it is there, and it must be without a base and with RBP or R13. */
    bool shown = c->disp || c->base < 0 || c->base == HOST_RBP || c->base == HOST_R13;

    if (c->base < 0 && c->index < 0) {
        g_string_append_printf(s, "ds:0x%" PRIx64, (uint64_t)(int64_t)c->disp);
        shown = false;
    } else {
        g_string_append_c(s, '[');
    }
    if (c->base >= 0)
        g_string_append(s, listing_reg(64, (unsigned)c->base));
    if (c->index >= 0)
        g_string_append_printf(s, "%s%s*%u", c->base >= 0 ? "+" : "", listing_reg(64, (unsigned)c->index),
                               c->scale);
    if (shown)
        g_string_append_printf(s, "%c0x%" PRIx64, c->disp < 0 ? '-' : '+', (uint64_t)llabs((int64_t)c->disp));
    if (c->base >= 0 || c->index >= 0)
        g_string_append_c(s, ']');
    g_strlcpy(out, s->str, 96);
    g_string_free(s, TRUE);
    return out;
}

const char *listing_mem_text(unsigned bits, unsigned i)
{
    return mem_text(bits, &mem_cases[i]);
}

const char *listing_address(unsigned bits, struct host_mem m)
{
    struct mem_case c = {
        .base = m.base < 16 ? m.base : -1,
        .index = m.index == HOST_RSP ? -1 : m.index,
        .scale = 1u << m.shift,
        .disp = m.disp,
    };

    return mem_text(bits, &c);
}

/* --- The listing --- */

bool listing_begin(struct listing *l, size_t size)
{
    g_autofree char *objdump = g_find_program_in_path("objdump");

    if (!objdump) {
        g_test_skip("there is no objdump to disassemble with (package binutils)");
        return false;
    }
    l->code = g_malloc(size);
    l->text = g_ptr_array_new_with_free_func(g_free);
    l->offsets = g_array_new(FALSE, FALSE, sizeof(uint32_t));
    l->next = 0;
    emit_init(&l->e, l->code, size, 0, true);
    l->e.rx_delta = (int64_t)(0 - (uint64_t)(uintptr_t)l->code);
    return true;
}

static void expect_text(struct listing *l, uint32_t offset, char *text)
{
    g_array_append_val(l->offsets, offset);
    g_ptr_array_add(l->text, text);
}

void listing_expect(struct listing *l, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    expect_text(l, l->next, g_strdup_vprintf(format, args));
    va_end(args);
    l->next = (uint32_t)(l->e.at - l->code);
}

void listing_expect_more(struct listing *l, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    expect_text(l, UINT32_MAX, g_strdup_vprintf(format, args));
    va_end(args);
}

/* Runs of blanks become one, and none are left at the end. */
static char *squeeze(char *s)
{
    char *to = s;

    for (const char *from = s; *from; from++) {
        if (*from != ' ' || (to > s && to[-1] != ' '))
            *to++ = *from;
    }
    while (to > s && to[-1] == ' ')
        to--;
    *to = '\0';
    return s;
}

static char *disassemble(const struct listing *l)
{
    g_autofree char *path = NULL;
    g_autoptr(GError) error = NULL;
    char *out = NULL;
    int status;
    int fd = g_file_open_tmp("hostel-emit-XXXXXX", &path, &error);

    g_assert_no_error(error);
    close(fd);
    g_file_set_contents(path, (const char *)l->code, l->e.at - l->code, &error);
    g_assert_no_error(error);
    const char *argv[] = {"objdump",         "-D", "-b", "binary", "-mi386:x86-64", "-M", "intel",
                          "--insn-width=16", path, NULL};
    g_spawn_sync(NULL, (char **)(uintptr_t)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, &out, NULL, &status,
                 &error);
    unlink(path);
    g_assert_no_error(error);
    g_assert_cmpint(status, ==, 0);
    return out;
}

/* A line is offset, bytes and text, with tabs between. */
static bool matches(const struct listing *l, unsigned n, char *line)
{
    char *bytes = strchr(line, '\t') + 1, *text = strchr(bytes, '\t');
    uint32_t offset = (uint32_t)strtoul(line, NULL, 16);
    uint32_t want = g_array_index(l->offsets, uint32_t, n);
    char *expected = squeeze(l->text->pdata[n]);

    if (!text)
        return false;
    *text++ = '\0';
    if (!strcmp(squeeze(text), expected) && (want == offset || want == UINT32_MAX))
        return true;
    g_test_message("%x: %s is \"%s\", expected \"%s\" at %x", offset, squeeze(bytes), text, expected, want);
    return false;
}

void listing_end(struct listing *l)
{
    g_autofree char *out = NULL;
    unsigned n = 0, bad = 0;
    char *save = NULL;

    g_assert_true(emit_ok(&l->e));
    g_assert_cmpuint(l->next, ==, l->e.at - l->code);
    out = disassemble(l);
    for (char *line = strtok_r(out, "\n", &save); line && bad < DIFFERENCES;
         line = strtok_r(NULL, "\n", &save)) {
        if (!strchr(line, '\t'))
            continue; /* a heading */
        bad += n >= l->text->len || !matches(l, n, line);
        n++;
    }
    g_test_message("%u instructions", n);
    if (bad || n != l->text->len)
        g_test_fail();
    g_ptr_array_unref(l->text);
    g_array_unref(l->offsets);
    g_free(l->code);
}
