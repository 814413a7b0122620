/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Scope ends ownership: `AUTO(bus) b = bus_new();` frees b when its scope is left (GLib's g_autoptr for plain
 * structs). */
#ifndef HOSTEL_BASE_CLEANUP_H
#define HOSTEL_BASE_CLEANUP_H

/* Beside the declaration of `void free_function(struct tag *)`, which must accept NULL. */
#define CLEANUP_DEFINE(tag, free_function)                                                                   \
    static inline void cleanup_##tag(struct tag **p)                                                         \
    {                                                                                                        \
        free_function(*p);                                                                                   \
    }

#define AUTO(tag) __attribute__((cleanup(cleanup_##tag))) struct tag *

/* Hands the pointer out of an AUTO variable. */
#define STEAL(p)                                                                                             \
    ({                                                                                                       \
        __typeof__(p) steal_value = (p);                                                                     \
        (p) = NULL;                                                                                          \
        steal_value;                                                                                         \
    })

#endif
