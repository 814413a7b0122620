/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Any file as kernel or firmware: refused with one line, or measured so that every segment lies inside the
 * bytes. */
#include <glib.h>
#include <stdint.h>
#include <string.h>

#include "base/checked.h"
#include "board/image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_image(const struct image *image, size_t size)
{
    g_assert_true(image->count >= 1 && image->count <= IMAGE_MAX_SEGMENTS);
    for (unsigned i = 0; i < image->count; i++) {
        const struct image_segment *s = &image->segment[i];
        uint64_t end;
        g_assert_true(range_inside(s->offset, s->file_size, 0, size));
        g_assert_true(s->mem_size >= s->file_size && !ckd_add(&end, s->address, s->mem_size));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum { CAP = 1 << 20 };
    struct image image;
    GError *error = NULL;
    char what[64];
    g_autofree uint8_t *unpacked = NULL;

    g_assert_nonnull(image_describe(data, size, what, sizeof(what)));
    if (image_unpack("file", data, size, CAP, &unpacked, &size, &error)) {
        const uint8_t *bytes = unpacked ? unpacked : data;
        g_assert_true(!unpacked || size <= CAP);
        if (image_parse_kernel("file", bytes, size, &image, &error))
            check_image(&image, size);
        g_clear_error(&error);
        if (image_parse_payload("file", bytes, size, &image, &error))
            check_image(&image, size);
    }
    if (error) {
        g_assert_null(strchr(error->message, '\n'));
        g_error_free(error);
    }
    return 0;
}
