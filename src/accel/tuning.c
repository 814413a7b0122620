/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The words by which tests ask for an engine that works otherwise than usual. */
#include <string.h>

#include "accel/accel.h"
#include "base/error.h"
#include "engine/block.h"

static const char *const names[] = {
#define TUNING(id, text, help) text,
#include "engine/tuning.def"
#undef TUNING
};

static bool tune_by_name(struct vcpus_config *config, const char *word)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++)
        if (!strcmp(names[i], word)) {
            config->tuning |= 1u << i;
            return true;
        }
    return false;
}

/* "name=number" with a number in [1, UINT32_MAX]. */
static bool number_of(const char *word, const char *name, uint64_t *value)
{
    return g_str_has_prefix(word, name) &&
           g_ascii_string_to_unsigned(word + strlen(name), 10, 1, UINT32_MAX, value, NULL);
}

static bool tune(struct vcpus_config *config, const char *word)
{
    uint64_t value;
    if (number_of(word, "check=", &value))
        config->check = (unsigned)value;
    else if (number_of(word, "code=", &value))
        config->code_limit = (size_t)value;
    else
        return tune_by_name(config, word);
    return true;
}

bool vcpus_tune(struct vcpus_config *config, const char *words, GError **error)
{
    if (!words || !*words)
        return true;
    g_auto(GStrv) list = g_strsplit(words, ",", -1);
    for (char **word = list; *word; word++)
        if (!tune(config, *word)) {
            g_autofree char *all = g_strjoinv(", ", (char **)(uintptr_t)(const char *const[]){
#define TUNING(id, text, help) text,
#include "engine/tuning.def"
#undef TUNING
                                                        NULL});
            return hostel_fail(error, HOSTEL_ERROR_USAGE,
                               "'%s' is no tuning; there are %s, check=N and code=BYTES", *word, all);
        }
    return true;
}
