#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""`hostel snapshot create --internal` and what goes with it: guests that run, stand, are saved or off; layers over such
snapshots; commands and processes that are killed. The guest compares its disks with what it remembers."""

import json
import os
import random
import re
import signal
import subprocess
import time

from blockdev import MIB, image, qemu_img
from debian import BOOT, files, initramfs
from guest import HOSTEL, hostel, tap, until
from load import LOAD, ext4
from named import GUESTS, HERE, bad, good, last_round, none_left, row, said, status

LEAKS = 3  # qemu-img check's exit
KILLS = int(os.environ.get("HOSTEL_KILLS", "6"))


def rounds(name):
    return [int(number) for number in re.findall(r"round (\d+)\s", said(name))]


def goes_on(name, since=None):
    """Wait until it has got on for three rounds, whatever their numbers, since it had said so many or from now; nothing
    is wrong. The lowest: a guest that has gone back begins with it."""
    since = len(rounds(name)) if since is None else since

    def is_over():
        nonlocal since
        text = said(name)
        since = min(since, len(rounds(name)))  # journals are given up after a while
        return len(rounds(name)) >= since + 3 or "BROKEN" in text or "panic" in text

    until(is_over, f"{name}: {said(name)[-300:]}", BOOT)
    text = said(name)
    assert "BROKEN" not in text and "panic" not in text, text[-2000:]
    return min(rounds(name)[since:])


def goes_back(name, *args):
    """The first round of a guest that a command has brought back."""
    since = len(rounds(name))
    good(*args)
    assert status(name) == "running"
    return goes_on(name, since)


def snapshots(name):
    return {row["name"]: row for row in json.loads(good("snapshot", "list", "-o", "json", name))}


class Guest:
    """One that writes to two qcow2 images; nothing is left of it."""

    def __init__(self, name):
        self.name, self.disks = name, [ext4(HERE / f"{name}-fs.qcow2"), image(f"{name}-number.qcow2")]
        good("run", "-d", "--name", name, "--isa", "riscv64", "--memory", "128M", "--kernel", files() / "kernel",
             "--initrd", initramfs(LOAD, "virtio,ext4"), "--append", "console=ttyS0 quiet",
             *(word for disk in self.disks for word in ("--disk", f"file={disk},format=qcow2")))

    def __enter__(self):
        goes_on(self.name)
        return self

    def __exit__(self, *unused):
        none_left()

    def clean(self):
        """Off: QEMU finds nothing wrong with the images; a guest that was killed may have left clusters to nobody."""
        for disk in self.disks:
            done = subprocess.run(["qemu-img", "check", "-q", disk], capture_output=True, text=True, check=False)
            assert done.returncode in (0, LEAKS), done

    def listed(self):
        return [[row["name"] for row in json.loads(qemu_img("info", "-U", "--output=json", disk)).get("snapshots", [])]
                for disk in self.disks]


def test_running_and_paused():
    with Guest("a") as guest:
        assert good("snapshot", "create", "--internal", "-m", "first of all", "a", "one") == "one\n"
        assert status("a") == "running" and guest.listed() == [["one"], ["one"]]
        at = goes_on("a")
        good("pause", "a")
        two = last_round("a")
        good("snapshot", "create", "--internal", "a", "two")
        assert status("a") == "paused"
        good("resume", "a")
        bad("there is a snapshot", "snapshot", "create", "--internal", "a", "one")
        rows = snapshots("a")
        assert [rows[name]["kind"] for name in ("one", "two")] == ["internal"] * 2, rows
        assert rows["one"]["parent"] is None and rows["two"]["parent"] == "one" and rows["two"]["current"]
        assert rows["one"]["note"] == "first of all" and rows["one"]["memory"] > 100 * MIB
        assert "internal" in good("snapshot", "list", "a")
        goes_on("a")
        bad("--force", "snapshot", "revert", "a", "one")
        assert goes_back("a", "snapshot", "revert", "--force", "a", "one") <= at + 1
        assert snapshots("a")["one"]["current"]
        # Back, and put away; from there it goes on.
        good("snapshot", "revert", "--force", "--no-start", "a", "two")
        assert status("a") == "saved"
        assert two <= goes_back("a", "start", "a") <= two + 2  # one may have been under way to the journal
        good("snapshot", "delete", "a", "one")
        assert guest.listed() == [["two"], ["two"]] and list(snapshots("a")) == ["two"]
        assert snapshots("a")["two"]["parent"] is None
        bad("has no snapshot", "snapshot", "delete", "a", "one")
        good("kill", "a")
        guest.clean()
        # Of one that is off: its memory is there, its disks go back.
        good("snapshot", "revert", "a", "two")
        goes_on("a")
        good("kill", "a")
        good("snapshot", "delete", "a", "two")
        assert guest.listed() == [[], []]
        guest.clean()


def test_off_and_saved():
    with Guest("a") as guest:
        goes_on("a")
        good("kill", "a")
        good("snapshot", "create", "--internal", "a", "disks")
        assert snapshots("a")["disks"]["memory"] == 0 and guest.listed() == [["disks"], ["disks"]]
        good("start", "a")
        goes_on("a")
        good("save", "a")
        good("snapshot", "create", "--internal", "a", "saved")
        assert status("a") == "saved" and snapshots("a")["saved"]["memory"]
        seen = last_round("a")
        good("start", "a")
        goes_on("a")
        assert goes_back("a", "snapshot", "revert", "--force", "a", "saved") <= seen + 1
        good("save", "a")
        bad("is saved", "snapshot", "revert", "a", "disks")
        good("snapshot", "revert", "--force", "--no-start", "a", "disks")
        assert status("a") not in ("saved", "running")
        good("start", "a")
        goes_on("a")  # it has booted: what it remembers is what is there
        good("save", "a")
        assert goes_back("a", "snapshot", "revert", "--force", "a", "saved") <= seen + 1
        good("kill", "a")
        assert not (GUESTS / "a/saved").exists()
        good("snapshot", "revert", "a", "disks")
        assert status("a") == "running"
        good("kill", "a")
        # One that was cut off in the middle, with one disk there and the other not.
        path = GUESTS / "a/layers.json"
        notes = json.loads(path.read_text())
        path.write_text(json.dumps({**notes, "reverting": {"to": "disks", "off": True}}))
        qemu_img("snapshot", "-a", "disks", guest.disks[0])
        for words in (["start", "a"], ["snapshot", "delete", "a", "disks"], ["snapshot", "create", "--internal", "a"]):
            bad("cut off", *words)
        assert hostel("snapshot", "create", "a").returncode
        good("snapshot", "revert", "a", "disks")
        assert "reverting" not in json.loads(path.read_text())
        goes_on("a")
        good("kill", "a")
        # The guest's process was: an image tells.
        path.write_text(json.dumps({**notes, "reverting": {"to": "saved", "off": False}}))
        good("start", "a")
        good("kill", "a")
        qemu_img("snapshot", "-c", "hostel-undo", guest.disks[0])
        bad("cut off", "start", "a")
        assert goes_back("a", "snapshot", "revert", "a", "saved") <= seen + 1
        assert guest.listed() == [["disks", "saved"], ["disks", "saved"]]
        good("kill", "a")
        # Taking one was cut off.
        path.write_text(json.dumps({**notes, "taking": "half"}))
        qemu_img("snapshot", "-c", "half", guest.disks[0])
        assert "half" not in snapshots("a")
        good("snapshot", "create", "--internal", "a", "half")
        assert guest.listed() == [["disks", "saved", "half"]] * 2
        good("snapshot", "delete", "a", "half")
        path.write_text(json.dumps({**notes, "taking": "half"}))
        qemu_img("snapshot", "-c", "half", guest.disks[1])
        good("start", "a")
        good("snapshot", "create", "--internal", "a", "half")
        good("kill", "a")
        assert guest.listed() == [["disks", "saved", "half"]] * 2 and snapshots("a")["half"]["memory"]
        assert "taking" not in json.loads(path.read_text())
        good("snapshot", "delete", "a", "half")
        # Somebody else's.
        for disk in guest.disks:
            qemu_img("snapshot", "-c", "by qemu-img", disk)
        qemu_img("snapshot", "-c", "one of two", guest.disks[0])
        assert snapshots("a")["by qemu-img"]["kind"] == "internal" and "one of two" not in snapshots("a")
        good("snapshot", "revert", "--no-start", "a", "by qemu-img")
        good("snapshot", "delete", "a", "by qemu-img")
        assert "by qemu-img" not in snapshots("a")
        guest.clean()


def test_with_layers():
    """Layers over images with snapshots inside: what others need is not written to."""
    with Guest("a") as guest:
        good("snapshot", "create", "--internal", "a", "inside")
        goes_on("a")
        good("snapshot", "create", "a", "over")
        goes_on("a")
        bad("cannot go back", "snapshot", "revert", "--force", "a", "inside")
        goes_on("a")
        good("snapshot", "create", "--internal", "a", "above")  # inside the new layers
        rows = snapshots("a")
        assert [rows[name]["kind"] for name in ("inside", "over", "above")] == ["internal", "external", "internal"]
        assert [rows[name]["parent"] for name in ("inside", "over", "above")] == [None, "inside", "over"]
        assert guest.listed() == [["inside"], ["inside"]]
        goes_on("a")
        bad("has no layers", "snapshot", "merge", "a", "above")
        good("snapshot", "create", "a", "last")
        goes_on("a")
        good("snapshot", "merge", "a", "last")
        goes_on("a")
        good("snapshot", "merge", "a", "over")
        goes_on("a")
        assert guest.listed() == [["inside"], ["inside"]] and sorted(snapshots("a")) == ["above", "inside"]
        bad("cannot go back", "snapshot", "revert", "--force", "a", "above")  # there is a layer over its own
        goes_on("a")
        good("snapshot", "create", "a", "over")
        goes_on("a")
        good("snapshot", "create", "--internal", "a", "higher")
        goes_on("a")
        good("snapshot", "revert", "--force", "a", "higher")
        goes_on("a")
        bad("cannot share", "run", "--from", "a/inside", "--name", "b", "-d")
        bad("cannot share", "run", "--from", "a/higher", "--name", "b", "-d")
        good("clone", "a", "c")
        goes_on("c")
        bad("cannot go back", "snapshot", "revert", "--force", "a", "higher")  # the clone needs it
        good("run", "--from", "a/over", "--name", "d", "-d")
        goes_on("d")
        bad("stop it", "snapshot", "delete", "a", "inside")
        good("snapshot", "revert", "--force", "a", "over")
        goes_on("a")
        assert snapshots("a")["higher"]["kind"] == "internal"  # its layer is kept
        for name in ("a", "c", "d"):
            good("kill", name)
        good("snapshot", "delete", "a", "inside")
        good("snapshot", "delete", "a", "above")
        good("snapshot", "delete", "a", "higher")
        assert guest.listed() == [[], []]
        good("start", "a")
        goes_on("a")
        good("kill", "a")
        guest.clean()


def test_raw_is_refused():
    raw = HERE / "raw.img"
    with raw.open("wb") as file:
        file.truncate(MIB)
    with Guest("a") as guest:
        good("kill", "a")
        good("run", "-d", "--name", "b", "--isa", "riscv64", "--memory", "64M", "--kernel", files() / "kernel",
             "--disk", f"file={guest.disks[0]},format=qcow2", "--disk", f"file={raw},format=raw")
        bad("is of format raw", "snapshot", "create", "--internal", "b", "x")
        assert status("b") == "running" and guest.listed()[0] == []
        good("kill", "b")
        bad("no qcow2", "snapshot", "create", "--internal", "b", "x")
        good("run", "-d", "--name", "c", "--isa", "riscv64", "--memory", "64M", "--kernel", files() / "kernel")
        bad("no disk", "snapshot", "create", "--internal", "c", "x")


def interrupted(*args):
    """What the command said when it was asked to stop while the guest stood; None: it was quicker."""
    with subprocess.Popen([HOSTEL, *args], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and status("a") == "running":
            pass
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        text = process.communicate(timeout=BOOT)[1]
        return text if process.returncode else None


def test_asked_to_stop():
    with Guest("a") as guest:
        good("snapshot", "create", "--internal", "a", "start")
        for args in (["create", "--internal", "a", "x"], ["revert", "--force", "a", "start"]):
            for _ in range(20):
                text = interrupted("snapshot", *args)
                if text is not None:
                    break
                hostel("snapshot", "delete", "a", "x")
            else:
                raise AssertionError(f"{args} is always quicker")
            assert text == "hostel: error: stopped; the guest goes on\n", text
            until(lambda: status("a") == "running", "the guest goes on", BOOT)
            assert guest.listed() == [["start"], ["start"]] and list(snapshots("a")) == ["start"]
            goes_on("a")
        told = [json.loads(line) for line in
                good("snapshot", "create", "--internal", "--progress=json", "a", "y").splitlines() if line[0] == "{"]
        assert told and told[-1]["done"] == told[-1]["total"] > 0, told
        good("kill", "a")
        guest.clean()


def test_killed():
    """hostel, or the guest's process, at any moment of going back and of taking one: nothing is half."""
    rand = random.Random(3)
    with Guest("a") as guest:
        good("snapshot", "create", "--internal", "a", "start")
        for turn in range(KILLS):
            goes_on("a")
            words = ["revert", "--force", "a", "start"] if turn % 2 else ["create", "--internal", "a", f"new{turn}"]
            pid = row("a")["pid"]
            with subprocess.Popen([HOSTEL, "snapshot", *words], stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL) as process:
                time.sleep(rand.random() * 0.4)  # any moment will do
                if turn % 4 < 2:
                    process.kill()
                else:
                    os.kill(pid, signal.SIGKILL)
                process.wait()
            if turn % 4 < 2:
                until(lambda: status("a") == "running", "the job's end", BOOT)
            else:
                until(lambda: status("a") == "crashed", status("a"), BOOT)
                done = hostel("start", "a")
                if done.returncode:
                    assert "snapshot revert a start" in done.stderr, done
                    good("snapshot", "revert", "a", "start")
            for tag, found in snapshots("a").items():
                assert found["memory"] and all(tag in tags for tags in guest.listed()), (tag, guest.listed())
            if not turn % 2:
                until(lambda: f"new{turn}" in snapshots("a") or
                      hostel("snapshot", "create", "--internal", "a", f"new{turn}").returncode == 0, "the name", BOOT)
        # What a hostel that was killed has begun goes on for a moment.
        until(lambda: hostel("snapshot", "revert", "--force", "a", "start").returncode == 0, "a revert", BOOT)
        goes_on("a")
        good("kill", "a")


tap([test_running_and_paused, test_off_and_saved, test_with_layers, test_raw_is_refused, test_asked_to_stop,
     test_killed])
