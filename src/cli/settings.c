/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* What of a guest can be changed by `hostel set`. */
#include "cli/settings.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "cli/guest_run.h"
#include "cli/settings_live.h"
#include "cli/words.h"
#include "control/guest_options.h"

/* Ends with a NULL name. */
static const struct setting rows[] = {
    {"memory-target", "SIZE", "memory that the guest shall do with; it gives the rest back", live_check_size,
     live_set_memory_target},
    {"memory-limit", "SIZE", "memory beyond which the host takes some back harder", live_check_size,
     live_set_memory_limit},
    {"cpu-affinity", "CPUS", "processors of the host that it may use, as in 0-3,5", live_check_cpus,
     live_set_affinity},
    {"cpu-weight", "N", "its share of the host's processors when they are short, next to others' 100",
     live_check_weight, live_set_weight},
    {"cpu-cap", "PERCENT", "processor time that it may use at most, in percent of one processor",
     live_check_cap, live_set_cap},
    {"nice", "N", "how little it presses for the host's processors, -20 to 19", live_check_nice,
     live_set_nice},
    {"net-in", "BITS", "what each of its network cards may receive in a second, as in 10M", live_check_rate,
     live_set_net_in},
    {"net-out", "BITS", "what each of them may send", live_check_rate, live_set_net_out},
    {0},
};

static const char group[] = "settings";

const struct setting *setting_find(const char *key)
{
    for (const struct setting *s = rows; s->name; s++)
        if (!strcmp(s->name, key))
            return s;
    return NULL;
}

/* An option that belongs to what a guest is, not to one run of it. */
static const struct option_row *option_of(const char *key)
{
    for (const struct option_row *row = guest_option_rows; row->name; row++) {
        g_autofree char *word = g_strconcat("--", row->name, "=", NULL);
        g_autoptr(GPtrArray) words = g_ptr_array_new();
        g_ptr_array_add(words, word);
        if (strcmp(row->name, key) != 0 || !(row->who & OPTION_CLI) || row->type == OPTION_FLAG)
            continue;
        g_autoptr(GPtrArray) kept = words_to_keep(words);
        return kept->len ? row : NULL;
    }
    return NULL;
}

static bool fail_unknown(const char *key, GError **error)
{
    const struct option_row *near = option_nearest(guest_option_rows, OPTION_CLI, key);
    if (near && option_of(near->name))
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "there is no key '%s'; did you mean %s?", key,
                           near->name);
    return hostel_fail(error, HOSTEL_ERROR_USAGE, "there is no key '%s'; 'hostel help set' lists them", key);
}

/* Would `hostel run` take these words? */
static bool check_words(const GPtrArray *words, GError **error)
{
    struct guest_options options;
    g_autofree char **argv = words_argv(words);
    guest_options_init(&options);
    const bool good = option_parse(guest_option_rows, OPTION_CLI, argv, &options, error);
    guest_options_fini(&options);
    return good;
}

static bool store_option(struct named *guest, const char *key, const char *value, GError **error)
{
    static const char *const own[] = {"kernel", "initrd", "firmware", "flash", "isa", "board", NULL};
    g_autofree char *system = guest_system(guest);
    if (strcmp(system, "run") != 0 && g_strv_contains(own, key))
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "%s: guest '%s' brings its own (%s)", key, guest->name,
                           system);
    g_autofree char *word = g_strconcat("--", key, "=", value, NULL);
    g_autoptr(GPtrArray) given = g_ptr_array_new();
    g_ptr_array_add(given, word);
    g_autoptr(GPtrArray) kept = words_to_keep(given); /* with an absolute path */
    g_autoptr(GPtrArray) words = words_load(guest->definition, "run");
    g_autoptr(GPtrArray) last = words_load(guest->definition, "last");
    words_set(words, key, value ? words_get(kept, key) : NULL);
    words_set(last, key, NULL);
    if (!check_words(words, error))
        return false;
    words_store(guest->definition, "run", words);
    words_store(guest->definition, "last", last);
    return true;
}

bool setting_store(struct named *guest, const char *key, const char *value, GError **error)
{
    if (option_of(key))
        return store_option(guest, key, value, error);
    const struct setting *s = setting_find(key);
    if (!s)
        return fail_unknown(key, error);
    if (value && s->check && !s->check(value, error)) {
        g_prefix_error(error, "%s: ", key);
        return false;
    }
    if (value)
        g_key_file_set_string(guest->definition, group, key, value);
    else
        g_key_file_remove_key(guest->definition, group, key, NULL);
    return true;
}

char *setting_load(const struct named *guest, const char *key)
{
    return g_key_file_get_string(guest->definition, group, key, NULL);
}

void settings_start(const struct named *guest, const struct guest_state *state)
{
    struct setting_live live = {.name = guest->name, .state = state};
    for (const struct setting *s = rows; s->name; s++) {
        g_autoptr(GError) error = NULL;
        g_autofree char *value = s->apply && !option_of(s->name) ? setting_load(guest, s->name) : NULL;
        if (value && !s->apply(&live, value, &error))
            log_warn(LOG_CLI, "guest '%s' runs without %s=%s: %s", guest->name, s->name, value,
                     error->message);
    }
    guest_call_close(live.call);
}

void settings_help(void)
{
    printf("\nWithout a value (KEY=) a key has its default again. Keys:\n");
    for (const struct option_row *row = guest_option_rows; row->name; row++) {
        if (!option_of(row->name))
            continue;
        const struct setting *s = setting_find(row->name);
        printf("  %-16s %s%s\n", row->name, row->help, s && s->apply ? " (also while the guest runs)" : "");
    }
    for (const struct setting *s = rows; s->name; s++)
        if (!option_of(s->name))
            printf("  %-16s %s%s\n", s->name, s->help, s->apply ? " (also while the guest runs)" : "");
}
