/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Fuzz targets of image formats: one harness, see image.c; a target is a file that names its format. */
#ifndef HOSTEL_FUZZ_IMAGE_H
#define HOSTEL_FUZZ_IMAGE_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Everything that is done with images of the format, on the image that the input makes. */
int fuzz_image(const char *format, const uint8_t *data, size_t size);

#endif
