/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The server of disks over NBD: `hostel image serve` becomes this program. */
#include "cli/image/serve.h"

int main(int argc, char **argv)
{
    (void)argc;
    return image_serve_main(argv);
}
