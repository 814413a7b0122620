#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""Guests that are saved under load and go on elsewhere: same memory, same registers, same disk, and no error in them.

SAVES=N is how often, over all kinds of guests.
"""

import filecmp
import os
import pathlib
import resource
import shutil
import subprocess
import tempfile

from debian import BOOT, SCRATCH, files, initramfs
from guest import PATIENCE, Qmp, Skip, tap, until

SAVES = int(os.environ.get("SAVES", "20"))
MIB = 1 << 20

# Memory, a disk, processes that come and go, and clocks; each round is checked by the guest itself.
LOAD = """
head -c 2000000 /dev/urandom > /tmp/a
sum=$(md5sum < /tmp/a)
before=0
i=0
while :; do
  i=$((i + 1))
  [ "$(md5sum < /tmp/a)" = "$sum" ] || echo BROKEN memory
  dd if=/tmp/a of=/dev/vda bs=64k conv=fsync 2>/dev/null
  echo 3 > /proc/sys/vm/drop_caches
  [ "$(head -c 2000000 /dev/vda | md5sum)" = "$sum" ] || echo BROKEN disk
  now=$(cut -d. -f1 /proc/uptime)
  [ "$now" -ge "$before" ] || echo BROKEN clock
  [ "$now" -le $((before + 600)) ] || echo BROKEN clock, forward
  before=$now
  (sleep 0.01; true) || echo BROKEN timer
  echo "round $i"
done
"""


class Guest(Qmp):
    """A guest of Debian's kernel under load, or one that goes on from a file."""

    def __init__(self, disk, *args, cpus=1, incoming=None, memory="128M"):
        self.disk = disk
        named = {"kernel": (files() / "kernel", os.O_RDONLY),
                 "initrd": (initramfs(LOAD, "virtio"), os.O_RDONLY),
                 "disk format=raw": (disk, os.O_RDWR)}
        if incoming:
            named["incoming"] = (incoming, os.O_RDONLY)
        super().__init__("--append", "console=ttyS0 quiet", "--cpus", str(cpus), *args, files=named, memory=memory)
        self.socket.settimeout(BOOT)
        self.console.settimeout(BOOT)
        self.command("qmp_capabilities")

    def rounds(self, count):
        """Wait until so many rounds have ended behind those that were seen; none of them found anything wrong."""
        seen = b""
        while seen.count(b"round ") < count + 1:  # the first may have been under way
            data = self.console.recv(65536)
            assert data, seen
            seen += data
        assert b"BROKEN" not in seen and b"panic" not in seen, seen

    def save(self, **how):
        """Save into a new file; its path and the answer."""
        path = scratch("saved")
        fd = os.open(path, os.O_RDWR)
        assert self.command("getfd", fd, fdname="file") == {"return": {}}
        os.close(fd)
        return path, self.command("x-save", fdname="file", **how)

    def quit(self):
        assert self.command("quit") == {"return": {}}
        assert self.process.wait(PATIENCE) == 0


def scratch(suffix, size=0):
    handle, path = tempfile.mkstemp(suffix="." + suffix, dir=SCRATCH.name)
    os.ftruncate(handle, size)
    os.close(handle)
    return pathlib.Path(path)


def new_disk():
    return scratch("img", 16 * MIB)


def same_saved_again(saved, disk, *args, cpus):
    """What goes on from a file, saved again before its first instruction, is that file."""
    with Guest(disk, "--paused", "--same-generation", *args, cpus=cpus, incoming=saved) as guest:
        again, answer = guest.save(fast=True)
        assert answer["return"]["status"] == "completed", answer
        assert filecmp.cmp(saved, again, shallow=False)
        again.unlink()
        guest.command("cont")
        guest.quit()


def go_round(cpus, saves, methods):
    disk, saved = new_disk(), None
    for i in range(saves + 1):
        method = ("--method", methods[i % len(methods)])
        with Guest(disk, *method, cpus=cpus, incoming=saved) as guest:
            guest.rounds(1)
            if saved:
                saved.unlink()
            saved, answer = guest.save(fast=True)
            assert answer["return"]["status"] == "completed", answer
            assert guest.command("query-status")["return"]["status"] == "postmigrate"
            guest.quit()
        if i % 4 == 0:
            copy = new_disk()
            shutil.copyfile(disk, copy)
            same_saved_again(saved, copy, *method, cpus=cpus)
            copy.unlink()
    saved.unlink()
    disk.unlink()


