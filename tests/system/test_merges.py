#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""A Linux guest loads its disk with random work while overlays are taken and merged under it; it checks every byte that
it reads, and what QEMU's tools find in the images afterwards is compared with what the guest remembers. And it writes
to a host without room, which stops it."""

import hashlib
import os
import pathlib
import random
import struct
import subprocess
import tempfile

from blockdev import MIB, SCRATCH, Vmm, image, qemu_img
from debian import BOOT, files, initramfs
from guest import Skip, tap, until

SIZE = 16 * MIB
LOAD = """
head -c LENGTH </dev/vdc >/tmp/load && chmod 755 /tmp/load
/tmp/load /dev/vda /dev/vdb 4 OPERATIONS 7 && read enough
"""


def raw(name, size, content=b""):
    path = pathlib.Path(SCRATCH.name) / name
    path.write_bytes(content)
    os.truncate(path, size)
    return path


def guest(disk, table, operations):
    program = pathlib.Path(os.environ.get("DISKLOAD", ""))
    if not program.is_file():
        raise Skip("there is no compiler for the guest")
    code = program.read_bytes()
    script = LOAD.replace("LENGTH", str(len(code))).replace("OPERATIONS", str(operations))
    boot = {"kernel": (files() / "kernel", os.O_RDONLY), "initrd": (initramfs(script, "virtio"), os.O_RDONLY)}
    return Vmm(disk, table, raw("code.raw", (len(code) + 511) // 512 * 512, code), boot=boot, memory="256M",
               args=["--append", "console=ttyS0 quiet", "--cpus", "2"])


def written(vmm):
    return vmm.do("query-blockstats")[0]["stats"]["wr_operations"]


def let_it_write(vmm, operations):
    """False: it is done."""
    before = written(vmm)
    for _ in range(int(BOOT * 20)):
        now = written(vmm)
        if now >= before + operations:
            return True
        if vmm.said(b"all is as it should be"):
            return False
    raise AssertionError("the guest does not write")


def wait_job(vmm, complete):
    while True:
        event = vmm.wait_event("JOB_STATUS_CHANGE")["data"]
        if event["status"] == "ready" and complete:
            assert vmm.wait_event("BLOCK_JOB_READY")["data"]["device"] == event["id"]
            vmm.do("block-job-complete", device=event["id"])
        if event["status"] == "null":
            end = vmm.wait_event("BLOCK_JOB_COMPLETED")["data"]
            assert "error" not in end, end
            return


class Loaded:
    """The chain under the guest's first disk."""

    def __init__(self, vmm, base):
        self.vmm, self.paths, self.count = vmm, [base], 0

    def overlay(self):
        self.count += 1
        path = image(f"over{self.count}.qcow2", backing=self.paths[-1])
        self.vmm.add_image(f"over{self.count}", path, backing=None)
        self.vmm.do("blockdev-snapshot", node="disk0", overlay=f"over{self.count}")
        self.paths.append(path)

    def node(self, index):
        name = self.paths[index].stem
        return name if name.startswith("over") else "disk0-image"

    def forget(self, start, end):
        """What has been merged is not needed any more; what came with the VMM went by itself."""
        for index in reversed(range(start, end)):
            if self.node(index) in self.vmm.names():
                self.vmm.do("blockdev-del", **{"node-name": self.node(index)})
        del self.paths[start:end]

    def merge(self, top, base):
        """Images from base up to top, which are indices."""
        last = top == len(self.paths) - 1
        self.vmm.do("block-commit", device="disk0", **{"job-id": "merge", "top-node": self.node(top),
                                                       "base-node": self.node(base)})
        wait_job(self.vmm, last)
        self.forget(base + 1, top + 1)

    def stream(self, base):
        more = {"base-node": self.node(base)} if base is not None else {}
        self.vmm.do("block-stream", device="disk0", **{"job-id": "stream", **more})
        wait_job(self.vmm, False)
        self.forget(0 if base is None else base + 1, len(self.paths) - 1)


def check(path, table):
    """What is in the disk is what the guest remembers."""
    flat = path.with_suffix(".flat")
    qemu_img("check", "-q", path)
    qemu_img("convert", "-O", "raw", path, flat)
    content = flat.read_bytes()
    count = 0
    for block, (times,) in enumerate(struct.iter_unpack("<i", table.read_bytes())):
        expected = struct.pack("<II", times, block) if times > 0 else bytes(8)
        count += times > 0
        assert times < 0 or content[block * 4096:(block + 1) * 4096] == expected * 512, (block, times)
    assert count > 1000, count


