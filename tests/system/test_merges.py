#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""A Linux guest loads its disk with random work while overlays are taken and merged under it; it checks every byte that
it reads, and what QEMU's tools find in the images afterwards is compared with what the guest remembers."""

import os
import pathlib
import struct

from blockdev import MIB, SCRATCH, Vmm, image, qemu_img
from debian import BOOT, files, initramfs
from guest import Skip, tap

SIZE = 16 * MIB
LOAD = """
head -c LENGTH </dev/vdc >/tmp/load && chmod 755 /tmp/load
/tmp/load /dev/vda /dev/vdb 4 OPERATIONS 7
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
        while not vmm.said(b"script exit status: 0"):
            pass
        vmm.wait_event("SHUTDOWN")
        vmm.process.wait(BOOT)
    check(chain.paths[-1], table)


tap([test_overlays_and_merges_under_load])
