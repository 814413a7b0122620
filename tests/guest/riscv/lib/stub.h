/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* STUB(name, "instructions"): a function of a few instructions to run in some mode; arguments and result in
 * a0, a1. */
#ifndef GUEST_STUB_H
#define GUEST_STUB_H

#define STUB(name, text)                                                                                     \
    __asm__(".pushsection .text\n.balign 4\n.globl " #name                                                   \
            "\n.option push\n.option norvc\n.option arch, +d\n" #name ":\n" text                             \
            "\n.option arch, +c\nret\n.option pop\n.popsection");                                            \
    extern char name[]

/* One attempt in one mode, printed relative to the stub. */
#define SHOW(label, mode, stub, a0, a1, set)                                                                 \
    show_trap(label, try_call(mode, (u64)(stub), (u64)(a0), (u64)(a1), set), (u64)(stub))

static const char *const mode_names[] = {"U", "S", "?", "M"};

#endif