def test_overlays_and_merges_under_load():
    base, table = image("base.qcow2", size=SIZE), raw("table.raw", SIZE // 1024)
    with guest(base, table, 1500) as vmm:
        assert let_it_write(vmm, 20)
        chain = Loaded(vmm, base)
        steps = [chain.overlay, chain.overlay, chain.overlay, lambda: chain.merge(2, 1), chain.overlay,
                 lambda: chain.merge(len(chain.paths) - 1, len(chain.paths) - 2), lambda: chain.stream(0),
                 chain.overlay, lambda: chain.stream(None), chain.overlay, lambda: chain.merge(1, 0)]
        done = 0
        for step in steps:
            step()
            done += 1
            if not let_it_write(vmm, 5):
                break
        assert done > 3, done
        vmm.console.sendall(b"enough\n")
        until(lambda: vmm.said(b"script exit status: 0"), "the end of the guest's script", BOOT)
        vmm.wait_event("SHUTDOWN")
        vmm.process.wait(BOOT)
    check(chain.paths[-1], table)


FILL = """
dd if=/dev/vdb of=/dev/vda bs=1M seek=1 oflag=direct 2>/dev/null
echo "filled: $?"
echo 3 >/proc/sys/vm/drop_caches
echo "sum: $(dd if=/dev/vda bs=1M skip=1 count=4 2>/dev/null | md5sum)"
"""


class SmallHost:
    """A file system of 8 MiB, of which 6 are used until it is told to make room."""

    def __init__(self):
        folder = tempfile.mkdtemp(dir=SCRATCH.name)
        script = (f"mount -t tmpfs -o size=8m small {folder} && truncate -s 64M {folder}/full.raw && "
                  f"head -c 6M /dev/zero >{folder}/ballast && echo ready && "
                  f"read go && rm {folder}/ballast && echo done; read end")
        self.process = subprocess.Popen(["unshare", "-m", "sh", "-c", script], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        if os.geteuid() or self.process.stdout.readline() != b"ready\n":
            self.close()
            raise Skip("a small file system cannot be mounted here")
        self.path = pathlib.Path(f"/proc/{self.process.pid}/root{folder}/full.raw")

    def make_room(self):
        self.process.stdin.write(b"go\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == b"done\n"

    def close(self):
        self.process.stdin.close()
        self.process.wait(10)


def wait_stopped(vmm):
    event = vmm.wait_event("BLOCK_IO_ERROR")["data"]
    assert event["device"] == "disk0" and event["operation"] == "write" and event["nospace"], event
    assert event["action"] == "stop"
    vmm.wait_event("STOP")
    assert vmm.do("query-status")["status"] == "io-error"
    assert vmm.do("query-block")[0]["io-status"] == "nospace"


def filler(host, content, more, **files_too):
    boot = {"kernel": (files() / "kernel", os.O_RDONLY), "initrd": (initramfs(FILL, "virtio"), os.O_RDONLY),
            **files_too}
    vmm = Vmm(host.path, raw("content.raw", len(content), content), boot=boot, memory="256M", more=more,
              args=["--append", "console=ttyS0 quiet"])
    vmm.socket.settimeout(BOOT)
    return vmm


def wait_filled(vmm, content):
    until(lambda: vmm.said(b"script exit status: 0"), "the end of the guest's script", BOOT)
    assert b"filled: 0" in vmm.heard, vmm.heard
    assert b"sum: " + hashlib.md5(content).hexdigest().encode() in vmm.heard, vmm.heard


def test_a_host_without_room_stops_the_guest():
    host = SmallHost()
    content = random.Random(3).randbytes(4 * MIB)
    with filler(host, content, ",werror=enospc") as vmm:
        wait_stopped(vmm)
        vmm.events.clear()
        vmm.do("cont")  # without room: the same again
        wait_stopped(vmm)
        host.make_room()
        vmm.events.clear()
        vmm.do("cont")
        vmm.wait_event("RESUME")
        wait_filled(vmm, content)
    host.close()


def test_what_waits_for_room_is_saved():
    """Requests that have begun, and have not ended, are in the file; whoever goes on from it does them."""
    host = SmallHost()
    content = random.Random(4).randbytes(4 * MIB)
    saved = pathlib.Path(SCRATCH.name) / "saved"
    with filler(host, content, ",werror=enospc") as vmm:
        wait_stopped(vmm)
        fd = os.open(saved, os.O_RDWR | os.O_CREAT)
        assert vmm.command("getfd", fd, fdname="file") == {"return": {}}
        os.close(fd)
        vmm.do("x-save", fdname="file")
        vmm.do("quit")
        vmm.process.wait(BOOT)
    host.make_room()
    with filler(host, content, ",werror=enospc", incoming=(saved, os.O_RDONLY)) as vmm:
        wait_filled(vmm, content)
    host.close()


tap([test_overlays_and_merges_under_load, test_a_host_without_room_stops_the_guest, test_what_waits_for_room_is_saved])
