/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Control groups of the host (cgroup.h has the theory). */
#include "os/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "os/fd.h"

struct cgroup {
    int version; /* 1 or 2 */
    char *path;
};

/* Where a controller's groups are, and where in them a process is. */
struct place {
    int version;
    char *mount; /* the folder of the highest group that can be seen */
    char *own;   /* the process's */
};

static void place_clear(struct place *p)
{
    g_free(p->mount);
    g_free(p->own);
    *p = (struct place){0};
}

/* --- finding --- */

static char **lines_of(const char *proc, pid_t pid, const char *file)
{
    g_autofree char *path = g_strdup_printf("%s/%d/%s", proc, (int)pid, file), *text = NULL;
    return g_file_get_contents(path, &text, NULL, NULL) ? g_strsplit(text, "\n", -1) : NULL;
}

static bool lists(const char *list, const char *separators, const char *word)
{
    g_auto(GStrv) words = g_strsplit_set(list, separators, -1);
    return g_strv_contains((const char *const *)words, word);
}

/* The path in the tree of version 1 that has the controller, or with NULL in that of version 2; owned. Lines
 * are "number:controllers:path". */
static char *path_in_tree(char **lines, const char *controller)
{
    for (; lines && *lines; lines++) {
        g_auto(GStrv) part = g_strsplit(*lines, ":", 3);
        if (g_strv_length(part) != 3)
            continue;
        if (controller ? lists(part[1], ",", controller) : !strcmp(part[0], "0") && !*part[1])
            return g_strdup(part[2]);
    }
    return NULL;
}

/* Fills p when the line of mountinfo is a tree that has the controller (version 1), or of version 2 with
 * NULL: "id parent device ROOT MOUNT options... - TYPE source OPTIONS". path: of the process in the tree. */
static bool match_mount(struct place *p, const char *line, const char *controller, const char *path)
{
    g_auto(GStrv) word = g_strsplit(line, " ", -1);
    guint n = g_strv_length(word), dash = 6;
    while (dash < n && strcmp(word[dash], "-") != 0)
        dash++;
    if (dash + 3 >= n || strcmp(word[dash + 1], controller ? "cgroup" : "cgroup2") != 0)
        return false;
    if (controller && !lists(word[dash + 3], ",", controller))
        return false;
    g_autofree char *root = g_strcompress(word[3]), *mount = g_strcompress(word[4]);
    const char *below = path; /* the part of the tree that is mounted may begin lower */
    if (strcmp(root, "/") != 0) {
        if (!g_str_has_prefix(path, root))
            return false;
        below = path + strlen(root);
    }
    while (*below == '/')
        below++;
    p->version = controller ? 1 : 2;
    p->mount = g_strdup(mount);
    p->own = *below ? g_strconcat(mount, "/", below, NULL) : g_strdup(mount);
    return true;
}

static bool find_place(struct place *p, const char *proc, pid_t pid, const char *controller)
{
    g_auto(GStrv) groups = lines_of(proc, pid, "cgroup"), mounts = lines_of(proc, pid, "mountinfo");
    for (int version = 1; version <= 2; version++) {
        const char *of = version == 1 ? controller : NULL;
        g_autofree char *path = path_in_tree(groups, of);
        for (char **line = mounts; path && line && *line; line++)
            if (match_mount(p, *line, of, path))
                return true;
    }
    return false;
}

/* --- files --- */

static int write_file(const char *folder, const char *file, const char *value)
{
    g_autofree char *path = g_strconcat(folder, "/", file, NULL);
    AUTO_FD fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return -errno;
    const ssize_t n = write(fd, value, strlen(value));
    return n < 0 ? -errno : n == (ssize_t)strlen(value) ? 0 : -EIO;
}

static bool file_lists(const char *folder, const char *file, const char *word)
{
    g_autofree char *path = g_strconcat(folder, "/", file, NULL), *text = NULL;
    return g_file_get_contents(path, &text, NULL, NULL) && lists(text, " \n", word);
}

/* --- joining --- */

static struct cgroup *group_new(int version, const char *path)
{
    struct cgroup *g = g_new(struct cgroup, 1);
    *g = (struct cgroup){.version = version, .path = g_strdup(path)};
    return g;
}

/* Makes the group below folder and moves the process into it. 0 or -errno. */
static int make_below(const char *folder, const char *name, pid_t pid, char **path)
{
    char number[16];
    g_autofree char *child = g_strconcat(folder, "/", name, NULL);
    if (mkdir(child, 0755) && errno != EEXIST)
        return -errno;
    snprintf(number, sizeof(number), "%d", (int)pid);
    const int status = write_file(child, "cgroup.procs", number);
    if (!status)
        *path = g_steal_pointer(&child);
    else
        rmdir(child); /* refused when others are in it */
    return status;
}

