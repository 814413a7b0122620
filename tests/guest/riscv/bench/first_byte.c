/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Start-up time: writes one byte to the UART and powers off. */
#include "lib/lib.h"

int main(u64 fdt)
{
    (void)fdt;
    put_char('H');
    put_char('\n');
    return 0;
}
