#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""`hostel image serve` when the host has no descriptors left for another client."""

import os
import pathlib
import resource
import socket
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "system"))
from tap import Skip, tap  # noqa: E402

HOSTEL = os.environ["HOSTEL"]
SCRATCH = tempfile.TemporaryDirectory(prefix="hostel-serve-")
GREETING = b"NBDMAGICIHAVEOPT"


class Server:
    """A server of a file, and the process that has the sockets."""

    def __enter__(self):
        with open("disk", "wb") as file:
            file.truncate(1 << 20)
        self.started = subprocess.Popen([HOSTEL, "image", "serve", "-f", "raw", "--socket", "socket", "--persistent",
                                         "disk"])
        while not os.path.exists("socket"):
            assert self.started.poll() is None
            time.sleep(0.01)
        children = pathlib.Path(f"/proc/{self.started.pid}/task/{self.started.pid}/children")
        while not children.read_text().split():
            assert self.started.poll() is None
            time.sleep(0.01)
        self.pid = int(children.read_text().split()[0])
        return self

    def __exit__(self, *exc):
        self.started.terminate()
        self.started.wait()

    def used(self):
        """Its processor time, seconds."""
        fields = pathlib.Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def limit_files(self, count):
        try:
            most = resource.prlimit(self.pid, resource.RLIMIT_NOFILE)[1]
            resource.prlimit(self.pid, resource.RLIMIT_NOFILE, (count, most))
        except PermissionError as reason:
            raise Skip("the limits of another process cannot be changed here") from reason

    def files(self):
        return {int(name) for name in os.listdir(f"/proc/{self.pid}/fd")}


def connect():
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(30)
    client.connect("socket")
    return client


def greeted(client):
    return client.recv(18).startswith(GREETING)


def starve(server):
    """A client that is in, and a server which has as many files as it may have."""
    first = connect()
    assert greeted(first)
    free = 0
    while free in server.files():
        free += 1
    server.limit_files(free)
    return first


def test_waits_without_turning():
    with Server() as server:
        first, before = starve(server), server.used()
        second = connect()
        second.settimeout(1.5)
        try:
            raise AssertionError(f"let in, with {second.recv(18)}")
        except TimeoutError:
            pass
        assert server.used() - before < 0.5, f"it used {server.used() - before} s while it could do nothing"
        first.close()  # whose descriptor is the second one's now
        second.settimeout(30)
        assert greeted(second)
        second.close()


def test_looks_again_when_nobody_leaves():
    with Server() as server:
        first = starve(server)
        second = connect()
        server.limit_files(100)
        assert greeted(second)
        first.close()
        second.close()


os.chdir(SCRATCH.name)
tap([value for name, value in list(globals().items()) if name.startswith("test_")])
