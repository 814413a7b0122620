#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""Disks of a running guest over QMP: nodes, overlays, sizes, limits; against QEMU's own tools where they can judge."""

import json

from blockdev import MIB, Vmm, image, qemu_img
from guest import tap


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


tap([test_what_is_there, test_overlay, test_all_or_none, test_nodes_are_refused, test_size_and_limits])
