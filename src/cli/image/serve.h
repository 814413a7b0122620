/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* `hostel image serve`, in hostel and in hostel-nbd. */
#ifndef HOSTEL_CLI_IMAGE_SERVE_H
#define HOSTEL_CLI_IMAGE_SERVE_H

/* The whole program hostel-nbd: argv as main() has it, the arguments those of `hostel image serve`. The exit
 * code. */
int image_serve_main(char **argv);

#endif
