#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""Snapshots of whole guests inside their qcow2 images, over QMP; QEMU's tool lists and checks the images.

The guest of the load keeps a number in memory, on a file system and on a disk without one: parts of a snapshot that are
not of one moment show themselves.
"""

import json
import os
import pathlib
import re
import shutil
import struct
import subprocess
import time

from blockdev import MIB, SCRATCH, Vmm, image, qemu_img
from debian import BOOT, files, initramfs
from guest import tap, until
from load import LOAD, ext4

BOTH = ["disk0", "disk1"]


class Guest(Vmm):
    """A VMM whose jobs are waited for."""

    jobs = 0

    def run_job(self, what, tag, devices=None, vmstate="disk0", wait=BOOT, **more):
        """Its error, or None; the job's own way through its states is checked."""
        Guest.jobs += 1
        job = f"job{Guest.jobs}"
        arguments = {"job-id": job, "tag": tag, "devices": BOTH if devices is None else devices, **more}
        if what != "delete":
            arguments["vmstate"] = vmstate
        self.socket.settimeout(wait)
        self.do(f"snapshot-{what}", **arguments)
        seen = []
        while "concluded" not in seen:
            data = self.wait_event("JOB_STATUS_CHANGE")["data"]
            if data["id"] == job:
                seen.append(data["status"])
        row, = [row for row in self.do("query-jobs") if row["id"] == job]
        assert row["type"] == f"snapshot-{what}" and row["status"] == "concluded", row
        failed = row.get("error")
        assert seen == ["created", "running", *(["aborting"] if failed else ["waiting", "pending"]), "concluded"], seen
        self.do("job-dismiss", id=job)
        return failed

    def good(self, *args, **more):
        failed = self.run_job(*args, **more)
        assert failed is None, failed

    def bad(self, text, *args, **more):
        failed = self.run_job(*args, **more)
        assert failed and text in failed, (failed, text)

    def status(self):
        return self.do("query-status")["status"]

    def tags(self, number=0):
        rows = self.do("query-block")[number]["inserted"]["image"].get("snapshots", [])
        return [row["name"] for row in rows]

    def answers(self):
        """The monitor in it does what it is told."""
        self.console.send(b"x")
        heard = b""
        while b"<x>" not in heard:
            heard += self.console.recv(65536)

    def quit(self):
        self.do("quit")
        assert self.process.wait(BOOT) == 0


def listed(path):
    return [row["name"] for row in json.loads(qemu_img("info", "--output=json", path)).get("snapshots", [])]


def clean(*paths):
    for path in paths:
        qemu_img("check", "-q", path)  # leaks are an error, too


def test_a_life():
    first, second = image("first.qcow2"), image("second.qcow2")
    with Guest(first, second) as vmm:
        vmm.answers()
        for tag in ("a", "b"):
            vmm.good("save", tag)
            assert vmm.wait_event("STOP") and vmm.wait_event("RESUME") and vmm.status() == "running"
            vmm.answers()
        vmm.do("stop")
        vmm.good("save", "c", vmstate="disk1")
        assert vmm.status() == "paused" and vmm.tags() == vmm.tags(1) == ["a", "b", "c"]
        vmm.good("load", "a")
        assert vmm.status() == "paused"
        vmm.do("cont")
        vmm.answers()
        vmm.good("load", "c", vmstate="disk1")
        assert vmm.status() == "running"
        vmm.answers()
        vmm.good("delete", "b")
        assert vmm.tags() == vmm.tags(1) == ["a", "c"]
        vmm.good("load", "a")
        vmm.answers()
        vmm.quit()
    assert listed(first) == listed(second) == ["a", "c"]
    sizes = [json.loads(qemu_img("info", "--output=json", path))["snapshots"][0]["vm-state-size"]
             for path in (first, second)]
    assert sizes[0] > 16 * MIB and sizes[1] == 0, sizes
    clean(first, second)
    # In another process.
    with Guest(first, second, args=["--paused"]) as vmm:
        vmm.good("load", "c", vmstate="disk1")
        assert vmm.status() == "paused"
        vmm.do("cont")
        vmm.answers()
        vmm.quit()
    clean(first, second)


