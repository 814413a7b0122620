/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The process of one guest. */
#include "vm/vm.h"

int main(int argc, char **argv)
{
    (void)argc;
    return vmm_main(argv);
}
