/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* A new guest of an image: its thin disk, its seed, its definition. */
#include <crypt.h>
#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "cli/debian.h"
#include "cli/seed.h"
#include "cli/thin.h"

/* --- passwords --- */

/* 60 bits, in signs that are not taken for each other when they are read from a screen. */
static char *make_up_password(GError **error)
{
    static const char signs[] = "abcdefghijkmnpqrstuvwxyz23456789";
    enum { LENGTH = 12, GROUP = 4, SIGNS = sizeof(signs) - 1 };
    _Static_assert((SIGNS & (SIGNS - 1)) == 0, "each sign is as likely");
    guint8 random[LENGTH];
    if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random)) {
        hostel_fail(error, HOSTEL_ERROR_HOST, "cannot make up a password: %s", g_strerror(errno));
        return NULL;
    }
    GString *password = g_string_new(NULL);
    for (unsigned i = 0; i < LENGTH; i++) {
        if (i && i % GROUP == 0)
            g_string_append_c(password, '-');
        g_string_append_c(password, signs[random[i] % SIGNS]);
    }
    return g_string_free(password, FALSE);
}

/* As it stands in shadow(5), by the method that Debian uses (crypt(5)). */
static char *hash_password(const char *password, GError **error)
{
    char salt[CRYPT_GENSALT_OUTPUT_SIZE];
    g_autofree struct crypt_data *work = g_new0(struct crypt_data, 1);
    const char *hash = crypt_gensalt_rn("$y$", 0, NULL, 0, salt, sizeof(salt))
                           ? crypt_rn(password, salt, work, (int)sizeof(*work))
                           : NULL;
    if (hash)
        return g_strdup(hash);
    hostel_fail(error, HOSTEL_ERROR_HOST, "cannot encrypt the password: %s", g_strerror(errno));
    return NULL;
}

/* --- the seed --- */

enum { INPUT_MAX = 1 << 20 };

static char *read_input(const char *option, const char *path, GError **error)
{
    g_autoptr(GError) why = NULL;
    g_autofree char *text = NULL;
    gsize size;
    if (!g_file_get_contents(path, &text, &size, &why))
        hostel_fail(error, HOSTEL_ERROR_HOST, "--%s: %s", option, why->message);
    else if (!size || size > INPUT_MAX || strlen(text) != size)
        hostel_fail(error, HOSTEL_ERROR_INPUT, "--%s %s: must be a text of up to 1 MiB", option, path);
    else
        return g_steal_pointer(&text);
    return NULL;
}

static bool add_keys(GByteArray *seed, const struct debian_options *o, GError **error)
{
    g_autoptr(GString) keys = g_string_new(NULL);
    for (unsigned i = 0; o->ssh_keys && i < o->ssh_keys->len; i++) {
        const char *path = o->ssh_keys->pdata[i];
        g_autofree char *text = read_input("ssh-key", path, error);
        if (!text)
            return false;
        if (strstr(text, "PRIVATE KEY"))
            return hostel_fail(error, HOSTEL_ERROR_INPUT,
                               "--ssh-key %s: is a private key, which stays with you; give %s.pub", path,
                               path);
        if (!g_regex_match_simple("^(ssh|ecdsa|sk)-[a-z0-9@.-]+ [A-Za-z0-9+/=]+", text, G_REGEX_MULTILINE, 0))
            return hostel_fail(error, HOSTEL_ERROR_INPUT, "--ssh-key %s: is not a public key of OpenSSH",
                               path);
        g_string_append_printf(keys, "%s\n", g_strchomp(text));
    }
    if (keys->len)
        seed_add_text(seed, "keys", keys->str);
    return true;
}

/* Without a password and without a key, one is made up. */
static bool add_password(GByteArray *seed, const struct debian_options *o, char **made_up, GError **error)
{
    g_autofree char *password = g_strdup(o->password);
    if (o->password_file) {
        password = read_input("password-file", o->password_file, error);
        if (!password)
            return false;
        password[strcspn(password, "\r\n")] = '\0';
        if (!*password)
            return hostel_fail(error, HOSTEL_ERROR_INPUT, "--password-file %s: its first line is empty",
                               o->password_file);
    }
    if (!password && o->ssh_keys)
        return true;
    if (!password) {
        password = make_up_password(error);
        if (!password)
            return false;
        *made_up = g_strdup(password);
    }
    g_autofree char *hash = hash_password(password, error);
    if (!hash)
        return false;
    seed_add_text(seed, "password", hash);
    return true;
}

bool debian_write_seed(struct named *guest, const struct debian_options *o, char **password, GError **error)
{
    g_autoptr(GByteArray) seed = seed_new();
    g_autofree char *id = g_uuid_string_random(), *path = named_path(guest, "seed");
    seed_add_text(seed, "id", id);
    seed_add_text(seed, "hostname", o->hostname ? o->hostname : guest->name);
    seed_add_text(seed, "user", o->user);
    seed_add_text(seed, "grow", "");
    if (!add_keys(seed, o, error) || !add_password(seed, o, password, error))
        return false;
    if (o->user_data) {
        g_autofree char *data = read_input("user-data", o->user_data, error);
        if (!data)
            return false;
        seed_add_text(seed, "user-data", data);
    }
    seed_end(seed);
    g_autoptr(GError) why = NULL;
    return g_file_set_contents_full(path, (const char *)seed->data, (gssize)seed->len,
                                    G_FILE_SET_CONTENTS_DURABLE, 0600, &why) ||
           hostel_fail(error, HOSTEL_ERROR_HOST, "%s", why->message);
}

/* --- all of it --- */

static bool take_files(struct named *guest, const char *image, uint64_t size, GError **error)
{
    /* The guest's own links: whoever empties the cache takes nothing from it. */
    static const struct {
        const char *image, *guest;
    } shared[] = {{"kernel", "kernel"}, {"initrd", "initrd"}, {"disk", "base"}};
    for (unsigned i = 0; i < G_N_ELEMENTS(shared); i++) {
        g_autofree char *from = g_build_filename(image, shared[i].image, NULL);
        g_autofree char *to = named_path(guest, shared[i].guest);
        if (!thin_share(from, to, error))
            return false;
    }
    g_autofree char *base = named_path(guest, "base"), *disk = named_path(guest, "disk");
    return thin_overlay(base, disk, size, error);
}

bool debian_make(struct named *guest, const struct debian_request *r, const char *image, GError **error)
{
    GKeyFile *d = guest->definition;
    g_autofree char *base = g_path_get_basename(image);
    g_autoptr(GDateTime) now = g_date_time_new_now_utc();
    g_autofree char *time = g_date_time_format_iso8601(now);
    g_key_file_set_string(d, "guest", "system", "debian");
    g_key_file_set_string(d, "guest", "release", r->release);
    g_key_file_set_string(d, "guest", "isa", "riscv64");
    g_key_file_set_string(d, "guest", "user", r->own.user);
    g_key_file_set_string(d, "guest", "image", base);
    g_key_file_set_string(d, "guest", "made", time);
    return take_files(guest, image, r->own.size, error) && named_keep(guest, error);
}