def test_refusals():
    """As QEMU: the command is taken, and the job tells."""
    first, second, raw = image("first.qcow2"), image("second.qcow2"), image("third.raw", form="raw")
    qemu_img("snapshot", "-c", "disks-only", first)
    qemu_img("snapshot", "-c", "disks-only", second)
    with Guest(first, second, raw) as vmm:
        vmm.good("save", "a")
        vmm.bad("has a snapshot 'a' already", "save", "a")
        vmm.bad("has a snapshot 'a' already", "save", "a", devices=["disk1"], vmstate="disk1")
        vmm.bad("has no snapshot 'b'", "load", "b")
        vmm.bad("there is no node", "save", "b", devices=[*BOTH, "disk7"])
        vmm.bad("there is no node", "delete", "a", devices=["disk7"])
        vmm.bad("format raw", "save", "b", devices=[*BOTH, "disk2"])
        vmm.bad("one of the devices", "save", "b", vmstate="disk2")
        vmm.bad("one of the devices", "save", "b", devices=[])
        vmm.bad("disks alone", "load", "disks-only")
        vmm.bad("disks alone", "load", "a", vmstate="disk1")
        vmm.good("delete", "b")  # it is not there: as with QEMU
        vmm.fails("snapshot-save", "cannot be called", **{"job-id": "1", "tag": "b", "vmstate": "disk0",
                                                         "devices": BOTH})
        vmm.fails("snapshot-save", "devices", **{"job-id": "x", "tag": "b", "vmstate": "disk0"})
        assert vmm.status() == "running" and vmm.tags() == ["disks-only", "a"]
        vmm.answers()
        # The image that somebody's overlay lies over.
        vmm.add_image("over", image("over.qcow2"), backing=None)
        vmm.do("blockdev-snapshot", node="disk0", overlay="over")
        vmm.bad("another image lies on it", "load", "a", devices=["disk0-image", "disk1"], vmstate="disk0-image")
        vmm.good("save", "b")
        vmm.good("load", "b")
        vmm.answers()
        vmm.quit()
    clean(first, second)


def test_names_like_numbers():
    """A snapshot's name may be another's id."""
    first = image("first.qcow2")
    with Guest(first) as vmm:
        for tag in ("3", "a", "b"):
            vmm.good("save", tag, devices=["disk0"])
        vmm.good("load", "3", devices=["disk0"])
        vmm.good("delete", "3", devices=["disk0"])
        assert vmm.tags() == ["a", "b"]
        vmm.quit()
    clean(first)


def test_another_machine_or_damage():
    """Found out before anything changes: the guest goes on."""
    first = image("first.qcow2")
    with Guest(first) as vmm:
        vmm.good("save", "a", devices=["disk0"])
        vmm.quit()
    with Guest(first, memory="32M") as vmm:
        vmm.bad("of memory and is given", "load", "a", devices=["disk0"])
        assert vmm.status() == "running"
        vmm.answers()
        vmm.quit()
    whole = first.read_bytes()
    place = whole.index(b"riscv-virt")  # of the state's section "machine"
    first.write_bytes(whole[:place] + b"X" + whole[place + 1:])
    with Guest(first) as vmm:
        vmm.bad("checksum", "load", "a", devices=["disk0"])
        vmm.answers()
        vmm.quit()
    place = whole.index(b"ready")  # in the saved memory
    first.write_bytes(whole[:place] + b"X" + whole[place + 1:])
    with Guest(first) as vmm:
        vmm.bad("checksum", "load", "a", devices=["disk0"])
        assert vmm.status() == "running"
        vmm.answers()
        vmm.quit()


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


