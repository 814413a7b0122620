/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The process of one guest's network. */
#include "net/netd/netd.h"

int main(int argc, char **argv)
{
    (void)argc;
    return netd_main(argv);
}
