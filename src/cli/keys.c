/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The menu behind Ctrl-], as a machine of two states. */
#include "cli/keys.h"

#include <string.h>

/* size is at least 1. */
static enum key_action choose(const uint8_t *bytes, size_t *for_guest, size_t *used)
{
    *for_guest = 0;
    *used = 1;
    switch (*bytes) {
    case 'd':
    case 'D': return KEYS_DETACH;
    case 'q':
    case 'Q': return KEYS_QUIT;
    case 'r':
    case 'R': return KEYS_RESET;
    case 'b':
    case 'B': return KEYS_BREAK;
    case KEY_MENU: *for_guest = 1; return KEYS_BACK;
    default: return KEYS_BACK;
    }
}

enum key_action keys_look(struct keys *k, const uint8_t *bytes, size_t size, size_t *for_guest, size_t *used)
{
    if (k->menu && size) {
        k->menu = false;
        return choose(bytes, for_guest, used);
    }
    const uint8_t *key = memchr(bytes, KEY_MENU, size);
    *for_guest = key ? (size_t)(key - bytes) : size;
    *used = key ? *for_guest + 1 : size;
    k->menu = key != NULL;
    return key ? KEYS_MENU : KEYS_PASS;
}
