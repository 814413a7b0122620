#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""Disks of a running guest over QMP: nodes, overlays, sizes, limits; against QEMU's own tools where they can judge."""

import fcntl
import json
import struct
import subprocess

from blockdev import MIB, SCRATCH, Vmm, image, qemu_img
from guest import tap, until

F_OFD_SETLK = 37


def test_what_is_there():
    base = image("base.qcow2")
    with Vmm(base, image("two.raw", form="raw"), more=",werror=enospc") as vmm:
        disks = vmm.do("query-block")
        assert [disk["device"] for disk in disks] == ["disk0", "disk1"]
        assert [disk["inserted"]["drv"] for disk in disks] == ["qcow2", "raw"]
        assert all(disk["io-status"] == "ok" for disk in disks)
        assert disks[0]["inserted"]["image"]["virtual-size"] == 16 * MIB
        stats = vmm.do("query-blockstats")
        assert [row["node-name"] for row in stats] == ["disk0-image", "disk1-image"]
        assert all(row["stats"]["wr_bytes"] == 0 for row in stats)
        assert vmm.names() == {"disk0-image", "disk1-image"}


def test_overlay():
    base = image("base.qcow2")
    over = image("over.qcow2", backing=base)
    with Vmm(base) as vmm:
        vmm.add_image("over", over, backing=None)
        vmm.do("blockdev-snapshot", node="disk0-image", overlay="over")
        inserted = vmm.do("query-block")[0]["inserted"]
        assert inserted["node-name"] == "over" and inserted["backing_file_depth"] == 1
        assert inserted["image"]["backing-image"]["virtual-size"] == 16 * MIB
        vmm.fails("blockdev-del", "in use", **{"node-name": "over"})
        vmm.fails("blockdev-snapshot", "in use", node="disk0", overlay="over")
    assert json.loads(qemu_img("info", "--output=json", over))["full-backing-filename"] == str(base)
    qemu_img("check", over)
    qemu_img("check", base)


def test_all_or_none():
    first, second = image("first.qcow2"), image("second.qcow2")
    with Vmm(first, second) as vmm:
        vmm.add_image("a", image("a.qcow2"), backing=None)
        vmm.add_image("b", image("b.qcow2", size=8 * MIB), backing=None)
        vmm.add_image("c", image("c.qcow2"), backing=None)

        def both(*overlays):
            return {"actions": [{"type": "blockdev-snapshot", "data": {"node": f"disk{i}", "overlay": overlay}}
                                for i, overlay in enumerate(overlays)]}

        vmm.fails("transaction", "same size", **both("a", "b"))
        vmm.fails("transaction", "there is no node", "DeviceNotFound", **both("a", "nowhere"))
        vmm.fails("transaction", "each be named once", **both("a", "a"))
        vmm.fails("transaction", "aborted", actions=[*both("a")["actions"], {"type": "abort", "data": {}}])
        assert [disk["inserted"]["node-name"] for disk in vmm.do("query-block")] == ["disk0-image", "disk1-image"]
        vmm.do("transaction", **both("a", "c"))
        assert [disk["inserted"]["node-name"] for disk in vmm.do("query-block")] == ["a", "c"]
        vmm.do("blockdev-del", **{"node-name": "b"})
        assert "b" not in vmm.names()


def test_nodes_are_refused():
    base = image("base.qcow2")
    with Vmm(base) as vmm:
        where = vmm.add_fd(image("x.qcow2", backing=base))
        file = {"driver": "file", "filename": where}

        def refused(text, kind="GenericError", **more):
            vmm.fails("blockdev-add", text, kind, **{"driver": "qcow2", "node-name": "x", "file": file, **more})

        refused("lies over its backing file")
        refused("fdset", file={"driver": "file", "filename": "/etc/passwd"})
        refused("there is no node", "DeviceNotFound", backing="nowhere")
        refused("there is a node", **{"node-name": "disk0-image"})
        refused("there is a device", **{"node-name": "disk0"})
        refused("letters", **{"node-name": "a b"})
        refused("must be one of", driver="qcow9")
        refused("must be one of", driver="throttle")
        refused("is written to by the guest", backing="disk0")
        refused("parameter", filename=where)
        refused("parameter", driver="raw", backing="disk0")
        refused("in use by another guest", file={"driver": "file", "filename": vmm.add_fd(base)}, backing=None)
        assert vmm.names() == {"disk0-image"}
        vmm.do("blockdev-add", driver="qcow2", file=file, backing=None, **{"node-name": "x"})
        vmm.do("blockdev-add", driver="file", filename=vmm.add_fd(image("y.qcow2")), **{"node-name": "y-file"})
        vmm.do("blockdev-add", driver="qcow2", file="y-file", backing="x", **{"node-name": "y"})
        vmm.fails("blockdev-del", "in use", **{"node-name": "y-file"})
        vmm.fails("blockdev-del", "in use", **{"node-name": "x"})
        for name in "y", "y-file", "x":
            vmm.do("blockdev-del", **{"node-name": name})
        assert vmm.names() == {"disk0-image"}


