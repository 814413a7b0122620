/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Included by softfloat.c once per width: all templates of the width; then its parameters are taken back. */

#include "engine/softfloat_pack.inc.h"

#include "engine/softfloat_ops.inc.h"

#include "engine/softfloat_conv.inc.h"

#undef SF_BITS
#undef SF_VALUE
#undef SF_PREC
#undef SF_FRAC
#undef SF_EXP_MAX
#undef SF_BIAS
#undef SF_LOW
#undef SF_QUIET
#undef SF_SIGN
#undef SF_INF
