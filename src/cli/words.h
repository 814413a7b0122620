/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The options of a guest as words that can be kept, compared and changed: `--name=value`, or `--name`. */
#ifndef HOSTEL_CLI_WORDS_H
#define HOSTEL_CLI_WORDS_H

#include <glib.h>
#include <stdbool.h>

/* The options of a guest on a command line (ends with NULL), each as one word; `-d` is --detach. What is no
 * option of a guest stays as it is, for option_parse() to complain. An array of owned strings, as all below;
 * what follows in argv is not looked at twice, so any argument may look like an option. */
GPtrArray *words_of(char *const *argv);

/* Those of them that make the guest what it is, for its definition: without its name and without options of
 * one run such as --detach and --trace; with absolute paths. */
GPtrArray *words_to_keep(const GPtrArray *words);

/* What a run has: the words of base whose option is not in over, then those of over. Either may be NULL. */
GPtrArray *words_merge(const GPtrArray *base, const GPtrArray *over);

/* The value of an option (""= it has none), borrowed, the last one if there are several; NULL when it is not
 * there. */
const char *words_get(const GPtrArray *words, const char *option);

/* Leaves out the option; then, unless value is NULL, appends it with that value. */
void words_set(GPtrArray *words, const char *option, const char *value);

/* As they stand in a guest's definition, in a group of it; not there is empty. */
GPtrArray *words_load(GKeyFile *definition, const char *group);
void words_store(GKeyFile *definition, const char *group, const GPtrArray *words);

/* The words as an argv, ending with NULL; the strings are borrowed. Freed with g_free(). */
char **words_argv(const GPtrArray *words);

#endif