def impossible_devices(whole):
    """The image with the state of a saved device, one after the other, that no device can be in, and sums that are
    right (src/codec/saved.c)."""
    for found in re.finditer(rb"device\0{10}", whole):
        at = found.start()
        size, crc = struct.unpack_from("<II", whole, at + 68)
        state = whole[at + 80:at + 80 + size]
        if size < 40 or size > 4096 or crc32c(whole[at:at + 72] + state) != crc:
            continue
        state = state[:32] + b"\xff" * (size - 32)
        yield (whole[:at + 72] + struct.pack("<I", crc32c(whole[at:at + 72] + state)) + whole[at + 76:at + 80] + state +
               whole[at + 80 + size:])


def test_half_a_guest():
    """What turns out too late: the guest stands, is not let go, and can become one again."""
    first = image("first.qcow2")
    with Guest(first) as vmm:
        vmm.good("save", "good", devices=["disk0"])
        vmm.quit()
    good = first.read_bytes()
    with Guest(first) as vmm:
        vmm.good("delete", "good", devices=["disk0"])
        vmm.good("save", "bad", devices=["disk0"])
        vmm.quit()
    broken = 0
    for content in impossible_devices(first.read_bytes()):
        first.write_bytes(content)
        with Guest(first) as vmm:
            failed = vmm.run_job("load", "bad", devices=["disk0"])
            if not failed:
                continue  # a device for which nothing is impossible
            broken += 1
            assert "half of its snapshot" in failed and "state that no" in failed, failed
            assert vmm.status() == "internal-error"
            vmm.fails("cont", "half of a snapshot")
            vmm.bad("half of a snapshot", "save", "c", devices=["disk0"])
            vmm.good("delete", "bad", devices=["disk0"])
            vmm.do("system_reset")
            vmm.do("cont")
            assert vmm.status() == "running"
            vmm.answers()
            vmm.quit()
    assert broken
    first.write_bytes(good)
    clean(first)


class Writer(Guest):
    """Linux under the load."""

    def __init__(self, first, second, *args, cpus=1):
        boot = {"kernel": (files() / "kernel", os.O_RDONLY),
                "initrd": (initramfs(LOAD, "virtio,ext4"), os.O_RDONLY)}
        self.seen = b""
        super().__init__(first, second, boot=boot, memory="128M",
                         args=["--append", "console=ttyS0 quiet", "--cpus", str(cpus), *args])
        self.console.settimeout(BOOT)

    def hear(self, until_seen):
        while not until_seen():
            data = self.console.recv(65536)
            assert data, self.seen[-500:]
            self.seen += data
            assert b"BROKEN" not in self.seen and b"panic" not in self.seen, self.seen[-2000:]

    def rounds(self, count):
        """So many more; the number of the last."""
        self.seen = b""
        found = re.compile(rb"round (\d+)\s")
        self.hear(lambda: len(found.findall(self.seen)) >= count)
        return int(found.findall(self.seen)[-1])


