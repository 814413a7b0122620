/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Runs a fuzz target without libFuzzer: every file of a corpus folder, then mutations of it. Output is TAP.
 */

#include <glib.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Few enough for milliseconds; the fuzzing itself is `make fuzz`. */
#define MUTATIONS_PER_FILE 200

/* Flip, overwrite, cut: what a damaged file looks like. The seed is fixed, so a failure repeats. */
static void mutate(GRand *rand, uint8_t *data, size_t *size)
{
    if (!*size)
        return;
    for (int edits = g_rand_int_range(rand, 1, 5); edits; edits--) {
        size_t at = (size_t)g_rand_int(rand) % *size;
        switch (g_rand_int_range(rand, 0, 4)) {
        case 0: data[at] ^= (uint8_t)(1u << g_rand_int_range(rand, 0, 8)); break;
        case 1: data[at] = (uint8_t)g_rand_int(rand); break;
        case 2: data[at] = g_rand_boolean(rand) ? 0xff : 0; break;
        default: *size = at + 1; break;
        }
    }
}

/* The input is copied to memory of exactly its size, so that a sanitizer sees a read past its end. */
static void run(const uint8_t *data, size_t size)
{
    g_autofree uint8_t *copy = g_malloc(size ? size : 1);
    memcpy(copy, data, size);
    LLVMFuzzerTestOneInput(copy, size);
}

static void replay(const char *path)
{
    g_autofree char *text = NULL;
    gsize length;
    g_autoptr(GError) error = NULL;
    if (!g_file_get_contents(path, &text, &length, &error))
        g_error("%s", error->message);
    run((const uint8_t *)text, length);

    g_autoptr(GRand) rand = g_rand_new_with_seed(1);
    g_autofree uint8_t *changed = g_malloc(length + 1);
    for (int i = 0; i < MUTATIONS_PER_FILE; i++) {
        size_t size = length;
        memcpy(changed, text, length);
        mutate(rand, changed, &size);
        run(changed, size);
    }
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: %s CORPUS_FOLDER\n", argv[0]);
        return 2;
    }
    g_autoptr(GError) error = NULL;
    g_autoptr(GDir) dir = g_dir_open(argv[1], 0, &error);
    if (!dir) {
        printf("Bail out! %s\n", error->message);
        return 1;
    }
    unsigned n = 0;
    const char *name;
    while ((name = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename(argv[1], name, NULL);
        replay(path);
        printf("ok %u %s\n", ++n, name);
        fflush(stdout);
    }
    printf("1..%u\n", n);
    return n ? 0 : 1;
}
