/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The list of backends, from backends.def. */
#include <stddef.h>

#include "engine/block.h"

#define BACKEND(name) extern const struct backend backend_##name;
#include "engine/backends.def"
#undef BACKEND

const struct backend *const backends[] = {
#define BACKEND(name) &backend_##name,
#include "engine/backends.def"
#undef BACKEND
    NULL,
};
