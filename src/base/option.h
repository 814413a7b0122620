/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Command-line options from tables: one row feeds the parser, the help, the manual's check and the arguments
 * of a VMM. */
#ifndef HOSTEL_BASE_OPTION_H
#define HOSTEL_BASE_OPTION_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum option_type {
    OPTION_FLAG,    /* bool: no argument */
    OPTION_SWITCH,  /* bool: on or off */
    OPTION_TEXT,    /* const char *: borrowed from the arguments; in a list, from the list */
    OPTION_TEXTS,   /* GPtrArray * of const char *: may be given repeatedly; NULL = never was */
    OPTION_COUNT,   /* unsigned: at least 1, unless the row says may_be_none */
    OPTION_SIZE,    /* uint64_t: bytes */
    OPTION_RATE,    /* uint64_t: so many a second */
    OPTION_FILE,    /* struct option_file: a path for people, a descriptor for a VMM */
    OPTION_CONSOLE, /* struct option_console */
    OPTION_LIST,    /* struct option_list: may be given repeatedly */
};

/* Whose command line has the option. */
enum { OPTION_CLI = 1, OPTION_VMM = 2, OPTION_BOTH = OPTION_CLI | OPTION_VMM };

struct option_file {
    const char *name; /* people: the path; VMM: what to call it in messages; NULL = not given */
    int fd;           /* -1 until it is open; owned by whoever owns the values */
};

struct option_console {
    enum option_console_kind { CONSOLE_STDIO, CONSOLE_NONE, CONSOLE_FILE } kind;
    struct option_file file; /* CONSOLE_FILE; and in a VMM also CONSOLE_STDIO: a socket, both ways */
};

/* An option like `--disk file=F,format=raw`, each time it is given one item: a struct of values made from
 * rows of its own, which are called keys. In a value a comma is written twice. */
struct option_list {
    void *items; /* the structs, one behind the other; owned */
    unsigned count;
    GPtrArray *texts; /* owns what the items borrow */
};

struct option_row {
    const char *name;   /* without the dashes */
    const char *arg;    /* what the argument is called; NULL for a flag */
    const char *value;  /* the default, as one would write it; NULL = none */
    const char *choice; /* the only words allowed, separated by '|'; NULL = no such list */
    const char *group, *help;
    enum option_type type;
    unsigned who;
    size_t offset; /* of the value in the struct of values */

    const struct option_row *keys; /* OPTION_LIST: of an item, ending with a NULL name; at most 64 */
    size_t item_size;              /* OPTION_LIST: bytes of an item */
    bool bare;        /* a key: when it is the first in the list, `VALUE` alone stands for `name=VALUE` */
    bool required;    /* a key: must be given */
    bool may_be_none; /* OPTION_COUNT: 0 is a value, too, and what it is when not given */
};

/* The C type of a value, for structs made from the same list as their rows. */
#define OPTION_C_TYPE_FLAG bool
#define OPTION_C_TYPE_SWITCH bool
#define OPTION_C_TYPE_TEXT const char *
#define OPTION_C_TYPE_TEXTS GPtrArray *
#define OPTION_C_TYPE_COUNT unsigned
#define OPTION_C_TYPE_SIZE uint64_t
#define OPTION_C_TYPE_RATE uint64_t
#define OPTION_C_TYPE_FILE struct option_file
#define OPTION_C_TYPE_CONSOLE struct option_console
#define OPTION_C_TYPE_LIST struct option_list

/* A size: digits and K, M, G or T, which may be followed by iB or B; 512M = 512MiB = 536870912. False when it
 * is none or does not fit. */
bool option_parse_size(const char *text, uint64_t *bytes);

/* So many a second: digits and K, M or G, the powers of 1000 that speeds are measured in. */
bool option_parse_rate(const char *text, uint64_t *rate);

/* Gives every value its default and every descriptor -1. rows ends with a NULL name, here and below. */
void option_init(const struct option_row *rows, void *values);

/* Closes the descriptors that values hold, frees lists. */
void option_fini(const struct option_row *rows, void *values);

/* Appends to fds (of int) each descriptor that values hold. */
void option_fds(const struct option_row *rows, const void *values, GArray *fds);

/* Reads argv (ends with NULL; the first is the first argument, not the program) for whoever `who` is: "--name
 * value",
 * "--name=value". False with *error, HOSTEL_ERROR_USAGE, at the first wrong one. */
bool option_parse(const struct option_row *rows, unsigned who, char *const *argv, void *values,
                  GError **error);

/* Appends to argv (of owned strings) what makes option_parse() in a VMM find the same values: defaults are
 * left out, files go as "fd:N:name". And to fds (of int) each descriptor it needs. */
void option_to_vmm(const struct option_row *rows, const void *values, GPtrArray *argv, GArray *fds);

/* One more item of the list that row describes, with its defaults; owned by the list. What its texts borrow
 * may be given to the list, too. */
void *option_list_add(const struct option_row *row, struct option_list *list);
const char *option_list_keep(struct option_list *list, const char *text);

/* How many letters must be changed, added or removed to make b, of at most OPTION_NAME_MAX letters, of a
 * (Levenshtein's distance). Names with OPTION_FAR or more between them are not alike. */
enum { OPTION_NAME_MAX = 63, OPTION_FAR = 3 };
unsigned option_distance(const char *a, const char *b);

/* The row with the name most like this one; NULL when none is like it. */
const struct option_row *option_nearest(const struct option_row *rows, unsigned who, const char *name);

#endif
