/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The terminal a guest's console borrows: raw while the guest has it, as it was at every other moment. */
/*
 * A program that is killed cannot give anything back. So whoever takes the terminal leaves a guard behind it:
 * a small process that is told by a pipe how the terminal is, and gives it back when the pipe breaks while it
 * is raw. A shell that has already put itself in front is not disturbed.
 */
#ifndef HOSTEL_CLI_TERMINAL_H
#define HOSTEL_CLI_TERMINAL_H

#include <stdbool.h>

/* Takes the terminal on standard input: false when it is none. There is one per process; it is given back by
 * terminal_give(), and by the handlers of signals that would end this program without a chance to do so. */
bool terminal_take(void);

/* Back to how it was; and raw again. Nothing happens when there is no terminal, or while this program is in
 * its background. */
void terminal_give(void);
void terminal_retake(void);

/* Gives it back for good. */
void terminal_leave(void);

/* Is it raw now? */
bool terminal_is_raw(void);

/* Says something to the person at the terminal, wherever standard output goes. */
void terminal_say(const char *text);

#endif
