/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The program hostel-nbd: opens the image, listens, gives up everything else, serves. */
/*
 * Once it serves it can name no file any more, so what it leaves behind, the socket's file and the file with
 * the process's id, is removed by a process that stays outside: the one that was started. It sees no byte of
 * clients.
 */
#include "cli/image/serve.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "block/module.h"
#include "block/serve/server.h"
#include "block/serve/tls.h"
#include "cli/cli.h"
#include "cli/image/image.h"
#include "os/fd.h"

extern const struct image_command image_command_serve;

enum { CLIENTS = 16, WORKERS = 8 };

/* --- what was asked for --- */

static bool check(const struct image_args *a, GError **error)
{
    if (a->n != 1)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "expected one image, found %u arguments", a->n);
    if (a->serve_certificates && a->serve_psk_file)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "give --tls-certificates or --tls-psk-file, not both");
    if (a->serve_clients > NBD_CLIENTS_MAX)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "--shared %u: at most %d", a->serve_clients,
                           NBD_CLIENTS_MAX);
    if (a->threads > 64)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "--threads %u: at most 64", a->threads);
    if (a->serve_bind && !a->serve_port)
        return hostel_fail(error, HOSTEL_ERROR_USAGE, "--bind %s: give a --port, too", a->serve_bind);
    return true;
}

static void warn_of_clear(const struct image_args *a)
{
    const char *bind = a->serve_bind;
    if (bind && !a->serve_certificates && !a->serve_psk_file && strcmp(bind, "localhost") != 0 &&
        strcmp(bind, "::1") != 0 && !g_str_has_prefix(bind, "127."))
        log_warn(LOG_CLI,
                 "whoever reaches %s port %s may use the disk, and all in between read along: give "
                 "--tls-certificates or --tls-psk-file",
                 bind, a->serve_port);
}

static bool start_listening(const struct image_args *a, struct nbd_server *s, GError **error)
{
    const unsigned inherited = nbd_listen_inherited(s);
    if (inherited && (a->serve_socket || a->serve_port))
        return hostel_fail(error, HOSTEL_ERROR_USAGE,
                           "a socket was handed in, so --socket and --port have no place");
    if (!inherited && !a->serve_socket && !a->serve_port)
        return hostel_fail(
            error, HOSTEL_ERROR_USAGE,
            "say where to listen: --socket PATH; or --port PORT, which others of this host reach, too");
    warn_of_clear(a);
    if (a->serve_socket) { /* first, so that there is room for it */
        const int fd = nbd_listen_unix(a->serve_socket, error);
        if (fd < 0)
            return false;
        s->listeners[s->n_listeners++] = fd;
    }
    return !a->serve_port ||
           nbd_listen_tcp(s, a->serve_bind ? a->serve_bind : "localhost", a->serve_port, error);
}

static bool choose_export(const struct image_args *a, struct disk *disk, struct nbd_server *s, GError **error)
{
    s->clients = a->serve_clients ? a->serve_clients : CLIENTS;
    s->workers = a->threads ? a->threads : WORKERS;
    s->persistent = a->serve_persistent;
    s->remote_storage = block_module_any();
    s->export = (struct nbd_export){.disk = disk,
                                    .name = a->serve_name ? a->serve_name : "",
                                    .description = a->serve_description,
                                    .offset = a->offset,
                                    .size = a->size,
                                    .readonly = a->serve_readonly};
    if (!nbd_export_init(&s->export, error))
        return false;
    for (unsigned i = 0; a->serve_bitmaps && i < a->serve_bitmaps->len; i++)
        if (!nbd_export_add_bitmap(&s->export, a->serve_bitmaps->pdata[i], error))
            return false;
    return true;
}

/* --- who cleans up --- */

/* The process that was started: passes signals on, and removes the files when the server has ended. */
static int stay_outside(const struct image_args *a, pid_t server)
{
    sigset_t set;
    int status = 0, number;
    fd_close_all_but(NULL, 0);
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGCHLD);
    while (waitpid(server, &status, WNOHANG) == 0)
        if (!sigwait(&set, &number) && number != SIGCHLD)
            kill(server, number);
    if (a->serve_socket)
        unlink(a->serve_socket);
    if (a->serve_pid_file)
        unlink(a->serve_pid_file);
    if (WIFSIGNALED(status))
        log_error(LOG_CLI, "the server was ended by signal %d", WTERMSIG(status));
    return WIFEXITED(status) ? WEXITSTATUS(status) : CLI_CRASH;
}

static bool write_pid(const char *path, GError **error)
{
    g_autofree char *text = g_strdup_printf("%d\n", (int)getpid());
    g_autoptr(GError) why = NULL;
    return g_file_set_contents_full(path, text, -1, G_FILE_SET_CONTENTS_CONSISTENT, 0644, &why) ||
           hostel_fail(error, HOSTEL_ERROR_HOST, "--pid-file: %s", why->message);
}

/* Returns in the server only. The process that was started ends when that has ended, at once: the image is
 * not its to close. */
static bool split(const struct image_args *a, GError **error)
{
    sigset_t child;
    if (!a->serve_socket && !a->serve_pid_file)
        return true;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child, NULL);
    if (a->serve_pid_file && !write_pid(a->serve_pid_file, error)) {
        if (a->serve_socket)
            unlink(a->serve_socket);
        return false;
    }
    const pid_t parent = getpid(), server = fork();
    if (server < 0)
        return hostel_fail(error, HOSTEL_ERROR_HOST, "cannot start a process: %s", g_strerror(errno));
    if (server)
        _exit(stay_outside(a, server));
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent)
        _exit(CLI_CRASH);
    return true;
}

/* --- the program --- */

static bool serve(struct image_args *a, struct nbd_server *s, GError **error)
{
    AUTO_IMAGE image = {0};
    a->serve_readonly |= a->snapshot != NULL;
    if (!check(a, error) || !image_open(a, a->names[0], a->format, a->snapshot,
                                        a->serve_readonly ? IMAGE_READ : IMAGE_WRITE, &image, error))
        return false;
    AUTO(nbd_tls) tls = NULL;
    if (a->serve_certificates || a->serve_psk_file) {
        tls = nbd_tls_new(a->serve_certificates, a->serve_any_client, a->serve_psk_file, error);
        if (!tls)
            return false;
    }
    s->tls = tls;
    const bool good = choose_export(a, image.disk, s, error) && start_listening(a, s, error) &&
                      split(a, error) && nbd_server_confine(s, error) && nbd_server_run(s, error);
    nbd_server_fini(s);
    return good;
}

static int run(struct image_args *args)
{
    GError *error = NULL;
    struct nbd_server server = {0};
    nbd_server_block_signals();
    return serve(args, &server, &error) ? CLI_OK : image_fail(error, CLI_FAILURE);
}

int image_serve_main(char **argv)
{
    struct image_args args;
    int code = CLI_OK;
    log_set_program("hostel-nbd");
    if (image_args_parse(&args, &image_command_serve, argv, &code))
        code = run(&args);
    image_args_fini(&args);
    return code;
}
