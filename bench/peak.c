/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) the Hostel authors */
/* Runs a command and writes the peak of its resident memory, in KiB, to a file: peak FILE COMMAND
 * [ARGUMENT]... */
/*
 * Linux counts for a program also what its process had before it became that program. Started from here that
 * is next to nothing, while an interpreter's is more than what is measured.
 */
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    int status;
    struct rusage used;
    if (argc < 3)
        return 2;
    pid_t pid = fork();
    if (!pid) {
        execvp(argv[2], argv + 2);
        _exit(127);
    }
    FILE *out = fopen(argv[1], "w");
    if (pid < 0 || !out || wait4(pid, &status, 0, &used) != pid ||
        fprintf(out, "%ld\n", used.ru_maxrss) < 0 || fclose(out))
        return 126;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 125;
}
