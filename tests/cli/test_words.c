/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The words of a guest: how a command line becomes a definition, and how definitions are changed. */
#include <string.h>
#include <unistd.h>

#include "cli/words.h"
#include "control/guest_options.h"

static GPtrArray *words(const char *line)
{
    g_auto(GStrv) argv = *line ? g_strsplit(line, " ", -1) : g_new0(char *, 1);
    return words_of(argv);
}

static void check(GPtrArray *got, const char *wanted)
{
    g_autofree char **argv = words_argv(got);
    g_autofree char *line = g_strjoinv(" ", argv);
    g_assert_cmpstr(line, ==, wanted);
    g_ptr_array_unref(got);
}

static void test_words_of(void)
{
    check(words(""), "");
    check(words("--isa riscv64 --cpus=2 -d --stats --memory 1G"),
          "--isa=riscv64 --cpus=2 --detach --stats --memory=1G");
    check(words("--append -d --name --detach"),
          "--append=-d --name=--detach");                 /* arguments, whatever they look like */
    check(words("--zzz a --memory"), "--zzz a --memory"); /* for option_parse() to refuse */
    check(words("-m 1G x"), "-m 1G x");
}

static void check_kept(const char *line, const char *wanted)
{
    g_autoptr(GPtrArray) all = words(line);
    check(words_to_keep(all), wanted);
}

static void test_paths(void)
{
    g_autofree char *old = g_get_current_dir(), *folder = g_dir_make_tmp("hostel-words-,XXXXXX", NULL);
    g_assert_cmpint(chdir(folder), ==, 0);
    g_autofree char *here = g_get_current_dir();
    g_auto(GStrv) parts = g_strsplit(here, ",", -1);
    g_autofree char *in_list = g_strjoinv(",,", parts);
#define WANT(...) (g_free(wanted), wanted = g_strdup_printf(__VA_ARGS__))
    char *wanted = NULL;
    check_kept("--kernel a --initrd /b", WANT("--kernel=%s/a --initrd=/b", here));
    check_kept("--disk a,format=raw,serial=file", WANT("--disk=file=%s/a,format=raw,serial=file", in_list));
    check_kept("--disk serial=x,file=a,,b", WANT("--disk=serial=x,file=%s/a,,b", in_list));
    check_kept("--disk file=nbd://h/x,format=raw", WANT("--disk=file=nbd://h/x,format=raw"));
    check_kept("--disk file=a,base=b,key=c",
               WANT("--disk=file=%s/a,base=%s/b,key=%s/c", in_list, in_list, in_list));
    check_kept("--console file=log", WANT("--console=file=%s/log", here));
    check_kept("--console none --append a=b,c", WANT("--console=none --append=a=b,c"));
    check_kept("--net user,forward=tcp::1-:2 --fw-cfg name=x,string=,,",
               WANT("--net=user,forward=tcp::1-:2 --fw-cfg=name=x,string=,,"));
    check_kept("--disk ,", WANT("--disk=file=,")); /* nothing is made of nothing */
#undef WANT
    g_free(wanted);
    g_assert_cmpint(chdir(old), ==, 0);
    g_assert_cmpint(rmdir(folder), ==, 0);
}

static void test_of_one_run(void)
{
    check_kept("--name a --detach --rm --stats --trace all --trace-at 0x10 --paused --rng off", "--rng=off");
}

/* Every option of a guest can be kept, and is one word then that is read as the same option again. */
static void test_every_option(void)
{
    for (const struct option_row *row = guest_option_rows; row->name; row++) {
        if (!(row->who & OPTION_CLI) || row->type == OPTION_FLAG)
            continue;
        g_autofree char *word = g_strdup_printf("--%s=/x", row->name);
        g_autoptr(GPtrArray) all = words(word);
        g_autoptr(GPtrArray) kept = words_to_keep(all);
        g_assert_cmpuint(kept->len, <=, 1);
        if (kept->len)
            g_assert_nonnull(words_get(kept, row->name));
    }
}

static void test_merge(void)
{
    g_autoptr(GPtrArray) base = words("--cpus 1 --net user --net none --memory 1G");
    g_autoptr(GPtrArray) over = words("--net tap,name=t --cpus 2");
    check(words_merge(base, over), "--memory=1G --net=tap,name=t --cpus=2");
    check(words_merge(base, NULL), "--cpus=1 --net=user --net=none --memory=1G");
    check(words_merge(NULL, over), "--net=tap,name=t --cpus=2");
    g_assert_cmpstr(words_get(base, "net"), ==, "none");
    g_assert_null(words_get(base, "ne"));
}

static void test_set(void)
{
    GPtrArray *all = words("--cpus 1 --net user --stats --net none --cpu-features x");
    words_set(all, "net", "tap,name=t");
    words_set(all, "cpus", NULL);
    words_set(all, "stats", NULL);
    check(all, "--cpu-features=x --net=tap,name=t");
}

static void test_definition(void)
{
    g_autoptr(GKeyFile) definition = g_key_file_new();
    GPtrArray *all = g_ptr_array_new_with_free_func(g_free);
    g_ptr_array_add(all, g_strdup("--append=a;b \\ \"c\"\n d=\xc3\xa4"));
    g_ptr_array_add(all, g_strdup("--name="));
    words_store(definition, "run", all);
    g_autofree char *text = g_key_file_to_data(definition, NULL, NULL);
    g_autoptr(GKeyFile) read = g_key_file_new();
    g_assert_true(g_key_file_load_from_data(read, text, strlen(text), G_KEY_FILE_NONE, NULL));
    g_autoptr(GPtrArray) got = words_load(read, "run");
    g_assert_cmpuint(got->len, ==, 2);
    for (unsigned i = 0; i < got->len; i++)
        g_assert_cmpstr(got->pdata[i], ==, all->pdata[i]);
    g_autoptr(GPtrArray) none = words_load(read, "last");
    g_assert_cmpuint(none->len, ==, 0);
    g_ptr_array_unref(all);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/words/of", test_words_of);
    g_test_add_func("/words/paths", test_paths);
    g_test_add_func("/words/of-one-run", test_of_one_run);
    g_test_add_func("/words/every-option", test_every_option);
    g_test_add_func("/words/merge", test_merge);
    g_test_add_func("/words/set", test_set);
    g_test_add_func("/words/definition", test_definition);
    return g_test_run();
}
