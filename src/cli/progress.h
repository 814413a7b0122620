/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Long work that people can watch: how far it is, how fast, how long it still takes. */
#ifndef HOSTEL_CLI_PROGRESS_H
#define HOSTEL_CLI_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

enum progress_form {
    PROGRESS_NONE,
    PROGRESS_BAR,     /* a line on standard error that is written again and again */
    PROGRESS_PERCENT, /* qemu-img's, on standard output, which programs read */
    PROGRESS_JSON,    /* a line of standard output each time */
};

struct progress {
    enum progress_form form;
    uint64_t total; /* bytes; may be changed on the way */
    int64_t began;
    bool drawn;
};

/* What a word of the command line (bar, json or none; NULL = none was given) asks for. Without one there is a
 * bar on a terminal, unless all is to be quiet. */
enum progress_form progress_form(const char *word, bool quiet);

void progress_begin(struct progress *p, enum progress_form form, uint64_t total);
void progress_at(struct progress *p, uint64_t done);
/* complete: all of it was done. */
void progress_end(struct progress *p, bool complete);

/* "1 GiB" as qemu-img writes it; owned by the caller. */
char *progress_size_text(uint64_t bytes);

#endif
