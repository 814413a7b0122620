/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What a person types at a guest's console: the guest's bytes, and the menu behind Ctrl-]. */
#ifndef HOSTEL_CLI_KEYS_H
#define HOSTEL_CLI_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { KEY_MENU = 0x1d /* Ctrl-] */ };

enum key_action {
    KEYS_PASS, /* everything goes to the guest */
    KEYS_MENU, /* the menu opened: show it */
    KEYS_DETACH,
    KEYS_QUIT,
    KEYS_RESET,
    KEYS_BREAK,
    KEYS_BACK, /* the menu closed with nothing chosen */
};

struct keys {
    bool menu; /* open: the next byte is a choice */
};

/* Looks at bytes up to the first that does something. *used bytes are done with, of which the first
 * *for_guest are the guest's; the literal Ctrl-] chosen in the menu is one of them. */
enum key_action keys_look(struct keys *k, const uint8_t *bytes, size_t size, size_t *for_guest, size_t *used);

#endif