def test_linux_under_load():
    first, second = ext4(pathlib.Path(SCRATCH.name) / "fs.qcow2"), image("second.qcow2")
    with Writer(first, second, cpus=2) as vmm:
        at = vmm.rounds(4)
        vmm.good("save", "early")
        for turn in range(3):
            later = vmm.rounds(5)
            assert later > at
            vmm.good("load", "early")
            back = vmm.rounds(1)
            assert at <= back < later, (turn, at, back, later)
            vmm.rounds(3)
            vmm.good("save", f"turn{turn}")
        vmm.good("delete", "turn1")
        vmm.good("load", "turn0")
        vmm.rounds(3)
        vmm.quit()
    assert listed(first) == listed(second) == ["early", "turn0", "turn2"]
    clean(first, second)
    # What each snapshot has of the file system is whole, once its journal was looked at.
    fsck = shutil.which("e2fsck", path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    raw = pathlib.Path(SCRATCH.name) / "look.img"
    for tag in listed(first):
        qemu_img("convert", "-l", f"snapshot.name={tag}", "-f", "qcow2", "-O", "raw", first, raw)
        assert subprocess.run([fsck, "-fy", raw], capture_output=True, check=False).returncode in (0, 1)
        assert subprocess.run([fsck, "-fn", raw], capture_output=True, check=False).returncode == 0
    with Writer(first, second, "--paused", cpus=2) as vmm:
        vmm.good("load", "early")
        vmm.do("cont")
        assert vmm.rounds(3) < later + 100
        vmm.quit()
    clean(first, second)


def test_meanwhile():
    """While one is taken the guest cannot be let go, reset, saved or changed; a cancelled one leaves nothing."""
    first, second = ext4(pathlib.Path(SCRATCH.name) / "fs.qcow2"), image("second.qcow2")
    with Writer(first, second) as vmm:
        vmm.rounds(1)
        refused = cancelled = 0
        for turn in range(20):
            job = f"job{turn}"
            vmm.do("snapshot-save", **{"job-id": job, "tag": job, "vmstate": "disk0", "devices": BOTH})
            answers = [vmm.command("cont"), vmm.command("system_reset")] if turn % 2 else [
                vmm.command("block-commit", device="disk0"), vmm.command("block_resize", device="disk0", size=MIB),
                vmm.command("job-cancel", id=job)]
            until(lambda: [row for row in vmm.do("query-jobs") if row["status"] == "concluded"], "the job's end", BOOT)
            failed = vmm.do("query-jobs")[0].get("error")
            vmm.do("job-dismiss", id=job)
            if not turn % 2:
                assert failed is None or "cancelled" in failed, failed
                cancelled += failed is not None
                assert (job in vmm.tags()) == (job in vmm.tags(1)) == (failed is None)
            else:
                refused += all("under way" in answer.get("error", {}).get("desc", "") for answer in answers)
            if any("return" in answer for answer in answers[:2]):
                break  # the job was faster, which did what it says
        vmm.quit()
    if turn == 19:
        assert refused and cancelled, (refused, cancelled)
    clean(first, second)


def test_killed():
    """The VMM dies at any moment of one: the images are whole, and have the snapshot or can have it."""
    first, second = ext4(pathlib.Path(SCRATCH.name) / "fs.qcow2"), image("second.qcow2")
    kills = int(os.environ.get("HOSTEL_KILLS", "6"))
    for turn in range(kills):
        with Writer(first, second, *(["--paused"] if turn else [])) as vmm:
            if turn:
                vmm.good("load", "start")
                vmm.do("cont")
            vmm.rounds(1)
            if not turn:
                vmm.good("save", "start")
            vmm.do("snapshot-save" if turn % 2 else "snapshot-load",
                   **{"job-id": "x", "tag": "killed" if turn % 2 else "start", "vmstate": "disk0", "devices": BOTH})
            time.sleep(0.3 * turn / kills)  # any moment will do
            vmm.process.kill()
            vmm.process.wait()
        for path in (first, second):
            done = subprocess.run(["qemu-img", "check", "-f", "qcow2", path], check=False, capture_output=True,
                                  text=True)
            # Clusters counted too often at most, of which a flag may say that they are not.
            wrong = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("ERROR")]
            assert all("OFLAG_COPIED" in line and "refcount=1" not in line for line in wrong), done
        assert "start" in listed(first) and "start" in listed(second)
        if "killed" in listed(first):  # with the state: the last that gets it
            assert "killed" in listed(second)
        tag = "killed" if "killed" in listed(first) else "start"
        with Writer(first, second, "--paused") as vmm:
            vmm.good("load", tag)
            vmm.do("cont")
            vmm.rounds(2)
            vmm.good("delete", "killed")
            vmm.good("delete", "hostel-undo")
            vmm.quit()
    for path in (first, second):
        qemu_img("check", "-q", "-r", "all", path)
    clean(first, second)


OPENSBI = pathlib.Path("/usr/lib/riscv64-linux-gnu/opensbi/generic/fw_jump.bin")
UBOOT = pathlib.Path("/usr/lib/u-boot/qemu-riscv64_smode/u-boot.bin")
SECTOR, BASE = 256 << 10, 0x20000000


