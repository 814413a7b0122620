/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Messages to standard error by level and area; areas are switched on at run time. */
#ifndef HOSTEL_BASE_LOG_H
#define HOSTEL_BASE_LOG_H

#include <stdbool.h>

/* Areas for log_debug, a bit each. The list is the truth: log.c expands it for names and help. */
#define LOG_AREAS(X)                                                                                         \
    X(CLI, "cli", "the command line")                                                                        \
    X(VM, "vm", "a guest's life: build, run, pause, reset, stop")                                            \
    X(BOARD, "board", "address maps, device trees, boot")                                                    \
    X(DEVICE, "device", "chips")                                                                             \
    X(IRQ, "irq", "interrupt lines and controllers")                                                         \
    X(CPU, "cpu", "traps, modes, firmware calls")                                                            \
    X(MMU, "mmu", "page walks and TLB flushes")                                                              \
    X(CODE, "code", "blocks: made, linked, invalidated")                                                     \
    X(FIRMWARE, "firmware", "built-in firmware interfaces")                                                  \
    X(CONTROL, "control", "messages to and from the VMM")                                                    \
    X(CONSOLE, "console", "byte streams")                                                                    \
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

/* Is debug output of this area on? Cheap: guards for expensive arguments. */
bool log_on(enum log_area area);

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