def test_size_and_limits():
    with Vmm(image("base.qcow2")) as vmm:
        vmm.do("block_resize", device="disk0", size=32 * MIB)
        assert vmm.do("query-block")[0]["inserted"]["image"]["virtual-size"] == 32 * MIB
        vmm.fails("block_resize", "multiple", device="disk0", size=1000)
        vmm.fails("block_resize", "either", size=1000)
        none = dict.fromkeys(["bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr"], 0)
        vmm.do("block_set_io_throttle", id="disk0", **{**none, "bps_rd": 1000000, "bps_rd_max": 5000000, "iops": 77})
        inserted = vmm.do("query-block")[0]["inserted"]
        assert (inserted["bps_rd"], inserted["bps_rd_max"], inserted["iops"]) == (1000000, 5000000, 77)
        vmm.fails("block_set_io_throttle", "both", id="disk0", **{**none, "bps": 1, "bps_wr": 1})
        vmm.fails("block_set_io_throttle", "at least", id="disk0", **{**none, "bps": 10, "bps_max": 5})
        vmm.fails("block_set_io_throttle", "no disk", "DeviceNotFound", id="disk7", **none)
        vmm.do("block_set_io_throttle", id="disk0", **none)
        assert vmm.do("query-block")[0]["inserted"]["iops"] == 0


def fill(path, pattern, start):
    """A MiB of the disk."""
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", f"write -P {pattern} {start * MIB} {MIB}", path], check=True,
                   capture_output=True)


def content(path):
    """The first byte of each of four MiB."""
    flat = f"{SCRATCH.name}/flat"
    qemu_img("convert", "-f", "qcow2", "-O", "raw", path, flat)
    with open(flat, "rb") as file:
        return [file.read(MIB)[0] for _ in range(4)]


def wait_merged(vmm):
    until(lambda: vmm.do("query-jobs")[0]["status"] == "concluded", "the job's end")
    assert "error" not in vmm.do("query-jobs")[0]
    vmm.do("job-dismiss", id="merge")


def test_what_is_only_read_is_merged_into():
    """A descriptor for writing lets a job write to it, while nobody else has it open."""
    paths = [image(f"level{i}.qcow2") for i in range(4)]
    for i, path in enumerate(paths):
        fill(path, i + 1, i)
        fill(path, i + 1, 0)
    with Vmm(image("other.qcow2")) as vmm, open(paths[0], "rb") as reader:
        for i, path in enumerate(paths):
            vmm.add_image(f"level{i}", path, backing=f"level{i - 1}" if i else None, **{"read-only": True})
        job = {"job-id": "merge", "device": "level3", "auto-dismiss": False}
        down = {**job, "top-node": "level1", "base-node": "level0"}
        vmm.fails("block-commit", "x-file", **down)
        vmm.fails("block-commit", "another file", **{**down, "x-file": vmm.add_fd(paths[1])})
        vmm.fails("block-commit", "there is no", **{**down, "x-file": "/dev/fdset/99"})
        fcntl.fcntl(reader, F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_RDLCK, 0, 0, 0, 0))
        vmm.fails("block-commit", "in use by another guest", **{**down, "x-file": vmm.add_fd(paths[0])})
        fcntl.fcntl(reader, F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_UNLCK, 0, 0, 0, 0))
        vmm.do("block-commit", **{**down, "x-file": vmm.add_fd(paths[0])})
        wait_merged(vmm)
        nodes = {node["node-name"]: node for node in vmm.do("query-named-block-nodes")}
        assert nodes["level2"]["children"] == [{"child": "backing", "node-name": "level0"}]
        assert nodes["level0"]["ro"]
        vmm.do("block-stream", **{**job, "base-node": "level0", "x-file": vmm.add_fd(paths[3])})
        wait_merged(vmm)
        nodes = {node["node-name"]: node for node in vmm.do("query-named-block-nodes")}
        assert nodes["level3"]["children"] == [{"child": "backing", "node-name": "level0"}] and nodes["level3"]["ro"]
        for i in (1, 2):
            vmm.do("blockdev-del", **{"node-name": f"level{i}"})
    for path in (paths[0], paths[3]):
        qemu_img("check", path)
        assert "backing-filename" not in json.loads(qemu_img("info", "--output=json", path))
    assert content(paths[0]) == [2, 2, 0, 0] and content(paths[3]) == [4, 0, 3, 4]


def test_snapshots_inside_are_not_merged_into():
    base, over = image("base.qcow2"), image("over.qcow2")
    qemu_img("snapshot", "-c", "inside", over)
    with Vmm(image("other.qcow2")) as vmm:
        vmm.add_image("base", base, backing=None, **{"read-only": True})
        vmm.add_image("over", over, backing="base")
        vmm.fails("block-stream", "internal snapshots", device="over")


tap([test_what_is_there, test_overlay, test_all_or_none, test_nodes_are_refused, test_size_and_limits,
     test_what_is_only_read_is_merged_into, test_snapshots_inside_are_not_merged_into])
