/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Messages to standard error by level and area; areas are switched on at run time. */
#ifndef HOSTEL_BASE_LOG_H
#define HOSTEL_BASE_LOG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Areas for log_debug, a bit each. The list is the truth: log.c expands it for names and help. */
#define LOG_AREAS(X)                                                                                         \
    X(CLI, "cli", "the command line")                                                                        \
    X(VM, "vm", "a guest's life: build, run, pause, reset, stop")                                            \
    X(BOARD, "board", "address maps, device trees, boot")                                                    \
    X(DEVICE, "device", "chips: each access to their registers")                                             \
    X(BLOCK, "block", "disk images")                                                                         \
    X(IRQ, "irq", "interrupt lines and controllers")                                                         \
    X(CPU, "cpu", "traps, modes, firmware calls")                                                            \
    X(MMU, "mmu", "page walks and TLB flushes")                                                              \
    X(CODE, "code", "blocks: made, linked, invalidated")                                                     \
    X(TRANSLATE, "translate", "each block made: guest code, IR, cells, host code")                           \
    X(FIRMWARE, "firmware", "built-in firmware interfaces")                                                  \
    X(CONTROL, "control", "messages to and from the VMM")                                                    \
    X(CONSOLE, "console", "byte streams")                                                                    \
    X(NET, "net", "network cards and what is behind them")                                                   \
    X(SANDBOX, "sandbox", "what a process gives up")

enum log_area {
#define X(id, name, help) LOG_##id,
    LOG_AREAS(X)
#undef X
        LOG_AREA_COUNT
};

/* Prefix of every line, the program's name; a string constant (not copied). Call before threads start. */
void log_set_program(const char *name);

/* Switches debug areas on from a comma-separated list ("mmu,irq", "all"). Returns false at the first unknown
 * name and changes nothing. Any thread; meant for set-up. */
bool log_enable(const char *areas);

/* Areas that are on, a bit each; and the guest addresses that output about guest code is limited to. Read
 * them through the functions below. */
extern _Atomic uint32_t log_enabled;
extern uint64_t log_first, log_last;

/* Is debug output of this area on? A load and a test, so it may stand on slow paths that matter. */
static inline bool log_on(enum log_area area)
{
    return atomic_load_explicit(&log_enabled, memory_order_relaxed) >> area & 1;
}

/* The same for output about the guest's bytes [address, address + size), size at least 1. */
static inline bool log_on_at(enum log_area area, uint64_t address, uint64_t size)
{
    return log_on(area) && address <= log_last && address + (size - 1) >= log_first;
}

/* Limits output about guest code to "ADDRESS" or "ADDRESS:LENGTH" (numbers as in C; virtual addresses; at the
 * beginning it is not limited). False when the text is neither, and then nothing changes. During set-up. */
bool log_limit(const char *text);

/* One line each, newline added; thread-safe. A message that a guest can trigger goes through
 * log_guest(), which lets ten lines a second pass and then says how many it dropped. */
void log_error(enum log_area area, const char *format, ...) __attribute__((format(printf, 2, 3)));
void log_warn(enum log_area area, const char *format, ...) __attribute__((format(printf, 2, 3)));
void log_info(enum log_area area, const char *format, ...) __attribute__((format(printf, 2, 3)));
void log_debug(enum log_area area, const char *format, ...) __attribute__((format(printf, 2, 3)));
void log_guest(enum log_area area, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* "mmu" for LOG_MMU; help text likewise. */
const char *log_area_name(enum log_area area);
const char *log_area_help(enum log_area area);

#endif
