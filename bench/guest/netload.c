/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Moves bytes over TCP and counts the time; one program for both ends, in the guest and on the host.
 *
 *   netload serve PORT                    serves until it is killed
 *   netload get|put|rtt ADDRESS PORT N    asks a server for N bytes, sends it N, or does N round trips of a
 * byte
 *
 * A client's first byte says what it wants ('g', 'p', 'r'), eight more how much. Every byte's value depends
 * on its place in the stream, and the receiver checks it. A client prints one line: what it did, how many
 * seconds it took. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { BUFFER = 256 * 1024, PERIOD = 251 }; /* a prime, so it meets no power of two */

static unsigned char buffer[BUFFER + PERIOD];
static unsigned char wanted[BUFFER + PERIOD];

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void read_all(int fd, void *to, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = read(fd, (char *)to + done, size - done);
        if (n <= 0)
            die("read");
        done += (size_t)n;
    }
}

static void write_all(int fd, const void *from, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = write(fd, (const char *)from + done, size - done);
        if (n <= 0)
            die("write");
        done += (size_t)n;
    }
}

static void send_bytes(int fd, uint64_t count)
{
    for (uint64_t at = 0; at < count;) {
        size_t size = count - at < BUFFER ? (size_t)(count - at) : BUFFER;
        write_all(fd, wanted + at % PERIOD, size);
        at += size;
    }
}

static void take_bytes(int fd, uint64_t count)
{
    for (uint64_t at = 0; at < count;) {
        size_t size = count - at < BUFFER ? (size_t)(count - at) : BUFFER;
        ssize_t n = read(fd, buffer, size);
        if (n <= 0)
            die("read");
        if (memcmp(buffer, wanted + at % PERIOD, (size_t)n) != 0) {
            fprintf(stderr, "netload: wrong bytes after %llu\n", (unsigned long long)at);
            exit(1);
        }
        at += (uint64_t)n;
    }
}

static void answer(int fd)
{
    unsigned char request[9];
    uint64_t count = 0;
    read_all(fd, request, sizeof(request));
    for (int i = 1; i < 9; i++)
        count = count << 8 | request[i];
    char byte = 0;
    if (request[0] == 'g')
        send_bytes(fd, count);
    else if (request[0] == 'p')
        take_bytes(fd, count);
    for (; request[0] == 'r' && count; count--) {
        read_all(fd, &byte, 1);
        write_all(fd, &byte, 1);
    }
    write_all(fd, &byte, 1); /* done, and everything has arrived */
}

static void serve(const char *port)
{
    struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)atoi(port))};
    int on = 1, off = 0, listener = socket(AF_INET6, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    setsockopt(listener, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
    if (bind(listener, (struct sockaddr *)&any, sizeof(any)) || listen(listener, 16))
        die("listen");
    signal(SIGCHLD, SIG_IGN);
    printf("netload serves %s\n", port);
    fflush(stdout);
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        if (fd < 0)
            die("accept");
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        if (fork() == 0) {
            answer(fd);
            exit(0);
        }
        close(fd);
    }
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void ask(const char *what, const char *address, const char *port, uint64_t count)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    int on = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    unsigned char request[9] = {(unsigned char)what[0]};
    char byte = 0;
    inet_pton(AF_INET, address, &to.sin_addr);
    if (connect(fd, (struct sockaddr *)&to, sizeof(to)))
        die("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    for (int i = 0; i < 8; i++)
        request[8 - i] = (unsigned char)(count >> 8 * i);
    double start = now();
    write_all(fd, request, sizeof(request));
    if (*what == 'g')
        take_bytes(fd, count);
    else if (*what == 'p')
        send_bytes(fd, count);
    for (uint64_t i = 0; *what == 'r' && i < count; i++) {
        write_all(fd, &byte, 1);
        read_all(fd, &byte, 1);
    }
    read_all(fd, &byte, 1);
    printf("%s %llu %.6f\n", what, (unsigned long long)count, now() - start);
}

int main(int argc, char **argv)
{
    for (size_t i = 0; i < sizeof(wanted); i++)
        wanted[i] = (unsigned char)(i % PERIOD);
    signal(SIGPIPE, SIG_IGN);
    if (argc == 3 && !strcmp(argv[1], "serve"))
        serve(argv[2]);
    if (argc != 5) {
        fprintf(stderr, "netload serve PORT | get|put|rtt ADDRESS PORT N\n");
        return 2;
    }
    ask(argv[1], argv[2], argv[3], strtoull(argv[4], NULL, 10));
    return 0;
}
