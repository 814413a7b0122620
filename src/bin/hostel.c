/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The command line. */
#include <signal.h>

#include "cli/cli.h"

int main(int argc, char **argv)
{
    (void)argc;
    int code = cli_main(argv);
    if (code >= 0)
        return code;
    /* Asked to end by a signal, we end by it, so that shells and service managers see what happened. */
    sigset_t this_one;
    sigemptyset(&this_one);
    sigaddset(&this_one, -code);
    signal(-code, SIG_DFL);
    raise(-code);
    sigprocmask(SIG_UNBLOCK, &this_one, NULL);
    return 128 - code;
}
