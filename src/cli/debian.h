/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* `hostel run debian`: Debian from its own packages, as a guest with a name. */
#ifndef HOSTEL_CLI_DEBIAN_H
#define HOSTEL_CLI_DEBIAN_H

#include <glib.h>
#include <stdbool.h>

#include "base/option.h"
#include "cli/guest_run.h"
#include "cli/named.h"

/* What is asked of a new guest. */
struct debian_options {
#define DEBIAN_OPTION(field, name, TYPE, arg, value, help) OPTION_C_TYPE_##TYPE field;
#include "cli/debian_options.def"
#undef DEBIAN_OPTION
};

/* The rows of the table, ending with a NULL name. */
extern const struct option_row debian_option_rows[];

/* A command line, taken apart. */
struct debian_request {
    const char *release; /* "trixie" */
    const char *name;    /* of the guest */
    struct debian_options own;
    bool has_own;     /* one of them was given */
    GPtrArray *guest; /* of const char *: the other arguments, those of any guest */
};

/* Is this word a system that `hostel run` can get by itself? */
bool debian_is_meant(const char *word);

/* Takes a command line apart; argv[0] is the system's name. False with *error. debian_request_fini() frees it
 * in any case. What it borrows is argv's. */
bool debian_request_parse(struct debian_request *r, char **argv, GError **error);
void debian_request_fini(struct debian_request *r);

/* Runs the program that makes an image, or finds it made. The image's folder, owned by the caller; NULL with
 * the exit code in *code, when it has said why. */
char *debian_image(const struct debian_request *r, const char *isa, int *code, GError **error);

/* Writes what a new guest learns about itself at its first start. *password: what was made up, owned by the
 * caller, or NULL. */
bool debian_write_seed(struct named *guest, const struct debian_options *o, char **password, GError **error);

/* Fills the folder of a new guest from an image, and keeps it. */
bool debian_make(struct named *guest, const struct debian_request *r, const char *image, GError **error);

/* The subcommand; argv[0] is the system's name. The exit code. */
int debian_run(char **argv);

/* Runs a guest that is there as it ran last. more: words
 * of this run alone; NULL = none. Takes the guest, locked. The exit code. */
int debian_start(struct named *guest, const GPtrArray *more, enum guest_run_how how);

#endif
