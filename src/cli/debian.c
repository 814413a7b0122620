/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* `hostel run debian`: from the command line to a guest in the foreground. */
/*
 * Theory of operation
 *
 * Three things are told apart. An *image* is what Debian's packages make: hostel-image-debian makes it once
 * and keeps it in the cache. A *guest* is a thin copy of it with a name, which stays until it is removed. A
 * *run* is an ordinary `hostel run` of that guest's kernel and disk: its options are put before those that
 * the user gave, so that the user's prevail.
 *
 * What makes a guest this one (host name, user, keys) is its `seed`, which is handed over behind the initial
 * file system at every start: only the guest knows whether it was sown already.
 */
#include "cli/debian.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/error.h"
#include "cli/cli.h"
#include "cli/front.h"
#include "cli/guest_run.h"
#include "cli/seed.h"
#include "control/guest_options.h"
#include "os/fd.h"

/* A run of a guest that is there. */
struct run {
    struct named *guest; /* owned until it is taken */
    bool taken, detach, quiet;
    const struct debian_request *request;
    GPtrArray *words; /* of its definition and of the request */
    char *password;   /* made up for it just now; or NULL */
    int initrd;       /* memory file: the initial file system and the seed */
    GPtrArray *argv;
};

static void __attribute__((format(printf, 2, 3))) add(struct run *run, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_ptr_array_add(run->argv, g_strdup_vprintf(format, args));
    va_end(args);
}

/* Commas are written twice in lists of keys. */
static char *escape(const char *path)
{
    g_auto(GStrv) parts = g_strsplit(path, ",", -1);
    return g_strjoinv(",,", parts);
}

static void add_disk(struct run *run, const char *disk, const char *base)
{
    g_autofree char *file = escape(disk), *below = escape(base);
    add(run, "--disk=file=%s,format=overlay,base=%s", file, below);
}

/* Programs in the guest ask the terminal for its size, and wait for answers that only a terminal gives. */
static void add_terminal(GString *append)
{
    struct winsize size;
    if (!isatty(STDIN_FILENO) || ioctl(STDIN_FILENO, TIOCGWINSZ, &size) || !size.ws_row || !size.ws_col)
        size = (struct winsize){.ws_row = 24, .ws_col = 80};
    g_string_append_printf(append, " systemd.tty.rows.ttyS0=%u systemd.tty.columns.ttyS0=%u", size.ws_row,
                           size.ws_col);
    if (!isatty(STDIN_FILENO))
        g_string_append(append, " systemd.tty.term.ttyS0=dumb");
}

static bool compose(struct run *run, GError **error)
{
    g_autofree char *kernel = named_path(run->guest, "kernel"), *initrd = named_path(run->guest, "initrd");
    g_autofree char *seed = named_path(run->guest, "seed"), *disk = named_path(run->guest, "disk");
    g_autofree char *base = named_path(run->guest, "base");
    g_autofree char *isa = g_key_file_get_string(run->guest->definition, "guest", "isa", NULL);
    g_autoptr(GString) append = g_string_new("console=ttyS0 root=/dev/vda quiet");
    const GPtrArray *words = run->words;
    add_terminal(append);
    if (words_get(words, "append"))
        g_string_append_printf(append, " %s", words_get(words, "append"));
    run->initrd = seed_append(initrd, seed, error);
    if (run->initrd < 0)
        return false;
    const char *const first[] = {"--isa",    isa,  "--name",   run->guest->name,
                                 "--memory", "1G", "--kernel", kernel};
    for (unsigned i = 0; i < G_N_ELEMENTS(first); i++)
        add(run, "%s", first[i]);
    add(run, "--initrd=/proc/self/fd/%d", run->initrd);
    if (!words_get(words, "net")) /* a second one would be another card */
        add(run, "--net=user");
    add_disk(run, disk, base);
    for (unsigned i = 0; i < words->len; i++)
        add(run, "%s", (const char *)words->pdata[i]);
    add(run, "--append=%s", append->str);
    g_ptr_array_add(run->argv, NULL);
    return true;
}

/* --- what is said before the guest speaks --- */

/* The host's side of a forward to the guest's ssh, as in "forward=tcp:127.0.0.1:2222-:22": "-p 2222
 * debian@127.0.0.1". Owned by the caller; NULL when there is none. */
static char *ssh_arguments(const GPtrArray *words, const char *user)
{
    for (unsigned i = 0; i < words->len; i++) {
        g_autoptr(GMatchInfo) match = NULL;
        g_autoptr(GRegex) forward = g_regex_new("forward=tcp:(.*):([0-9]+)-[^,]*:22(,|$)", 0, 0, NULL);
        if (!g_regex_match(forward, words->pdata[i], 0, &match))
            continue;
        g_autofree char *address = g_match_info_fetch(match, 1), *port = g_match_info_fetch(match, 2);
        return g_strdup_printf("-p %s %s@%s", port, user, *address ? address : "127.0.0.1");
    }
    return NULL;
}

