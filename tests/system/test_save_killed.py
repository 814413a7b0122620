#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""Processes that are killed while a guest is saved, and files that end early: a file under a guest's name is whole, the
one that was there before or the new one, and goes with what is on the guest's disk; anything less is refused.

HOSTEL_KILLS=N is how often processes are killed (20).
"""

import json
import os
import random
import shutil
import struct
import subprocess
import time

from debian import BOOT, files, initramfs
from guest import HOSTEL, MONITOR, PATIENCE, Qmp, Skip, Visitor, alive, children, hostel, tap, until
from named import HERE, good
from test_save import LOAD

(HERE / "saves").mkdir()
KILLS = int(os.environ.get("HOSTEL_KILLS", "20"))
PAGE, HEAD, SECTION = 4096, 64, 80
MIB = 1 << 20


# --- files that end early ---


def refused(path):
    """A guest's process that is to go on from a file says in one line why it cannot, and ends."""
    with Qmp(files={"firmware": (MONITOR, os.O_RDONLY), "incoming": (path, os.O_RDONLY)}) as guest:
        assert guest.process.wait(PATIENCE) == 1
        said = guest.process.stderr.read().decode()
    assert said.count("\n") == 1, said
    return said


def places(path):
    """Where the head of a saved guest, its sections and their values begin, and each page boundary of them."""
    found = {0, 1, HEAD - 1, HEAD, PAGE}
    with open(path, "rb") as file:
        count, at, size, end = struct.unpack("<IQQQ", file.read(HEAD)[12:40])
        found |= set(range(at, end, PAGE))
        for _ in range(count):
            file.seek(at)
            found |= {at, at + SECTION}
            at += (SECTION + struct.unpack("<I", file.read(SECTION)[68:72])[0] + 7) // 8 * 8
    assert at == end == os.path.getsize(path) and end - size in found
    return sorted(found - {end}) + [end - 1]


def test_files_that_end_early():
    """Cut off at all of these places, and with nothing behind them up to the right size."""
    whole, cut = HERE / "whole.saved", HERE / "cut.saved"
    with Qmp() as guest:
        guest.command("qmp_capabilities")
        fd = os.open(whole, os.O_RDWR | os.O_CREAT, 0o600)
        guest.command("getfd", fd, fdname="file")
        os.close(fd)
        assert guest.command("x-save", fdname="file", fast=True)["return"]["status"] == "completed"
        assert guest.command("quit") == {"return": {}}
    size = whole.stat().st_size
    for place in places(whole):
        subprocess.run(["cp", "--sparse=always", whole, cut], check=True)
        os.truncate(cut, place)
        said = refused(cut)
        assert "bytes and should have" in said if place >= HEAD else "too short" in said, (place, said)
        os.truncate(cut, size)
        with open(whole, "rb") as file:
            file.seek(place)
            lost = any(file.read(size - place)) if place > HEAD else place < HEAD
        if lost:
            refused(cut)


# --- processes that are killed ---


def is_gone(pid):
    """All of its threads, which may outlive the first for a moment."""
    try:
        return not alive(pid) and len(os.listdir(f"/proc/{pid}/task")) == 1
    except FileNotFoundError:
        return True


