#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""`hostel image convert` where images begin and end: several in one, and sizes that are not round."""

import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "system"))
from tap import Skip, tap  # noqa: E402

HOSTEL = os.environ["HOSTEL"]
SCRATCH = tempfile.TemporaryDirectory(prefix="hostel-convert-")
MIB = 1 << 20
SIZES = [1023 * 1024, 512, 1000, 64 * 1024 - 1536, 3 * MIB + 700, 1, 65536, 200000]


def run(*words, good=0):
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=60, check=False)
    assert good is None or done.returncode == good, (words, done)
    return done


def convert(*words, good=0):
    return run(HOSTEL, "image", "convert", *words, good=good)


def same(name, form):
    """Has the image the bytes of the file want?"""
    path = shutil.which("qemu-img")
    if not path:
        raise Skip("qemu-img is not installed")
    assert run(path, "compare", "-f", "raw", "-F", form, "want", name).stdout == "Images are identical.\n"


def parts():
    """Files of SIZES, and the file want: all of them, each from a whole sector on."""
    rng, want = random.Random(122), b""
    for number, size in enumerate(SIZES):
        data = bytes(size) if number == 3 else rng.randbytes(size // 2) + bytes(size - size // 2)
        pathlib.Path(f"part{number}").write_bytes(data)
        want += data + bytes(-len(data) % 512)
    pathlib.Path("want").write_bytes(want)
    return [f"part{number}" for number in range(len(SIZES))]


def test_several_share_clusters():
    names = parts()
    for words in [["-O", "qcow2"], ["-c", "-O", "qcow2"], ["-c", "-S", "0", "-O", "qcow2"], ["-O", "vmdk"],
                  ["-c", "-O", "qcow2", "-o", "cluster_size=2M"], ["-c", "-O", "qcow2", "-o", "cluster_size=512"],
                  ["-c", "-O", "vmdk", "-o", "subformat=streamOptimized"], ["-O", "raw"]]:
        convert("-f", "raw", *words, *names, "x")
        same("x", words[words.index("-O") + 1])
        if "qcow2" in words:
            run(shutil.which("qemu-img"), "check", "-f", "qcow2", "x")


def test_several_into_a_larger_image():
    names = parts()
    run(HOSTEL, "image", "create", "-q", "-f", "qcow2", "x", "8M")
    convert("-c", "-n", "-f", "raw", "-O", "qcow2", *names, "x")
    with open("want", "r+b") as file:
        file.truncate(8 * MIB)
    same("x", "qcow2")


def test_one_that_ends_inside_a_sector():
    for size in [1, 511, 513, 1000000, 4 * MIB + 1]:
        data = random.Random(size).randbytes(size)
        pathlib.Path("part").write_bytes(data)
        pathlib.Path("want").write_bytes(data + bytes(-size % 512))
        for words in [["-O", "qcow2"], ["-c", "-O", "qcow2"]]:
            convert("-f", "raw", *words, "part", "x")
            same("x", "qcow2")


def test_what_cannot_be_read():
    """A joint cluster of which a part cannot be read, as it is and with --salvage."""
    pathlib.Path("good").write_bytes(b"g" * 1000)
    pathlib.Path("bytes").write_bytes(b"b" * 3072)
    convert("-c", "-f", "raw", "-O", "qcow2", "-o", "cluster_size=512", "bytes", "x")
    packed = pathlib.Path("x").read_bytes()
    begin = len(packed) - 512  # what is packed lies last
    pathlib.Path("x").write_bytes(packed[:begin] + b"\xff" * 512)
    graph = "driver=qcow2,file.filename=x"
    sources = ["driver=raw,file.filename=good", graph]
    done = convert("--image-opts", "-c", "-O", "qcow2", *sources, "new", good=1)
    assert "cannot read" in done.stderr and not os.path.exists("new"), done.stderr
    assert "could not be read" in convert("--image-opts", "--salvage", "-c", "-O", "qcow2", *sources, "new").stderr


def test_more_than_a_disk_can_have():
    done = convert("--image-opts", *["driver=null,size=7E"] * 3, "x", good=1)
    assert "more bytes together" in done.stderr, done.stderr


os.chdir(SCRATCH.name)
tap([value for name, value in list(globals().items()) if name.startswith("test_")])