class UBoot(Guest):
    """U-Boot at its prompt, with a bank of flash."""

    def __init__(self, disk, flash, *args, incoming=None):
        for path in (OPENSBI, UBOOT):
            if not path.exists():
                raise Skip(f"no {path}; Debian's packages opensbi and u-boot-qemu have them")
        boot = {"firmware": (OPENSBI, os.O_RDONLY), "kernel": (UBOOT, os.O_RDONLY),
                "flash start=off": (flash, os.O_RDWR)}
        if incoming:
            boot["incoming"] = (incoming, os.O_RDONLY)
        super().__init__(disk, boot=boot, memory="128M", args=args)
        self.rest = b""
        self.console.settimeout(BOOT)
        if not incoming:
            self.wait_for(b"Hit any key to stop autoboot")
            self.console.send(b" ")
            self.wait_for(b"=> ")

    def wait_for(self, text):
        """All up to it; what is behind it is for the next one."""
        while text not in self.rest:
            data = self.console.recv(65536)
            assert data, self.rest
            self.rest += data
        found, _, self.rest = self.rest.partition(text)
        return found

    def shell(self, line):
        self.console.send(line.encode() + b"\n")
        self.wait_for(b"\n")
        return self.wait_for(b"=> ").decode()

    def program(self, sector, word):
        at = BASE + sector * SECTOR
        assert "Erased" in self.shell(f"erase {at:x} +{SECTOR:x}")
        self.shell(f"mw.l 84000000 {word:x} 10")
        assert "done" in self.shell(f"cp.b 84000000 {at:x} 40")

    def has(self, sector, word):
        return f"{word:08x}" in self.shell(f"md.l {BASE + sector * SECTOR:x} 1").split(":", 1)[1]


def test_flash():
    """What was programmed behind a save or snapshot is gone again, for the guest and in its file; nothing else is."""
    disk, flash, saved = (pathlib.Path(SCRATCH.name) / name for name in ("disk.qcow2", "flash", "flash.saved"))
    image(disk.name)

    def in_file(sector, word):
        return flash.read_bytes()[sector * SECTOR:][:4] == word.to_bytes(4, "little")

    flash.write_bytes(b"kept")
    saved.write_bytes(b"")
    with UBoot(disk, flash) as vmm:
        vmm.program(1, 0x11111111)
        vmm.good("save", "a", devices=["disk0"])
        vmm.program(2, 0x22222222)
        vmm.program(1, 0x33333333)
        assert vmm.has(1, 0x33333333) and vmm.has(2, 0x22222222) and in_file(2, 0x22222222)
        vmm.good("load", "a", devices=["disk0"])
        assert vmm.has(1, 0x11111111) and vmm.has(2, 0xffffffff) and vmm.has(0, 0x7470656b)
        assert in_file(1, 0x11111111) and in_file(2, 0xffffffff)
        vmm.program(3, 0x44444444)
        file = os.open(saved, os.O_RDWR)
        assert vmm.command("getfd", file, fdname="file") == {"return": {}}
        os.close(file)
        assert vmm.do("x-save", **{"fdname": "file", "run-on": True})["status"] == "completed"
        vmm.program(1, 0x55555555)
        assert in_file(1, 0x55555555)
        vmm.quit()
    with UBoot(disk, flash, incoming=saved) as vmm:
        assert vmm.has(1, 0x11111111) and vmm.has(2, 0xffffffff) and vmm.has(3, 0x44444444)
        assert in_file(1, 0x11111111) and in_file(3, 0x44444444)
        vmm.good("load", "a", devices=["disk0"])
        assert vmm.has(3, 0xffffffff) and in_file(3, 0xffffffff) and flash.read_bytes()[:4] == b"kept"
        vmm.program(3, 0x66666666)  # it goes on programming
        assert vmm.has(3, 0x66666666) and in_file(3, 0x66666666)
        vmm.quit()


tap([test_a_life, test_refusals, test_names_like_numbers, test_another_machine_or_damage, test_half_a_guest,
     test_linux_under_load, test_meanwhile, test_killed, test_flash])
