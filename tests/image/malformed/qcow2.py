# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""qcow2, versions 2 and 3, and its predecessor qcow."""

import pathlib
import struct
import subprocess
import zlib

from malformed import luks
from malformed.case import MIB, Base, Case, both, entries, fields, qemu, qemu_locked

HEADER = """
magic 0 4
version 4 4 3
backing-offset 8 8
backing-size 16 4 1023
cluster-bits 20 4 21
size 24 8
encryption 32 4 2
l1-size 36 4 0x400000
l1-offset 40 8
refcounts-offset 48 8
refcounts-clusters 56 4 128
snapshots 60 4 65536
snapshots-offset 64 8
incompatible 72 8
compatible 80 8
autoclear 88 8
refcount-order 96 4 6
header-size 100 4
compression 104 1
extension 112 4
extension-size 116 4
"""
SNAPSHOT = """
l1 0 8
l1-size 8 4 0x400000
id-size 12 2
name-size 14 2
time 16 4
nanoseconds 20 4 999999999
clock 24 8
vm-state 32 4
extra 36 4 1024
large-state 40 8
size 48 8
"""
BITMAP = """
table 0 8
table-size 8 4
flags 12 4
type 16 1
granularity 17 1 31
name-size 18 2 1023
extra 20 4
"""


def all_qcow2(folder):
    writes = ["write -P 1 0 4k", "write -P 2 200k 5k"]
    mark = [["qemu-img", "snapshot", "-c", "first"], ["qemu-img", "bitmap", "-f", "qcow2", "--add", "-g", "4k"]]
    made = qcow2(folder, "plain", "", *writes, mark[0])
    path = pathlib.Path(folder) / "made"
    subprocess.run([*mark[1], path, "marked"], check=True)
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write 0 64k", path], check=True, stdout=subprocess.DEVNULL)
    made.image = path.read_bytes()
    yield from both(with_bitmaps(made), by_hand)
    yield from around(made)
    yield from largest(made)
    packed = ["write -c -P 7 0 4k", "write -c -P 8 8k 4k", "write -P 1 12k 512"]
    yield from both(qcow2(folder, "zlib", "cluster_size=4k", *packed), by_hand)
    zstd = qcow2(folder, "zstd", "cluster_size=4k,compression_type=zstd", *packed)
    yield from both(zstd, by_hand)
    yield from zstd_by_hand(zstd)
    yield from both(qcow2(folder, "extended", "cluster_size=16k,extended_l2=on", *writes))
    yield from both(qcow2(folder, "version-2", "compat=0.10,cluster_size=512", *writes))
    yield from both(encrypted(folder))


def qcow2(folder, name, options, *commands, size="1M"):
    base = Base("qcow2", name, qemu(folder, "qcow2", options, size, *commands))
    base.fields += fields(">", HEADER)
    l1, refcounts = base.get(40, ">Q"), base.get(48, ">Q")
    l2 = base.get(l1, ">Q") & 0x00FFFFFFFFFFFE00
    base.fields += [*entries("l1-", l1, ">", 8), *entries("l2-", l2, ">", 8, 4)]
    base.fields += [*entries("refcounts-", refcounts, ">", 8),
                    *entries("refcount-", base.get(refcounts, ">Q"), ">", 2, 4)]
    if base.get(60, ">I"):
        base.fields += fields(">", SNAPSHOT, base.get(64, ">Q"), "snapshot-")
    return base


