/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/*
 * GNU objdump as the outside oracle of the RISC-V decoder and disassembler tests.
 */
#ifndef HOSTEL_TESTS_ISA_RISCV_OBJDUMP_H
#define HOSTEL_TESTS_ISA_RISCV_OBJDUMP_H

#include <stddef.h>

/*
 * Disassembles @len bytes of @code as if at address 0. @option is one more argument for objdump, or NULL.
 * Returns texts indexed by byte offset / 2, NULL where no instruction starts, owned by the caller
 * (objdump_free()); each is "mnemonic" or "mnemonic\toperands" without trailing comments. NULL, with the test
 * marked as skipped, when the tools are not installed.
 */
char **objdump_run(const void *code, size_t len, const char *option);

void objdump_free(char **texts, size_t len);

#endif
