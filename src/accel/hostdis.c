/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The disassembler of host code for traces: Capstone, loaded when it is asked for. */
#include "accel/hostdis.h"

#include <glib.h>
#include <stdio.h>

#if defined(HAVE_CAPSTONE) && (defined(__x86_64__) || defined(__aarch64__))

#include <capstone/capstone.h>
#include <dlfcn.h>

/* Linked, the library would cost every guest a millisecond at its start and two MiB of relocated tables. */
#define LIBRARY "libcapstone.so." G_STRINGIFY(CS_API_MAJOR)

#ifdef __x86_64__
#define HOST_ARCH CS_ARCH_X86, CS_MODE_64
#else
#define HOST_ARCH CS_ARCH_ARM64, CS_MODE_ARM
#endif

static struct {
    csh handle;
    cs_insn *insn; /* NULL: not open */
    __typeof__(cs_disasm_iter) *next;
} capstone;

bool hostdis_open(void)
{
    void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (!library)
        return false;
        /* POSIX guarantees that a function's address survives the way through a void pointer. */
#define FIND(name) __typeof__(name) *const do_##name = (__typeof__(name) *)dlsym(library, #name)
    FIND(cs_open);
    FIND(cs_malloc);
    FIND(cs_disasm_iter);
#undef FIND
    if (!do_cs_open || !do_cs_malloc || !do_cs_disasm_iter ||
        do_cs_open(HOST_ARCH, &capstone.handle) != CS_ERR_OK)
        return false;
    capstone.next = do_cs_disasm_iter;
    capstone.insn = do_cs_malloc(capstone.handle); /* used again for each instruction */
    return capstone.insn;
}

static bool print(const uint8_t *bytes, size_t avail, uint64_t address, char *text, size_t size)
{
    if (!capstone.insn || !capstone.next(capstone.handle, &bytes, &avail, &address, capstone.insn))
        return false;
    const char *operands = capstone.insn->op_str;
    g_snprintf(text, size, "%s%s%s", capstone.insn->mnemonic, *operands ? " " : "", operands);
    return true;
}

static unsigned length(void)
{
    return capstone.insn->size;
}

#else

bool hostdis_open(void)
{
    return false;
}

static bool print(const uint8_t *bytes G_GNUC_UNUSED, size_t avail G_GNUC_UNUSED,
                  uint64_t address G_GNUC_UNUSED, char *text G_GNUC_UNUSED, size_t size G_GNUC_UNUSED)
{
    return false;
}

static unsigned length(void)
{
    return 0;
}

#endif

unsigned hostdis_print(const uint8_t *bytes, size_t avail, uint64_t address, char *text, size_t size)
{
    enum { ROW = 8 };
    if (print(bytes, avail, address, text, size))
        return length();
    unsigned n = avail < ROW ? (unsigned)avail : ROW;
    size_t at = 0;
    for (unsigned i = 0; i < n && at + 4 <= size; i++)
        at += (size_t)g_snprintf(text + at, size - at, "%s%02x", i ? " " : "", bytes[i]);
    return n;
}