/* Does the group hand the controller to those below it, or can it be told to? */
static int hands_on(const char *folder, const char *controller)
{
    g_autofree char *order = g_strconcat("+", controller, NULL);
    if (file_lists(folder, "cgroup.subtree_control", controller))
        return 0;
    if (!file_lists(folder, "cgroup.controllers", controller))
        return -ENODEV;
    return write_file(folder, "cgroup.subtree_control", order);
}

static int join_v2(const struct place *p, const char *controller, const char *name, pid_t pid, char **path)
{
    int first = 0;
    for (g_autofree char *folder = g_strdup(p->own);;) {
        int status = hands_on(folder, controller);
        if (!status)
            status = make_below(folder, name, pid, path);
        if (!status)
            return 0;
        if (!first || first == -EBUSY || first == -ENODEV)
            first = status; /* rights say more than the rules of the tree */
        if (strlen(folder) <= strlen(p->mount))
            return first;
        *strrchr(folder, '/') = '\0';
    }
}

static bool check_name(const char *name, GError **error)
{
    return (*name && *name != '.' && !strchr(name, '/') && strlen(name) < 200) ||
           hostel_fail(error, HOSTEL_ERROR_USAGE, "'%.40s' cannot be the name of a control group", name);
}

static struct cgroup *found_at(const struct place *p, const char *name)
{
    const char *last = strrchr(p->own, '/');
    return last && !strcmp(last + 1, name) ? group_new(p->version, p->own) : NULL;
}

struct cgroup *cgroup_find(const char *proc, pid_t pid, const char *controller, const char *name)
{
    struct place p = {0};
    struct cgroup *g = find_place(&p, proc, pid, controller) ? found_at(&p, name) : NULL;
    place_clear(&p);
    return g;
}

static bool fail_joining(int status, const char *controller, const char *folder, GError **error)
{
    return hostel_fail(
        error, HOSTEL_ERROR_HOST,
        "this host does not let us make a control group for %s near %s: %s; run hostel as root or "
        "inside 'systemd-run --user --scope --property=Delegate=yes', or use nice, which needs no "
        "rights",
        controller, folder, g_strerror(-status));
}

struct cgroup *cgroup_join(const char *proc, pid_t pid, const char *controller, const char *name,
                           GError **error)
{
    struct place p = {0};
    if (!check_name(name, error))
        return NULL;
    if (!find_place(&p, proc, pid, controller)) {
        hostel_fail(error, HOSTEL_ERROR_UNSUPPORTED,
                    "this host has no control groups for %s, or process %d has gone; use nice instead",
                    controller, (int)pid);
        return NULL;
    }
    struct cgroup *g = found_at(&p, name);
    if (!g) {
        g_autofree char *path = NULL;
        const int status =
            p.version == 1 ? make_below(p.own, name, pid, &path) : join_v2(&p, controller, name, pid, &path);
        if (path)
            g = group_new(p.version, path);
        else
            fail_joining(status, controller, p.own, error);
    }
    place_clear(&p);
    return g;
}

void cgroup_free(struct cgroup *g)
{
    if (!g)
        return;
    g_free(g->path);
    g_free(g);
}

/* --- a group --- */

int cgroup_version(const struct cgroup *g)
{
    return g->version;
}

const char *cgroup_path(const struct cgroup *g)
{
    return g->path;
}

bool cgroup_write(const struct cgroup *g, const char *file, const char *value, GError **error)
{
    const int status = write_file(g->path, file, value);
    return !status ||
           hostel_fail(error, HOSTEL_ERROR_HOST, "the host refuses %s for %s of the control group %s: %s",
                       value, file, g->path, g_strerror(-status));
}

char *cgroup_read(const struct cgroup *g, const char *file, GError **error)
{
    g_autofree char *path = g_strconcat(g->path, "/", file, NULL);
    char *text = NULL;
    if (g_file_get_contents(path, &text, NULL, error))
        g_strchomp(text);
    return text;
}

enum { REMOVE_TRIES = 200, REMOVE_US = 5000 };

int cgroup_remove(const char *path)
{
    /* A process that has ended is in its group until its parent has looked. */
    for (unsigned tries = 0; rmdir(path); tries++) {
        if (errno != EBUSY || tries == REMOVE_TRIES)
            return -errno;
        g_usleep(REMOVE_US);
    }
    return 0;
}
