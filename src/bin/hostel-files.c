/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The files on a disk: `hostel image ls` and `hostel image cat` become this program. */
#include "cli/image/files.h"

int main(int argc, char **argv)
{
    (void)argc;
    return image_files_main(argv);
}