static void say(const struct run *run)
{
    const struct named *guest = run->guest;
    g_autofree char *user = g_key_file_get_string(guest->definition, "guest", "user", NULL);
    g_autofree char *ssh = ssh_arguments(run->words, user);
    g_autofree char *named =
        !strcmp(guest->name, "debian") ? g_strdup("") : g_strdup_printf(" --name %s", guest->name);
    fprintf(stderr, "hostel: guest '%s', Debian %s\n", guest->name, run->request->release);
    if (run->password)
        fprintf(stderr, "  log in as %s with the password %s (this is the only time it is shown)\n", user,
                run->password);
    else
        fprintf(stderr, "  log in as %s\n", user);
    if (ssh)
        fprintf(stderr, "  from this host: ssh %s\n", ssh);
    else
        fprintf(stderr,
                "  its address, 10.0.2.15, is reached through Hostel only; for ssh -p 2222 %s@127.0.0.1, run "
                "it by\n"
                "  hostel run debian%s --net user,forward=tcp:127.0.0.1:2222-:22\n",
                user, named);
    if (run->detach)
        fprintf(stderr,
                "  'hostel console %s' attaches to it, 'hostel stop %s' ends it, 'hostel start %s' starts it "
                "again\n",
                guest->name, guest->name, guest->name);
    else
        fprintf(
            stderr,
            "  'sudo poweroff' ends it, Ctrl-] opens Hostel's menu, and the same command starts it again\n");
}

/* --- life --- */

/* In the supervisor; the VMM has what is in the initial file system. */
static void on_started(void *opaque)
{
    struct run *run = opaque;
    fd_close(&run->initrd);
    if (!run->quiet)
        say(run);
}

/* Parses the composed command line and runs it. */
static int run_guest(struct run *run)
{
    GError *error = NULL;
    struct guest_options options;
    guest_options_init(&options);
    int code;
    run->taken =
        option_parse(guest_option_rows, OPTION_CLI, (char *const *)run->argv->pdata, &options, &error);
    run->detach |= options.detach;
    if (run->taken)
        code = front_run(&(struct front_run){.guest = run->guest,
                                             .options = &options,
                                             .detach = run->detach,
                                             .quiet = run->quiet,
                                             .discard = options.rm,
                                             .started = on_started,
                                             .opaque = run});
    else
        code = cli_fail(error);
    guest_options_fini(&options);
    return code;
}

/* Takes the guest. */
static int run_named(struct named *guest, const struct debian_request *r, enum guest_run_how how,
                     char *password)
{
    GError *error = NULL;
    struct run run = {.guest = guest,
                      .detach = how != GUEST_RUN_ATTACHED,
                      .quiet = how == GUEST_RUN_QUIETLY,
                      .request = r,
                      .password = password,
                      .initrd = -1};
    g_autoptr(GPtrArray) base = words_load(guest->definition, "run");
    g_autoptr(GPtrArray) last = words_to_keep(r->guest);
    words_store(guest->definition, "last", last);
    run.words = words_merge(base, r->guest);
    run.argv = g_ptr_array_new_with_free_func(g_free);
    int code = compose(&run, &error) ? run_guest(&run) : cli_fail(error);
    fd_close(&run.initrd);
    if (!run.taken)
        named_free(run.guest);
    g_ptr_array_unref(run.words);
    g_ptr_array_unref(run.argv);
    return code;
}

/* Before anything is made: is the rest of the command line one that a guest can be run with? */
static bool check_guest_words(const struct debian_request *r, GError **error)
{
    struct guest_options options;
    g_autoptr(GPtrArray) words = g_ptr_array_copy(r->guest, NULL, NULL);
    g_ptr_array_add(words, NULL);
    guest_options_init(&options);
    bool good = option_parse(guest_option_rows, OPTION_CLI, (char *const *)words->pdata, &options, error);
    if (good && options.isa && strcmp(options.isa, "riscv64") != 0)
        good =
            hostel_fail(error, HOSTEL_ERROR_USAGE, "--isa %s: there is Debian for riscv64 only", options.isa);
    guest_options_fini(&options);
    return good;
}

static int run_request(const struct debian_request *r)
{
    GError *error = NULL;
    if (!check_guest_words(r, &error))
        return cli_fail(error);
    AUTO(named) guest = named_open(r->name, &error);
    g_autofree char *password = NULL;
    if (!guest)
        return cli_fail(error);
    if (guest->made && r->has_own) {
        hostel_fail(
            &error, HOSTEL_ERROR_USAGE,
            "guest '%s' is there already, and keeps what it was made with; leave the options for a new guest "
            "out, choose another --name, or first: hostel remove %s",
            guest->name, guest->name);
        return cli_fail(error);
    }
    if (!guest->made) {
        int code;
        /* First what may be wrong with what was given: making an image takes minutes. */
        if (!debian_write_seed(guest, &r->own, &password, &error))
            return cli_fail(error);
        g_autofree char *image = debian_image(r, "riscv64", &code, &error);
        if (!image)
            return error ? cli_fail(error) : code;
        if (!debian_make(guest, r, image, &error))
            return cli_fail(error);
    }
    return run_named(STEAL(guest), r, GUEST_RUN_ATTACHED, password);
}

int debian_run(char **argv)
{
    GError *error = NULL;
    struct debian_request request;
    g_autoptr(GPtrArray) words = words_of(argv + 1);
    g_ptr_array_insert(words, 0, g_strdup(argv[0]));
    g_autofree char **word_argv = words_argv(words);
    int code = debian_request_parse(&request, word_argv, &error) ? run_request(&request) : cli_fail(error);
    debian_request_fini(&request);
    return code;
}

int debian_start(struct named *guest, const GPtrArray *more, enum guest_run_how how)
{
    g_autofree char *release = g_key_file_get_string(guest->definition, "guest", "release", NULL);
    g_autofree char *name = g_strdup(guest->name);
    g_autoptr(GPtrArray) last = words_load(guest->definition, "last");
    g_autoptr(GPtrArray) words = words_merge(last, more);
    const struct debian_request request = {.release = release ? release : "", .name = name, .guest = words};
    return run_named(guest, &request, how, NULL);
}
