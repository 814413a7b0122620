/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* `hostel image`: its subcommands, their options, and what they share. */
#ifndef HOSTEL_CLI_IMAGE_IMAGE_H
#define HOSTEL_CLI_IMAGE_IMAGE_H

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "block/block.h"
#include "block/image.h"
#include "block/path.h"
#include "cli/progress.h"
#include "cli/stop.h"

/* --- command lines --- */

enum image_option_type {
    IMAGE_FLAG,   /* bool */
    IMAGE_TEXT,   /* const char * */
    IMAGE_TEXTS,  /* GPtrArray * of const char *: may be given repeatedly */
    IMAGE_SIZE,   /* uint64_t: bytes; without a unit, too */
    IMAGE_COUNT,  /* unsigned */
    IMAGE_FOLLOW, /* enum block_follow */
    IMAGE_ACTION, /* GPtrArray *, which gets the option's name and its argument or NULL, in turn */
};

/* One option of a subcommand. A table of them ends with one of neither letter nor name. */
struct image_option {
    char letter;      /* 0 = only a name */
    const char *name; /* NULL = only a letter */
    const char *arg;  /* what its argument is called; NULL = none; "[X]" = may be left out */
    const char *help;
    enum image_option_type type;
    size_t offset;      /* in struct image_args */
    const char *choice; /* the only words allowed, separated by '|'; NULL = any */
};

/* What all subcommands together can be told; members of one use in one subcommand only are named after it. */
struct image_args {
    const struct image_command *command;
    char **names; /* the arguments that are no options; in the command line, which stays */
    unsigned n;

    const char *format, *output_format, *backing, *backing_format;
    const char *output, *progress_form, *cache, *source_cache, *snapshot, *preallocation;
    const char *key_file, *key_fd;
    GPtrArray *options, *objects;
    enum block_follow follow;
    bool image_opts, target_image_opts, share, quiet, progress, unsafe, drop;
    uint64_t offset, size;
    unsigned threads, partition;

    const char *check_fix;
    bool info_chain;
    bool convert_compress, convert_into, convert_target_zero, convert_salvage, convert_bitmaps,
        convert_skip_broken;
    bool ignored; /* what people give for speed and what is so anyway */
    const char *sparse, *rate;
    const char *snapshot_create, *snapshot_apply, *snapshot_delete;
    bool snapshot_list;
    const char *commit_base;
    bool compare_strict, shrink, amend_force;
    GPtrArray *bitmap_actions;
    const char *bitmap_granularity, *bitmap_source, *bitmap_source_format;
    const char *map_start, *map_length;
    const char *bench_aio;
    bool bench_write, bench_random;
    unsigned bench_count, bench_depth, bench_flush, bench_pattern;
    uint64_t bench_size, bench_step;

    const char *serve_socket, *serve_port, *serve_bind, *serve_name, *serve_description, *serve_pid_file;
    const char *serve_certificates, *serve_psk_file;
    bool serve_readonly, serve_persistent, serve_any_client;
    unsigned serve_clients;
    GPtrArray *serve_bitmaps;
    char **argv; /* all of it, the subcommand first */

    uint8_t *key; /* the passphrase; owned, as is the rest */
    size_t key_size;
};

struct image_command {
    const char *name, *synopsis, *help;
    const struct image_option *options;
    int (*run)(struct image_args *args); /* the exit code */
    int usage;                           /* the exit code of a wrong command line */
    bool signed_last; /* the last argument may be a number such as -1G, which is no option */
};

/* All subcommands, ending with NULL. */
extern const struct image_command *const image_commands[];

/* Reads argv (argv[0] is the subcommand). 0; CLI_OK when all that was asked for was help; else the exit code
 * in *code. */
bool image_args_parse(struct image_args *args, const struct image_command *command, char **argv, int *code);
void image_args_fini(struct image_args *args);

/* Runs a subcommand to its exit code; argv as above. */
int image_run(const struct image_command *command, char **argv);
/* Becomes a helper program, which is given the same arguments. The exit code when that fails. */
int image_become(const char *program, struct image_args *args);

/* The help of one subcommand, and the list of them, on standard output. */
void image_help_command(const struct image_command *command);
void image_help(void);

#define IMAGE_AT(member) offsetof(struct image_args, member)
#define IMAGE_CACHES "none|writeback|writethrough|directsync|unsafe"
#define IMAGE_OPT(letter, name, arg, type, member, help)                                                     \
    {                                                                                                        \
        letter, name, arg, help, type, IMAGE_AT(member), NULL                                                \
    }
