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
import subprocess
import time

from blockdev import MIB, SCRATCH, Vmm, image, qemu_img
from debian import BOOT, files, initramfs
from guest import MONITOR, Skip, tap, until

# /dev/vda has a file system, /dev/vdb a number in its first sector; both are compared with memory.
LOAD = """
mkdir /mnt
mount -t ext4 /dev/vda /mnt || exit 1
i=0
while :; do
  i=$((i + 1))
  printf '%-512d' $i | dd of=/dev/vdb conv=notrunc,fsync 2>/dev/null
  echo "$i" > /mnt/file$((i % 50))
  head -c 30000 /dev/urandom > /mnt/data$((i % 7))
  md5sum /mnt/data$((i % 7)) > /mnt/sum$((i % 7))
  [ $((i % 5)) = 0 ] && sync
  echo 1 > /proc/sys/vm/drop_caches
  [ "$(($(head -c 512 /dev/vdb)))" = $i ] || echo BROKEN disk
  [ "$(cat /mnt/file$((i % 50)))" = $i ] || echo BROKEN file
  md5sum -c /mnt/sum$((i % 7)) > /dev/null || echo BROKEN sum
  echo "round $i"
done
"""
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


tap([test_a_life])
