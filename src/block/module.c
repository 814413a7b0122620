/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Finds, loads and checks drivers that are modules. */
#include "block/module.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "os/process.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards the next two */
static GHashTable *loaded;                               /* of name to struct block_driver */
static bool closed;

/* NULL when there is none. */
static char *find(const char *name)
{
    g_autofree char *file = g_strdup_printf("hostel-block-%s.so", name);
    const char *folder = secure_getenv("HOSTEL_MODULES");
    if (!folder || !g_path_is_absolute(folder))
        return process_find_helper(file, R_OK);
    char *path = g_build_filename(folder, file, NULL);
    if (!access(path, R_OK))
        return path;
    g_free(path);
    return NULL;
}

static bool stamp_fits(const struct block_module_stamp *s)
{
    static const struct block_module_stamp ours = BLOCK_MODULE_STAMP;
    return !strncmp(s->version, ours.version, sizeof(ours.version)) && s->driver_size == ours.driver_size &&
           s->disk_size == ours.disk_size && s->config_size == ours.config_size &&
           s->extent_size == ours.extent_size && s->option_size == ours.option_size;
}

static const struct block_driver *load(const struct block_driver *row, const char *path, GError **error)
{
    /* Local: what modules bring along of Hostel must not answer for one another. */
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!handle) {
        hostel_fail(error, HOSTEL_ERROR_HOST,
                    "%s: cannot load its module %s: %s; install the library it needs", row->name, path,
                    dlerror());
        return NULL;
    }
    const struct block_module *module = dlsym(handle, BLOCK_MODULE_SYMBOL);
    if (module && stamp_fits(&module->stamp) && !strcmp(module->driver->name, row->name))
        return module->driver;
    hostel_fail(error, HOSTEL_ERROR_HOST, "%s: %s is not a module of this Hostel (%s); install Hostel again",
                row->name, path, HOSTEL_VERSION);
    dlclose(handle);
    return NULL;
}

static const struct block_driver *load_locked(const struct block_driver *row, GError **error)
{
    if (!loaded)
        loaded = g_hash_table_new(g_str_hash, g_str_equal);
    const struct block_driver *driver = g_hash_table_lookup(loaded, row->module);
    if (driver)
        return driver;
    if (closed) {
        hostel_fail(error, HOSTEL_ERROR_HOST, "%s: its module hostel-block-%s.so can only be loaded earlier",
                    row->name, row->module);
        return NULL;
    }
    g_autofree char *path = find(row->module);
    if (!path) {
        hostel_fail(error, HOSTEL_ERROR_HOST,
                    "%s: there is no module hostel-block-%s.so beside this program or in %s; install it",
                    row->name, row->module, HOSTEL_LIBEXECDIR);
        return NULL;
    }
    driver = load(row, path, error);
    if (driver)
        g_hash_table_insert(loaded, (gpointer)(uintptr_t)row->module, (gpointer)(uintptr_t)driver);
    return driver;
}

const struct block_driver *block_module_load(const struct block_driver *row, GError **error)
{
    pthread_mutex_lock(&lock);
    const struct block_driver *driver = load_locked(row, error);
    pthread_mutex_unlock(&lock);
    return driver;
}

bool block_module_any(void)
{
    pthread_mutex_lock(&lock);
    const bool any = loaded && g_hash_table_size(loaded);
    pthread_mutex_unlock(&lock);
    return any;
}

void block_module_close_door(void)
{
    pthread_mutex_lock(&lock);
    closed = true;
    pthread_mutex_unlock(&lock);
}

/* Bytes before "://"; 0 = it is none. */
static size_t scheme_length(const char *text)
{
    size_t n = 0;
    if (!g_ascii_isalpha(text[0]))
        return 0;
    while (g_ascii_isalnum(text[n]) || strchr("+-.", text[n] ? text[n] : '/'))
        n++;
    return g_str_has_prefix(text + n, "://") ? n : 0;
}

bool block_is_uri(const char *text)
{
    return scheme_length(text) != 0;
}

static bool has_scheme(const char *schemes, const char *text, size_t length)
{
    for (const char *one = schemes; one; one = strchr(one, '|')) {
        one += *one == '|';
        if (strcspn(one, "|") == length && !g_ascii_strncasecmp(one, text, length))
            return true;
    }
    return false;
}

const struct block_driver *block_driver_for_uri(const char *text)
{
    const size_t length = scheme_length(text);
    for (unsigned i = 0; length && block_drivers[i]; i++)
        if (block_drivers[i]->schemes && has_scheme(block_drivers[i]->schemes, text, length))
            return block_drivers[i];
    return NULL;
}
