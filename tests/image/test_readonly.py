#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""Formats that are only read: the disk is what it was made from, and what qemu-img sees in the same image."""

import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "system")]
import samples  # noqa: E402
from tap import Skip, tap  # noqa: E402

DISKTOOL = os.environ["DISKTOOL"]
KIB = 1 << 10
SIZE = 1500 * KIB + 512


def disk(size=SIZE):
    """Random bytes, text and zeroes in turns."""
    rand, out = random.Random(5), b""
    while len(out) < size:
        part = rand.randrange(1, 300 * KIB)
        out += rand.choice([rand.randbytes, lambda n: bytes(n), lambda n: (b"text %d " % n * n)[:n]])(part)
    return out[:size]


def ours(form, path, *base):
    return subprocess.run([DISKTOOL, "-r", form, path, *base], input=b"dump\n", capture_output=True, timeout=60)


def theirs(form, path):
    if not shutil.which("qemu-img"):
        raise Skip("qemu-img is not installed")
    raw = path.with_suffix(".raw")
    subprocess.run(["qemu-img", "convert", "-f", form, "-O", "raw", path, raw], check=True, timeout=60)
    return raw.read_bytes()


def same(form, image, want, peer=True):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "image"
        path.write_bytes(image)
        done = ours(form, path)
        assert done.returncode == 0, done.stderr.decode()
        assert done.stdout == want, f"{form}: other bytes than it was made from"
        writing = subprocess.run([DISKTOOL, form, path], input=b"", capture_output=True, timeout=60)
        assert writing.returncode == 1 and b"only read" in writing.stderr, writing.stderr.decode()
        if peer:
            assert theirs(form, path) == want, f"{form}: qemu-img reads something else"


def test_bochs():
    for version in (0x10000, 0x20000):
        for extent in (512, 4096, 65536, 8192 * KIB):
            same("bochs", samples.bochs(disk(), version, extent), disk())


def test_cloop():
    for block in (512, 3584, 65536, 1024 * KIB):
        whole = -(-SIZE // block) * block
        same("cloop", samples.cloop(disk(), block), disk().ljust(whole, b"\0"))


def test_dmg():
    kinds = (samples.DMG_ZLIB, samples.DMG_RAW, samples.DMG_ZERO, samples.DMG_IGNORE)
    for chunk in (1, 97, 256, 10000):
        same("dmg", samples.dmg(disk(), kinds, chunk), disk())
    same("dmg", samples.dmg(disk(), fork=4096), disk())


def test_dmg_methods():
    """qemu-img has a module for bzip2 that Debian does not ship everywhere, and none for LZMA in xz."""
    same("dmg", samples.dmg(disk(), (samples.DMG_BZIP2, samples.DMG_LZMA, samples.DMG_LZFSE)), disk(), peer=False)


def test_dmg_unknown_method():
    text = samples.dmg_list([samples.dmg_table(0, 0, [(samples.DMG_ADC, 0, 1, 0, 1)])])
    path = pathlib.Path(tempfile.mkdtemp()) / "image"
    path.write_bytes(b"x" + text + samples.dmg_end(0, 1, 1, len(text), 1))
    done = ours("dmg", path)
    shutil.rmtree(path.parent)
    assert done.returncode == 1 and b"not supported" in done.stderr, done.stderr


def test_qcow():
    if not shutil.which("qemu-img"):
        raise Skip("qemu-img is not installed")
    with tempfile.TemporaryDirectory() as folder:
        raw, image, top = (pathlib.Path(folder) / name for name in ("raw", "image", "top"))
        for compress, size in ([], SIZE), (["-c"], SIZE // 4096 * 4096):  # qemu-img compresses whole clusters only
            raw.write_bytes(disk(size))
            # QEMU 7.2 ends with 1 after it has written all compressed clusters well
            subprocess.run(["qemu-img", "convert", *compress, "-f", "raw", "-O", "qcow", raw, image],
                           check=not compress)
            done = ours("qcow", image)
            assert done.returncode == 0, done.stderr.decode()
            assert done.stdout == disk(size) == theirs("qcow", image)
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow", "-b", raw, "-F", "raw", top, str(SIZE + 136 * 512)],
                       check=True)
        writes = [(5000, 300), (4096 * 9, 8192), (SIZE - 100, 5000)]
        for at, size in writes:
            subprocess.run(["qemu-io", "-f", "qcow", "-c", f"write -P 7 {at} {size}", top], check=True,
                           stdout=subprocess.DEVNULL)
        done = ours("qcow", top, "raw", raw)
        assert done.returncode == 0, done.stderr.decode()
        assert done.stdout == theirs("qcow", top), "over a backing file: other bytes than qemu-img's"


tap([test for name, test in list(globals().items()) if name.startswith("test_")])