class Life:
    """A guest under load, its last saved file, and its disk as it was then."""

    name, file = "life", HERE / "saves/life.saved"
    disk, disk_then = HERE / "disk.qcow2", HERE / "disk-then.qcow2"

    def __init__(self):
        good("image", "create", "-f", "qcow2", str(self.disk), "16M")
        good("run", "--detach", "--name", self.name, "--isa", "riscv64", "--memory", "128M", "--kernel",
             str(files() / "kernel"), "--initrd", str(initramfs(LOAD, "virtio")), "--append", "console=ttyS0 quiet",
             "--disk", f"file={self.disk},format=qcow2")
        self.rounds(1)
        start = time.monotonic()
        good("save", self.name, str(self.file))
        self.time = time.monotonic() - start  # that a save takes
        self.keep()

    def keep(self):
        """The file is of this moment, and so is the disk."""
        self.number = self.file.stat().st_ino
        shutil.copyfile(self.disk, self.disk_then)

    def told(self):
        rows = {row["name"]: row for row in json.loads(good("ps", "-a", "-o", "json"))}
        return rows[self.name]

    def rounds(self, count):
        """Wait until so many rounds have ended; the guest never found anything wrong."""
        before = good("logs", "--console", self.name).count("round ")
        until(lambda: good("logs", "--console", self.name).count("round ") > before + count, "the guest's work", BOOT)
        said = good("logs", "--console", self.name)
        assert "BROKEN" not in said and "panic" not in said, said[-2000:]

    def go_on(self):
        """From the file, which is whole, with its disk."""
        shutil.copyfile(self.disk_then, self.disk)
        good("restore", "--verify", str(self.file))
        self.rounds(1)

    def end(self):
        """Whatever it does: nothing of it runs afterwards."""
        killed = hostel("kill", self.name)  # unless it has ended, or is about to
        until(lambda: all(map(is_gone, self.pids)), f"its end; {killed}", BOOT)
        assert self.told()["status"] not in ("running", "paused")
        checked = hostel("image", "check", "-f", "qcow2", str(self.disk))
        assert checked.returncode in (0, 3), checked  # clusters that nobody uses may be left


def one_kill(life, rand, who):
    """Kill somebody while the guest is saved; was there a new file?"""
    supervisor = int(life.told()["supervisor-pid"])
    process = children(supervisor)[0]
    life.pids = (supervisor, process)
    saver = subprocess.Popen([HOSTEL, "save", life.name, str(life.file)], stderr=subprocess.PIPE, text=True)
    time.sleep(rand.uniform(0, life.time))  # a moment like any other
    victims = {"process": [process], "saver": [saver.pid], "all": [supervisor, process, saver.pid]}[who]
    for pid in victims:
        if alive(pid):
            os.kill(pid, 9)
    said = saver.communicate(timeout=BOOT)[1]
    made = life.file.stat().st_ino != life.number
    assert made or saver.returncode != 0, "saved, it says, and the file is the old one"
    assert saver.returncode <= 0 or said.count("\n") == 1, said
    left = [path for path in life.file.parent.iterdir() if path != life.file]
    assert who != "process" or not left, left
    for path in left:
        path.unlink()
    return made


def goes_on_without_saver(life):
    """A guest whose saver was lost stands behind its saving, if that had begun; it goes on when it is told to."""
    try:
        with Visitor(str(HERE / "run/hostel/guests" / life.name / "control")) as guest:
            guest.command("qmp_capabilities")
            until(lambda: guest.command("query-migrate")["return"].get("status") != "active", "the end of saving", BOOT)
            stands = guest.command("query-status")["return"]["status"] != "running"
    except (OSError, EOFError):
        return  # the last that its saver did was to end it
    if stands:
        good("resume", life.name)
    life.rounds(1)


def test_killed_while_saving():
    rand = random.Random(os.environ.get("HOSTEL_SEED", "1"))
    life = Life()
    made = 0
    for i in range(KILLS):
        life.go_on()
        who = ("process", "saver", "process", "all")[i % 4]
        if one_kill(life, rand, who):
            made += 1
            life.end()
            life.keep()
        else:
            if who == "saver":
                goes_on_without_saver(life)
            life.end()
    life.go_on()
    good("rm", "--force", life.name)
    print(f"# {KILLS} kills, {made} behind the last moment that matters")


if __name__ == "__main__":
    try:
        files()
    except Skip as reason:
        print(f"1..0 # SKIP {reason}")
        raise SystemExit(0) from None
    tap([function for name, function in list(globals().items()) if name.startswith("test_")])
