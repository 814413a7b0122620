# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""A VMM with disks, driven over QMP, and images that QEMU's tool makes."""

import json
import os
import pathlib
import select
import shutil
import socket
import subprocess
import tempfile

from guest import MONITOR, Qmp, Skip

MIB = 1 << 20
SCRATCH = tempfile.TemporaryDirectory(prefix="hostel-blockdev-")


def qemu_img(*args):
    if not shutil.which("qemu-img"):
        raise Skip("qemu-img is not installed")
    return subprocess.run(["qemu-img", *map(str, args)], capture_output=True, text=True, check=True).stdout


def image(name, size=16 * MIB, backing=None, form="qcow2"):
    path = pathlib.Path(SCRATCH.name) / name
    path.unlink(missing_ok=True)
    more = ["-b", backing, "-F", "qcow2"] if backing else []
    qemu_img("create", "-q", "-f", form, *more, path, *([] if backing else [size]))
    return path


class Vmm(Qmp):
    """A VMM with disks, past negotiation."""

    def __init__(self, *disks, args=(), more="", boot=None, **others):
        """boot: the options that name what is booted, as Qmp's files."""
        files = boot or {"firmware": (MONITOR, os.O_RDONLY)}
        for number, path in enumerate(disks):
            form = "raw" if path.suffix == ".raw" else "qcow2"
            files[f"disk format={form},id=disk{number}{more}"] = (path, os.O_RDWR)
        super().__init__(*args, files=files, **others)
        assert self.command("qmp_capabilities") == {"return": {}}

    def do(self, name, **arguments):
        answer = self.command(name, **arguments)
        assert "return" in answer, (name, arguments, answer)
        return answer["return"]

    def fails(self, name, text, kind="GenericError", **arguments):
        answer = self.command(name, **arguments)
        assert "error" in answer, (name, arguments, answer)
        assert answer["error"]["class"] == kind and text in answer["error"]["desc"], answer

    def add_fd(self, path, flags=os.O_RDWR):
        """Hands a file in; the name to open it by."""
        file = os.open(path, flags)
        message = json.dumps({"execute": "add-fd", "arguments": {}}).encode() + b"\n"
        socket.send_fds(self.socket, [message], [file])
        os.close(file)
        return f"/dev/fdset/{self.answer()['return']['fdset-id']}"

    def add_image(self, node, path, driver="qcow2", **more):
        where = self.add_fd(path, os.O_RDONLY if more.get("read-only") else os.O_RDWR)
        self.do("blockdev-add", **{"driver": driver, "node-name": node,
                                   "file": {"driver": "file", "filename": where}, **more})

    def names(self):
        return {node["node-name"] for node in self.do("query-named-block-nodes")}

    def said(self, text):
        """Has the console said that by now? It is waited for, for a moment."""
        self.heard = getattr(self, "heard", b"")
        if select.select([self.console], [], [], 0.05)[0]:
            self.heard += self.console.recv(65536)
        return text in self.heard
