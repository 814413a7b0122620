#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""`hostel image amend`: snapshots of a version 2 image, which may tell less than version 3 asks for."""

import os
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "system"))
from tap import Skip, tap  # noqa: E402

HOSTEL = os.environ["HOSTEL"]
SCRATCH = tempfile.TemporaryDirectory(prefix="hostel-amend-")
ROW = struct.Struct(">QIHHIIQII")


def run(*words):
    return subprocess.run(words, capture_output=True, text=True, check=True, timeout=30).stdout


def rows(data):
    """(offset in the image, values of the row, extra data, id and name) of each snapshot."""
    count, at = struct.unpack_from(">IQ", data, 60)
    for _ in range(count):
        row = ROW.unpack_from(data, at)
        extra = data[at + ROW.size:at + ROW.size + row[8]]
        names = data[at + ROW.size + row[8]:at + ROW.size + row[8] + row[2] + row[3]]
        yield at, row, extra, names
        at += -(-(ROW.size + len(extra) + len(names)) // 8) * 8


def shorten(name, sizes):
    """Cuts the extra data of the snapshots, or makes it longer, to these sizes."""
    data = bytearray(pathlib.Path(name).read_bytes())
    table, start = b"", struct.unpack_from(">Q", data, 64)[0]
    for (_, row, extra, names), size in zip(rows(data), sizes, strict=True):
        new = ROW.pack(*row[:8], size) + (extra + b"unknown" * 8)[:size] + names
        table += new + bytes(-len(new) % 8)
    data[start:start + len(table)] = table
    pathlib.Path(name).write_bytes(data)


def test_snapshots_are_completed():
    qemu = shutil.which("qemu-img")
    if not qemu:
        raise Skip("qemu-img is not installed")
    run(qemu, "create", "-q", "-f", "qcow2", "-o", "compat=0.10", "x", "3M")
    for name in ["one", "two", "three"]:
        run(qemu, "snapshot", "-c", name, "x")
    shorten("x", [0, 50, 8])
    before = [(row, extra, names) for _, row, extra, names in rows(pathlib.Path("x").read_bytes())]
    run(HOSTEL, "image", "amend", "-f", "qcow2", "-o", "compat=1.1", "x")
    after = [(row, extra, names) for _, row, extra, names in rows(pathlib.Path("x").read_bytes())]
    for (row, extra, names), (new_row, new_extra, new_names) in zip(before, after, strict=True):
        assert new_row[:8] == row[:8] and new_names == names, (row, new_row, names, new_names)
        assert len(new_extra) >= 16 and struct.unpack_from(">Q", new_extra, 8)[0] == 3 << 20, new_extra
        assert new_extra[24:] == extra[24:], (extra, new_extra)
    assert "No errors" in run(qemu, "check", "-f", "qcow2", "x") and "compat: 1.1" in run(qemu, "info", "x")
    assert "No errors" in run(HOSTEL, "image", "check", "-f", "qcow2", "x")
    assert len(run(qemu, "snapshot", "-l", "x").splitlines()) == 5


os.chdir(SCRATCH.name)
tap([value for name, value in list(globals().items()) if name.startswith("test_")])
