/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* `hostel image ls` and `cat`: the rows of the commands, and the program that does them. */
#ifndef HOSTEL_CLI_IMAGE_FILES_H
#define HOSTEL_CLI_IMAGE_FILES_H

#include "cli/image/image.h"

/* Rows whose run becomes hostel-files. */
extern const struct image_command image_command_ls, image_command_cat;

/* The whole of hostel-files: argv begins with the subcommand. The exit code. */
int image_files_main(char **argv);

#endif
