#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""Guests that go on from one file: each learns that it is a copy, and none draws the random numbers of another."""

import os
import re

from debian import BOOT, SCRATCH, files, initramfs
from guest import Qmp, Skip, tap

# Draws when it is told to: at once, and again when the interrupt has had its time. One process at a time, so that two
# guests which remember the same do the same.
DRAW = """
mkdir /drawn; mount -t tmpfs drawn /drawn; cd /drawn
times() { dmesg | grep -c 'crng reseeded due to virtual machine fork'; }
while read word; do
  [ "$word" = go ] || continue
  head -c 32 /dev/urandom > first
  i=0
  while [ $i -lt 20 ] && [ "$(times)" = 0 ]; do i=$((i + 1)); sleep 0.02; done
  head -c 32 /dev/urandom > later
  echo "drawn $(od -An -v -tx1 first | tr -d ' \\n') $(od -An -v -tx1 later | tr -d ' \\n') told $(times) times;"
done
"""


class Guest(Qmp):
    """A guest of Debian's kernel that draws when it is told to, or one that goes on from a file."""

    def __init__(self, *args, incoming=None):
        named = {"kernel": (files() / "kernel", os.O_RDONLY), "initrd": (initramfs(DRAW), os.O_RDONLY)}
        if incoming:
            named["incoming"] = (incoming, os.O_RDONLY)
        super().__init__("--append", "console=ttyS0 quiet", "--cpus", "1", "--rng", "off", *args, files=named,
                         memory="128M")
        self.socket.settimeout(BOOT)
        self.console.settimeout(BOOT)
        self.command("qmp_capabilities")

    def draw(self):
        """What it draws at once, what it draws a little later, and how often it was told that it is a copy."""
        self.console.sendall(b"go\n")
        seen = b""
        while b" times;" not in seen:
            data = self.console.recv(65536)
            assert data, seen
            seen += data
        found = re.search(rb"drawn (\w{64}) (\w{64}) told (\d+) times;", seen)
        assert found and found[1] != found[2], seen
        return found[1], found[2], int(found[3])


def saved_guest():
    """The file of a guest that has drawn before and waits."""
    path = f"{SCRATCH.name}/clone"
    with Guest() as guest:
        assert guest.draw()[2] == 0
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        guest.command("getfd", fd, fdname="file")
        os.close(fd)
        answer = guest.command("x-save", fdname="file", fast=True)
        assert answer["return"]["status"] == "completed", answer
    return path


def drawn(path, *args):
    with Guest(*args, incoming=path) as guest:
        return guest.draw()


def test_copies_differ():
    for _ in range(5):
        path = saved_guest()
        # That the test can fail: without the notice, two guests draw the same, unless the kernel happens to reseed.
        one, two = drawn(path, "--same-generation"), drawn(path, "--same-generation")
        assert one[2] == two[2] == 0, (one, two)
        if one[0] == two[0]:
            break
    else:
        raise AssertionError((one, two))
    copies = [drawn(path) for _ in range(3)]
    assert [copy[2] for copy in copies] == [1, 1, 1], copies
    draws = [draw for guest in [one, *copies] for draw in guest[:2]]
    assert len(set(draws)) == len(draws), draws
    os.unlink(path)


if __name__ == "__main__":
    try:
        files()
    except Skip as reason:
        print(f"1..0 # SKIP {reason}")
        raise SystemExit(0) from None
    tap([function for name, function in list(globals().items()) if name.startswith("test_")])
