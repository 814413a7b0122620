/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Files of saved guests, compressed or not, read without trusting whoever made them. */
/*
 * A file may come from anywhere. So it is parsed, and unpacked, in a child that has given up its rights (the
 * first step of os/sandbox.h) and keeps nothing but the file, a place for what comes out of it, and a pipe
 * for what is to be said.
 */
#ifndef HOSTEL_CLI_SAVED_FILE_H
#define HOSTEL_CLI_SAVED_FILE_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "cli/progress.h"

/* What is kept in it about the guest, JSON as somebody wrote it, or "" when that is nothing; owned by the
 * caller. NULL with *error when it is no saved guest, or damaged. verify: its memory, too, which reads all of
 * it. fd is borrowed. */
char *saved_file_about(int fd, bool verify, GError **error);

/* A file that can be mapped: fd itself, or, if it is compressed, a new one without a name, which replaces it.
 * limit: how large that may become. False with *error. */
bool saved_file_unpack(int *fd, uint64_t limit, GError **error);

/* Compresses `in` into `out`, empty, by all processors. A signal stops it (cli_stop_catch()). False with
 * *error. */
bool saved_file_pack(int in, int out, enum progress_form form, GError **error);

/* A file without a name, on a disk if there is room for one; -1 with *error. */
int saved_file_scratch(GError **error);

#endif
