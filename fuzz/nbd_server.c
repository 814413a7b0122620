/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* The bytes of one client of the NBD server, from its handshake on. */
/*
 * The first byte chooses the export: its alignment, whether it can be written. Another thread takes what the
 * server says, as a client would; without it the server would wait for room.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "block/serve/session.h"

enum { DISK_SIZE = 256 << 10, INPUT_MAX = 64 << 10 /* fits into a socket */ };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct disk *memory;

static void set_up(void)
{
    struct block_config config = {.name = "fuzz", .fd = -1, .size = DISK_SIZE};
    memory = block_open(block_driver_find("memory"), &config, NULL);
    if (!memory)
        abort();
}

static void *take_all(void *opaque)
{
    static uint8_t bytes[64 << 10];
    while (recv(*(const int *)opaque, bytes, sizeof(bytes), 0) > 0)
        ;
    return NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct nbd_session session;
    int pair[2];
    pthread_t reader;
    if (!memory)
        set_up();
    if (!size || size > INPUT_MAX || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
        return 0;
    memory->facts.alignment = data[0] & 1 ? 512 : data[0] & 2 ? 4096 : 1;
    struct nbd_export export = {
        .disk = memory, .name = data[0] & 4 ? "disk" : "", .description = "a disk", .readonly = data[0] & 8};
    if (!nbd_export_init(&export, NULL) || pthread_create(&reader, NULL, take_all, &pair[0]))
        abort();
    if (send(pair[0], data + 1, size - 1, MSG_NOSIGNAL) != (ssize_t)size - 1)
        abort();
    shutdown(pair[0], SHUT_WR);
    nbd_session_serve(&session, pair[1], &export, NULL, 1);
    if (session.budget != UINT64_C(64) << 20)
        abort();
    close(pair[1]);
    pthread_join(reader, NULL);
    close(pair[0]);
    nbd_export_fini(&export);
    return 0;
}
