/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The file under a disk: opening it by name, and the checks and the lock that every use of it needs. */
#ifndef HOSTEL_BLOCK_FILE_H
#define HOSTEL_BLOCK_FILE_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

/* Opens the file or block device of an image, for reading only or also for writing. The descriptor, owned by
 * the caller and not inherited; -1 with *error, whose message names it and says what to do. */
int block_file_open(const char *path, bool readonly, GError **error);

/* Is fd a regular file or a block device of a size that fits a disk? Unless `locked` is false, takes its
 * lock, which lives as long as the open file that all copies of the descriptor share: readers may be many, a
 * writer is alone; taking it again changes nothing. Fills in size (bytes). name is for messages. False with
 * *error. */
bool block_file_claim(int fd, const char *name, bool readonly, bool locked, uint64_t *size, GError **error);

struct disk;

/* The image b, which was open for writing, is flushed and is only read from now on: so may others read its
 * file. */
void block_file_share(const struct disk *b);

/* The opposite, before b is written to again: false when somebody else has its file open. A disk that lies on
 * no file is always ours. */
bool block_file_own(const struct disk *b);

/* fd is another opening of b's file, and gets the lock that b has, for reading or as a writer's; nobody gets
 * in between. Nothing is under way on b. False with *error, and b has its lock: fd is not that file, or
 * somebody else has it open. block_file_return() undoes it, before fd is closed. */
bool block_file_yield(const struct disk *b, int fd, bool readonly, GError **error);
void block_file_return(const struct disk *b, int fd);

/* Another descriptor of the open file that b lies on, the caller's; -1 = there is none. */
int block_file_dup(const struct disk *b);

#endif