def test_translation_one_cpu():
    go_round(1, SAVES * 4 // 10, ["translation"])


def test_translation_four_cpus():
    go_round(4, SAVES * 4 // 10, ["translation"])


def test_one_method_goes_on_where_the_other_was():
    go_round(1, SAVES * 2 // 10, ["translation", "emulation"])


def test_saved_while_it_goes_on():
    """Each of several files of one guest is whole, and the guest never noticed."""
    disk = new_disk()
    with Guest(disk, cpus=2) as guest:
        guest.rounds(1)
        taken = []
        for _ in range(3):
            path, answer = guest.save(**{"run-on": True, "fast": True})
            assert answer["return"]["status"] == "completed", answer
            # The disk is a moment later than memory; what is on it is read again by each round before it counts.
            copy = new_disk()
            shutil.copyfile(disk, copy)
            taken.append((path, copy))
            assert guest.command("query-status")["return"]["status"] == "running"
            guest.rounds(1)
        guest.quit()
    for path, copy in taken:
        with Guest(copy, cpus=2, incoming=path) as guest:
            guest.rounds(2)
            guest.quit()


def test_migrate_to_a_file():
    """QMP's own command and how it is followed."""
    disk = new_disk()
    with Guest(disk) as guest:
        guest.rounds(1)
        path = scratch("saved")
        fd = os.open(path, os.O_RDWR)
        guest.command("getfd", fd, fdname="there")
        os.close(fd)
        assert "error" in guest.command("migrate", uri="tcp:127.0.0.1:4444")
        assert "error" in guest.command("migrate", uri="fd:nowhere")
        assert guest.command("query-migrate") == {"return": {}}
        assert guest.command("migrate", uri="fd:there") == {"return": {}}
        until(lambda: guest.command("query-migrate")["return"]["status"] == "completed", "the end of migration", BOOT)
        assert guest.wait_event("MIGRATION")["data"] == {"status": "active"}
        guest.wait_event("STOP")
        guest.wait_event("MIGRATION")
        told = guest.command("query-migrate")["return"]
        assert told["ram"]["transferred"] > 0 and told["total-time"] >= told["downtime"]
        guest.quit()
    with Guest(disk, incoming=path) as guest:
        guest.rounds(1)
        guest.quit()


def test_cancelled():
    with Guest(new_disk()) as guest:
        guest.rounds(1)
        path = scratch("saved")
        fd = os.open(path, os.O_RDWR)
        guest.command("getfd", fd, fdname="file")
        os.close(fd)
        guest.command("migrate", uri="fd:file")
        guest.command("migrate_cancel")
        until(lambda: guest.command("query-migrate")["return"]["status"] in ("cancelled", "completed"), "an end", BOOT)
        if guest.command("query-migrate")["return"]["status"] == "completed":
            guest.command("cont")  # it had been quicker
        assert guest.command("query-status")["return"]["status"] == "running"
        guest.rounds(1)
        guest.quit()


def test_no_room():
    """The file cannot grow: one error, and the guest goes on; then it is saved after all."""
    with Guest(new_disk()) as guest:
        guest.rounds(1)
        before = resource.prlimit(guest.process.pid, resource.RLIMIT_FSIZE)
        for limit in (4096, 5 * MIB, 40 * MIB):
            resource.prlimit(guest.process.pid, resource.RLIMIT_FSIZE, (limit, before[1]))
            path, answer = guest.save()
            resource.prlimit(guest.process.pid, resource.RLIMIT_FSIZE, before)
            assert "goes on" in answer["error"]["desc"] or "cannot be written" in answer["error"]["desc"], answer
            assert guest.command("query-status")["return"]["status"] == "running"
            refused(path, "cut off" if limit > 4096 else "too short")
        guest.rounds(1)
        path, answer = guest.save(fast=True)
        assert answer["return"]["status"] == "completed", answer
        guest.quit()


def refused(path, why, *args):
    """A guest that cannot go on from a file says why, and ends."""
    guest = Qmp("--append", "console=ttyS0 quiet", *args, memory="128M",
                files={"kernel": (files() / "kernel", os.O_RDONLY),
                       "initrd": (initramfs(LOAD, "virtio"), os.O_RDONLY),
                       "disk format=raw": (new_disk(), os.O_RDWR), "incoming": (path, os.O_RDONLY)})
    with guest:
        assert guest.process.wait(PATIENCE) == 1
        said = guest.process.stderr.read().decode()
        assert why in said and said.count("\n") == 1, said


def test_what_is_no_saved_guest():
    disk = new_disk()
    with Guest(disk) as guest:
        guest.rounds(1)
        path, answer = guest.save(fast=True)
        assert "return" in answer, answer
        guest.quit()
    size = path.stat().st_size
    empty = scratch("saved")
    refused(empty, "too short")
    text = scratch("saved")
    text.write_bytes(b"#!/bin/sh\n" * 20)
    refused(text, "not a saved guest")
    refused(path, "given 2", "--cpus", "2")
    refused(path, "was saved with virtio-rng", "--rng", "off")
    cut = scratch("saved")
    subprocess.run(["cp", "--sparse=always", path, cut], check=True)
    os.truncate(cut, size - 1)
    refused(cut, "bytes and should have")
    with open(cut, "r+b") as file:
        os.truncate(cut, size)
        file.seek(size - 100)
        byte = file.read(1)
        file.seek(size - 100)
        file.write(bytes([byte[0] ^ 1]))
    refused(cut, "damaged")


if __name__ == "__main__":
    try:
        files()
    except Skip as reason:
        print(f"1..0 # SKIP {reason}")
        raise SystemExit(0) from None
    tap([function for name, function in list(globals().items()) if name.startswith("test_")])
