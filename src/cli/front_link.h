/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What a supervisor and the process in front of it tell each other. */
#ifndef HOSTEL_CLI_FRONT_LINK_H
#define HOSTEL_CLI_FRONT_LINK_H

#include <stdbool.h>

enum front_word {
    /* to the supervisor */
    FRONT_SIGNAL,    /* number: of a signal that we got */
    FRONT_CONTINUED, /* we were stopped, as you wished, and go on */
    /* from the supervisor */
    FRONT_UP,       /* the VMM answered */
    FRONT_DETACHED, /* you may go: the guest runs on without you */
    FRONT_STOP,     /* the guest is paused and the terminal is yours: stop yourself */
    FRONT_END,      /* number: the exit code */
};

struct front_message {
    enum front_word word;
    int number;
};

/* Over a socket of packets. False when the other side has gone. */
bool front_send(int fd, enum front_word word, int number);

/* Takes a message, if there is one: 0; -EAGAIN; or -EPIPE when the other side has gone. */
int front_receive(int fd, struct front_message *message);

#endif
