/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* `hostel image serve`: what it can be told. The work is done by hostel-nbd, which links TLS. */
#include "cli/cli.h"
#include "cli/image/image.h"

static const struct image_option options[] = {
    IMAGE_OPT_FORMAT,
    IMAGE_OPT('k', "socket", "PATH", IMAGE_TEXT, serve_socket,
              "listen on this Unix socket, made for its owner only"),
    IMAGE_OPT('p', "port", "PORT", IMAGE_TEXT, serve_port, "listen on this TCP port of the loopback"),
    IMAGE_OPT('b', "bind", "ADDRESS", IMAGE_TEXT, serve_bind,
              "with --port: of this address of the host, not of its loopback"),
    IMAGE_OPT('x', "export-name", "NAME", IMAGE_TEXT, serve_name,
              "what clients call it; the default is no name"),
    IMAGE_OPT('D', "description", "TEXT", IMAGE_TEXT, serve_description, "what clients see it described as"),
    IMAGE_OPT('r', "read-only", NULL, IMAGE_FLAG, serve_readonly, "clients cannot write"),
    IMAGE_OPT('e', "shared", "N", IMAGE_COUNT, serve_clients, "clients at once (16)"),
    IMAGE_OPT('t', "persistent", NULL, IMAGE_FLAG, serve_persistent, "go on after the last client"),
    IMAGE_OPT('l', "snapshot", "SNAPSHOT", IMAGE_TEXT, snapshot, "serve this internal snapshot, read-only"),
    IMAGE_OPT('B', "bitmap", "NAME", IMAGE_TEXTS, serve_bitmaps, "let clients see this bitmap (with -r)"),
    IMAGE_OPT('o', "offset", "N", IMAGE_SIZE, offset, "serve from this byte of the disk on"),
    IMAGE_OPT(0, "size", "N", IMAGE_SIZE, size, "serve so many bytes (default: up to the end)"),
    IMAGE_OPT(0, "threads", "N", IMAGE_COUNT, threads, "requests of a client that are worked on at once (8)"),
    IMAGE_OPT(0, "tls-certificates", "DIR", IMAGE_TEXT, serve_certificates,
              "require TLS: ca-cert.pem, server-cert.pem, server-key.pem"),
    IMAGE_OPT(0, "tls-any-client", NULL, IMAGE_FLAG, serve_any_client,
              "let in clients without a certificate"),
    IMAGE_OPT(0, "tls-psk-file", "FILE", IMAGE_TEXT, serve_psk_file, "require TLS with one of these keys"),
    IMAGE_OPT(0, "pid-file", "FILE", IMAGE_TEXT, serve_pid_file,
              "write the process's id there when it is ready"),
    IMAGE_OPT_FOLLOW,
    IMAGE_OPT_IMAGE_OPTS,
    IMAGE_OPT_SHARE,
    IMAGE_OPTS_KEY,
    IMAGE_OPT_END,
};

static int run(struct image_args *args)
{
    return image_become("hostel-nbd", args);
}

const struct image_command image_command_serve = {
    .name = "serve",
    .synopsis = "-f FORMAT [-k PATH | -p PORT] [-r] [-t] FILE",
    .help = "let others use an image's disk, over NBD",
    .options = options,
    .run = run,
    .usage = CLI_FAILURE,
};