def extension(base, kind):
    """Where the data of this header extension is."""
    at = base.get(100, ">I")
    while base.get(at, ">I") not in (0, kind):
        at += 8 + -(-base.get(at + 4, ">I") // 8) * 8
    return at + 8


def with_bitmaps(base):
    """With the fields of the bitmaps: of their directory, of one, and of what its table says."""
    at = extension(base, 0x23852875)
    directory = base.get(at + 16, ">Q")
    base.fields += fields(">", "bitmaps 0 4 65535\nbitmaps-size 8 8 0x4000000\nbitmaps-offset 16 8", at)
    base.fields += fields(">", BITMAP, directory, "bitmap-")
    base.fields += entries("bitmap-table-", base.get(directory, ">Q"), ">", 8, 1)
    return base


def encrypted(folder):
    """With LUKS: the place of its header, and that."""
    image = qemu_locked(folder, "qcow2", "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=50", "1M")
    base = Base("qcow2", "encrypted", image, locked=True)
    at = extension(base, 0x0537BE77)
    base.fields += fields(">", "encryption 32 4 2\nincompatible 72 8\nextension-size 116 4")
    base.fields += fields(">", "crypto 0 8\ncrypto-size 8 8", at)
    base.fields += fields(">", luks.HEADER, base.get(at, ">Q"), "luks-")
    return base


def packed_entry(base, at, size):
    """What an L2 entry says of a compressed cluster."""
    bits = base.get(20, ">I") - 8
    return struct.pack(">Q", 1 << 62 | at | min((size + 511) // 512, (1 << bits) - 1) << (62 - bits))


def by_hand(base):
    l1, refcounts = base.get(40, ">Q"), base.get(48, ">Q")
    l2 = base.get(l1, ">Q") & 0x00FFFFFFFFFFFE00
    used, copied = struct.pack(">Q", l1 | 1 << 63), 1 << 63
    yield Case(base, "l2-is-l1", [(l1, used)])
    yield Case(base, "l2-is-itself", [(l2, struct.pack(">Q", l2 | copied))])
    yield Case(base, "data-is-header", [(l2, struct.pack(">Q", copied))])
    yield Case(base, "data-is-refcounts", [(l2, struct.pack(">Q", refcounts | copied))])
    yield Case(base, "two-l1-entries-alike", [(l1 + 8, base.image[l1:l1 + 8])])
    yield Case(base, "two-l2-entries-alike", [(l2 + 8, base.image[l2:l2 + 8])])
    yield Case(base, "block-is-table", [(refcounts, struct.pack(">Q", refcounts))])
    yield Case(base, "block-is-l1", [(refcounts, struct.pack(">Q", l1))])
    bomb = zlib.compressobj(9, zlib.DEFLATED, -12)
    packed = bomb.compress(bytes(64 * MIB)) + bomb.flush()
    end = len(base.image)
    yield Case(base, "bomb", [(l2, packed_entry(base, end, len(packed))), (end, packed)])
    at = base.get(100, ">I")
    for name in ("../canary/backing", "/etc/hostname", "json:{\"driver\":\"file\",\"filename\":\"../canary/backing\"}",
                 "nbd://127.0.0.1:1/x", "http://127.0.0.1:1/x"):
        form = struct.pack(">II", 0xE2792ACA, 3) + b"raw".ljust(8, b"\0") + bytes(8)
        text = name.encode()
        patches = [(at, form), (at + len(form), text), (8, struct.pack(">QI", at + len(form), len(text)))]
        yield Case(base, f"backing-{name[:4]}", patches)
        data = struct.pack(">II", 0x44415441, len(text)) + text.ljust(-(-len(text) // 8) * 8, b"\0") + bytes(8)
        yield Case(base, f"data-{name[:4]}", [(at, data), (72, struct.pack(">Q", 4))])


def around(base):
    """An image that lies over itself, and one whose data is in itself."""
    at = base.get(100, ">I")
    form = struct.pack(">II5s3x", 0xE2792ACA, 5, b"qcow2") + bytes(8)
    yield Case(base, "backing-itself", [(at, form + b"image"), (8, struct.pack(">QI", at + len(form), 5))]).following()
    data = struct.pack(">II5s3x", 0x44415441, 5, b"image") + bytes(8)
    yield Case(base, "data-itself", [(at, data), (72, struct.pack(">Q", 4))]).following()


def zstd_by_hand(base):
    """Frames whose blocks are runs of one byte: 64 MiB in 2 KiB; and windows that nobody has the memory for."""
    l2 = base.get(base.get(40, ">Q"), ">Q") & 0x00FFFFFFFFFFFE00
    end = len(base.image)
    run, last = [struct.pack("<I", bit | 1 << 1 | 1 << 17 << 3)[:3] + b"x" for bit in (0, 1)]
    for window in 0x38, 0x88, 0xA8, 0xF8:
        frame = struct.pack("<IBB", 0xFD2FB528, 0, window) + run * 511 + last
        yield Case(base, f"zstd-bomb-{window:#x}", [(l2, packed_entry(base, end, len(frame))), (end, frame)])
    whole = struct.pack("<IBQ", 0xFD2FB528, 0xE0, 1 << 40) + last
    yield Case(base, "zstd-bomb-one-piece", [(l2, packed_entry(base, end, len(whole))), (end, whole)])
    skipped = struct.pack("<II", 0x184D2A50, 0xFFFFFFF0)
    yield Case(base, "zstd-skipped", [(l2, packed_entry(base, end, len(skipped))), (end, skipped)])


def largest(base):
    """Tables that are as large as they may be, and none of it used; and all of it used for the same."""
    end = 2 * MIB
    l1, l2 = base.get(base.get(40, ">Q"), ">Q"), base.get(40, ">Q")
    entries_n = 0x400000
    size = struct.pack(">Q", entries_n * 8192 * 65536)
    header = [(36, struct.pack(">IQ", entries_n, end)), (24, size)]
    yield Case(base, "largest-l1", [*header, (end + 32 * MIB - 8, bytes(8))])
    yield Case(base, "vast-l1", [*header, (end, struct.pack(">Q", l1) * entries_n)])
    table = [(48, struct.pack(">QI", end, 128))]
    block = base.get(base.get(48, ">Q"), ">Q")
    yield Case(base, "largest-refcounts", [*table, (end, struct.pack(">Q", block)), (end + 8 * MIB - 8, bytes(8))])
    yield Case(base, "vast-refcounts", [*table, (end, struct.pack(">Q", block) * MIB)])
    yield Case(base, "vast-refcounts-are-l2", [*table, (end, struct.pack(">Q", l2) * MIB)])
    row = struct.pack(">QIHHIIQII", base.get(40, ">Q"), 1, 4, 4, 0, 0, 0, 0, 16) + struct.pack(">QQ", 0, MIB)
    rows = b"".join(row + b"%04x%04x" % (i, i) for i in range(65536))
    yield Case(base, "vast-snapshots", [(60, struct.pack(">IQ", 65536, end)), (end, rows)])


def all_qcow(folder):
    text = "magic 0 4\nversion 4 4\nbacking 8 8\nbacking-size 16 4 1023\ntime 20 4\nsize 24 8\ncluster-bits 32 1 16\n"
    text += "l2-bits 33 1 13\npadding 34 2\nencryption 36 4 1\nl1-offset 40 8"
    for name, command in ("plain", "write -P 1 0 4k"), ("packed", "write -c -P 1 0 4k"):
        base = Base("qcow", name, qemu(folder, "qcow", "", "1M", command), fields(">", text))
        l1 = base.get(40, ">Q")
        l2 = base.get(l1, ">Q")
        base.fields += [*entries("l1-", l1, ">", 8), *entries("l2-", l2, ">", 8)]
        yield from both(base)
        yield Case(base, "l2-is-l1", [(l1, struct.pack(">Q", l1))])
        yield Case(base, "l2-is-itself", [(l2, struct.pack(">Q", l2))])
        yield Case(base, "two-l2-entries-alike", [(l2 + 8, base.image[l2:l2 + 8])])
        at, name = len(base.image), b"../canary/backing"
        yield Case(base, "backing", [(8, struct.pack(">QI", at, len(name))), (at, name)])
        bits = base.get(32, "B")
        bomb = zlib.compressobj(9, zlib.DEFLATED, -12)
        packed = bomb.compress(bytes(64 * MIB)) + bomb.flush()
        for size in (1, (1 << bits) - 1):
            entry = struct.pack(">Q", 1 << 63 | size << (63 - bits) | at)
            yield Case(base, f"bomb-{size}", [(l2, entry), (at, packed)])