#define IMAGE_OPT_WORDS(letter, name, arg, member, words, help)                                              \
    {                                                                                                        \
        letter, name, arg, help, IMAGE_TEXT, IMAGE_AT(member), words                                         \
    }

/* Options that several have. */
#define IMAGE_OPT_FORMAT IMAGE_OPT('f', NULL, "FORMAT", IMAGE_TEXT, format, "the image's format")
#define IMAGE_OPT_QUIET IMAGE_OPT('q', "quiet", NULL, IMAGE_FLAG, quiet, "print errors only")
#define IMAGE_OPT_OUTPUT IMAGE_OPT_WORDS(0, "output", "FORM", output, "human|json", "human or json")
#define IMAGE_OPT_SHARE                                                                                      \
    IMAGE_OPT('U', "force-share", NULL, IMAGE_FLAG, share, "open without a lock, though another may write")
#define IMAGE_OPT_CACHE                                                                                      \
    IMAGE_OPT_WORDS('t', NULL, "CACHE", cache, IMAGE_CACHES,                                                 \
                    "with 'unsafe' it does not wait until all is durable; with other words it does")
#define IMAGE_OPT_SOURCE_CACHE                                                                               \
    IMAGE_OPT_WORDS('T', NULL, "CACHE", source_cache, IMAGE_CACHES, "accepted; the source is only read")
#define IMAGE_OPT_FOLLOW                                                                                     \
    IMAGE_OPT(0, "follow", "[=any]", IMAGE_FOLLOW, follow,                                                   \
              "open what the image refers to: in its folder, or anywhere")
#define IMAGE_OPT_IMAGE_OPTS                                                                                 \
    IMAGE_OPT(0, "image-opts", NULL, IMAGE_FLAG, image_opts,                                                 \
              "images are given as driver=FORMAT,file.filename=FILE,...")
#define IMAGE_OPT_CREATE                                                                                     \
    IMAGE_OPT('o', NULL, "KEY=VALUE,...", IMAGE_TEXTS, options, "options of the new image; 'help' lists them")
#define IMAGE_OPTS_PROGRESS                                                                                  \
    IMAGE_OPT('p', NULL, NULL, IMAGE_FLAG, progress, "show how far it is, also where that is no terminal"),  \
        IMAGE_OPT_WORDS(0, "progress", "FORM", progress_form, "bar|json|none", "bar, json or none")
#define IMAGE_OPTS_KEY                                                                                       \
    IMAGE_OPT(0, "key-file", "FILE", IMAGE_TEXT, key_file, "file with the passphrase"),                      \
        IMAGE_OPT(0, "key-fd", "N", IMAGE_TEXT, key_fd, "descriptor to read the passphrase from"),           \
        IMAGE_OPT(0, "object", "secret,id=ID,file=FILE", IMAGE_TEXTS, objects, "the same as --key-file")
#define IMAGE_OPT_END                                                                                        \
    {                                                                                                        \
        0, NULL, NULL, NULL, IMAGE_FLAG, 0, NULL                                                             \
    }

/* --- images --- */

/* An image that is open, and the format it was opened as: raw's disk is its file's. */
struct image {
    struct disk *disk; /* owned */
    const struct block_driver *format;
    char *name;       /* the file's, or a URI without its password: for people; owned */
    GPtrArray *chain; /* of struct block_path_link: what it lies over; owned */
};
void image_close(struct image *image);
#define AUTO_IMAGE __attribute__((cleanup(image_close))) struct image

/* How an image is opened beside what args say. */
enum image_mode {
    IMAGE_READ = 0,
    IMAGE_WRITE = 1,
    IMAGE_ALONE = 2,  /* without what it lies over */
    IMAGE_REPAIR = 4, /* as damaged as it is */
    IMAGE_GUESS = 8,  /* without a format, it may be guessed: for info */
};

/* The format called that; NULL with *error. */
const struct block_driver *image_format(const char *name, GError **error);

/* Opens name (with --image-opts, the graph that it describes) as format says, which may be NULL only with
 * IMAGE_GUESS. False with *error. */
bool image_open(struct image_args *args, const char *name, const char *format, const char *snapshot,
                unsigned mode, struct image *out, GError **error);

