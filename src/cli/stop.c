/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Long work that is told to stop by a signal. */
#include "cli/stop.h"

#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>

#include "base/bits.h"

_Atomic bool cli_stopped;
static _Atomic int stop_signal;

static void on_signal(int number)
{
    atomic_store(&stop_signal, number);
    atomic_store(&cli_stopped, true);
}

void cli_stop_catch(void)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    /* Once: whoever asks again means it. Files in the making have no name, so nothing is left behind. */
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART | (int)SA_RESETHAND};
    struct sigaction old;
    for (unsigned i = 0; i < ARRAY_SIZE(numbers); i++)
        if (!sigaction(numbers[i], NULL, &old) && old.sa_handler != SIG_IGN) /* nohup */
            sigaction(numbers[i], &action, NULL);
}

int cli_stop_code(int code)
{
    /* Without a failure it was done before it heard of that. */
    return code && atomic_load(&cli_stopped) ? -atomic_load(&stop_signal) : code;
}
