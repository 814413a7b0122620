/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The interpreter as others see it: a backend. */
#ifndef HOSTEL_ENGINE_INTERP_H
#define HOSTEL_ENGINE_INTERP_H

#include "engine/block.h"

extern const struct backend backend_interp;

#endif