/* The same over another disk, which is taken, whatever the image says it lies over. */
bool image_open_over(struct image_args *args, const char *name, const char *format, struct disk *base,
                     unsigned mode, struct image *out, GError **error);

/* The graph that --image-opts describes; for image_open(). */
bool image_graph_open(struct image_args *args, const char *text, const char *snapshot, unsigned mode,
                      struct image *out, GError **error);

/* What the image says that it lies over, owned; NULL in *backing when it says nothing. False with *error. */
bool image_lies_over(struct image *image, char **backing, GError **error);

/* Reads the passphrase that args name, if they do, into args->key. */
bool image_load_key(struct image_args *args, GError **error);

/* Has the format this operation? Tells people when not. */
#define IMAGE_CAN(it, operation, error)                                                                      \
    (((it)->format->image && (it)->format->image->operation) || image_cannot(it, #operation, error))
bool image_cannot(const struct image *image, const char *operation, GError **error);

/* Values of a table of options, from texts as -o has them ("a=b,c=d"); what the command itself knows
 * (size, backing_file, backing_fmt, and the name of a key) is taken out. */
struct image_values {
    void *values; /* the list's, or NULL = the format has no options */
    struct option_list list;
    struct option_row row; /* of the list */
    char *given;           /* ",KEY=VALUE,..." of the format's own options */
    char *size, *backing, *backing_format;
    uint32_t extent_hint; /* bytes; 0 = none */
};
bool image_values_parse(struct image_values *v, const struct option_row *rows, size_t values_size,
                        const GPtrArray *texts, const char *format, GError **error);
void image_values_fini(struct image_values *v);
#define AUTO_VALUES __attribute__((cleanup(image_values_fini))) struct image_values
/* Was `help` asked for? Then it has been printed. */
bool image_values_help(const GPtrArray *texts, const struct block_driver *format);

/* A file in the making: nobody sees it under its name until image_output_publish(). */
struct image_output;
struct image_output *image_output_new(const char *name, GError **error);
/* Is it a device, or on a server, so that what was there before shows until it is written over? */
bool image_output_in_place(const char *name);
/* The empty file; owned by the output until it is taken with STEAL. */
struct disk **image_output_file(struct image_output *o);
struct block_refs *image_output_refs(struct image_output *o);
/* Asks the host's file system to give the file storage in pieces of so many bytes, if it knows such a thing.
 */
void image_output_hint(struct image_output *o, uint32_t bytes);
/* Gives it its name, durable. */
bool image_output_publish(struct image_output *o, bool durable, GError **error);
/* Removes what was not published. NULL is fine. */
void image_output_free(struct image_output *o);
CLEANUP_DEFINE(image_output, image_output_free)

/* What a new image is to be. */
struct image_make {
    const struct block_driver *format;
    uint64_t size;
    const char *backing, *backing_format;
    const void *options;
    const uint8_t *key;
    size_t key_size;
};
/* Makes it in the output's file, and opens it for writing when `disk` is not NULL (base is taken then). */
bool image_make(struct image_output *o, const char *name, const struct image_make *make, struct disk *base,
                struct disk **disk, GError **error);

/* Does all of it read as zeroes, as far as it can tell without reading? */
bool image_reads_as_zeroes(struct disk *b);

/* --- what people see --- */

/* Copies, with a bar as args say; *error says what failed. */
struct block_copy;
bool image_copy(const struct image_args *args, struct block_copy *copy, GError **error);

/* A bar or whatever else args ask for. */
void image_progress_begin(struct progress *p, const struct image_args *args, uint64_t total);

/* "Formatting ..." and the like: standard output unless -q. */
void image_say(const struct image_args *args, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* The text without the passwords of the URIs in it; owned by the caller. For all that is printed, since that
 * ends in logs. */
char *image_shown(const char *text);

/* Says the error, as image_shown() has it; code. Takes the error. */
int image_fail(GError *error, int code);

/* Prints and frees. */
void image_print_json(json_t *json);

/* A size such as 1.5G, as qemu-img has them. */
bool image_parse_size(const char *text, uint64_t *bytes, GError **error);

/* The table of struct block_snapshot as `snapshot -l` prints it. */
void image_print_snapshots(const GPtrArray *snapshots);

/* From here on the process has what is open, and can open nothing else: for those that only parse. Before
 * there is a second thread. */
bool image_confine(const struct image_args *args, GError **error);

#endif
