# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""VMDK: sparse, streams, descriptors, and the extents of ESX."""

import struct
import zlib

from malformed.case import MIB, Base, Case, both, entries, fields, qemu

HEADER = """
magic 0 4
version 4 4 3
flags 8 4
capacity 12 8
grain 20 8 131072
descriptor 28 8
descriptor-size 36 8 2048
entries 44 4 4096
redundant 48 8
directory 56 8
overhead 64 8
unclean 72 1
lines 73 4
compression 77 2 1
"""
COWD = """
magic 0 4
version 4 4 1
flags 8 4
capacity 12 4
grain 16 4 131072
directory 20 4
directory-size 24 4
next 28 4
"""
SESPARSE = """
magic 0 8
version 8 8
capacity 16 8
grain 24 8 131072
table 32 8
flags 40 8
volatile 80 8
volatile-size 88 8
journal 112 8
directory 128 8
directory-size 136 8
tables 144 8
tables-size 152 8
bitmap 160 8
backmap 176 8
grains 192 8
grains-size 200 8
volatile-magic 512 8
volatile-replay 536 8
"""


def text(base, old, new):
    return Case(base, f"text-{new[:24]!r}", [(base.image.index(old), new.ljust(len(old), b" "))])


def all_vmdk(folder):
    yield from sparse(folder)
    yield from stream(folder)
    yield from cowd()
    yield from sesparse()


def sparse(folder):
    base = Base("vmdk", "sparse", qemu(folder, "vmdk", "", "1M", "write -P 1 0 4k", "write -P 2 200k 5k"),
                fields("<", HEADER))
    directory = base.get(56, "<Q") * 512
    table = base.get(directory, "<I") * 512
    base.fields += [*entries("gd-", directory, "<", 4), *entries("gt-", table, "<", 4, 5)]
    base.fields += entries("rgd-", base.get(48, "<Q") * 512, "<", 4)
    yield from both(base)
    yield Case(base, "table-is-directory", [(directory, struct.pack("<I", directory // 512))])
    yield Case(base, "grain-is-table", [(table, struct.pack("<I", table // 512))])
    yield Case(base, "two-grains-alike", [(table + 4, base.image[table:table + 4])])
    yield from largest(base)
    yield from descriptors(base)


def largest(base):
    """A directory as large as it may be: none of it used, and all of it used for the same."""
    table = base.get(base.get(56, "<Q") * 512, "<I")
    for entries_n, grain in (512, 128), (512, 1), (4096, 131072):
        header = [(12, struct.pack("<QQ", grain * entries_n << 21, grain)), (44, struct.pack("<I", entries_n)),
                  (56, struct.pack("<Q", 2 * MIB // 512)), (8, struct.pack("<I", 1))]
        yield Case(base, f"largest-{entries_n}-{grain}", [*header, (10 * MIB, bytes(512))])
        if grain < 131072:
            yield Case(base, f"vast-{entries_n}-{grain}", [*header, (2 * MIB, struct.pack("<I", table) * (1 << 21))])


def descriptors(base):
    extent = b'RW 2048 SPARSE "made"'
    for new in (b'RW 0 SPARSE "made"', b'RW 99 SPARSE "made"', b'RW 2048 FLAT "x" 0', b'RW 2048 ZERO', b'RW',
                b'RW 2048 SPARSE', b'RW 2048 SPARSE ""', b'RW -1 SPARSE "made"', b'NO 2048 SPARSE "made"',
                b'RW 1e9 SPARSE "',
                b'RW 2048 VMFS "../c"', b'\0', b'\xff' * 20):
        yield text(base, extent, new)
    yield text(base, b'parentCID=ffffffff', b'parentCID=00000000')
    for new in b'parentCID=00000000\n', b'parentCID=00000000\nparentFileNameHint="image"\n':
        at = base.image.index(b'parentCID=ffffffff\n')
        rest = base.image[at + 19:base.image.index(b"\0", at)]
        yield Case(base, f"parent-{len(new)}", [(at, new + rest)]).following()
    yield text(base, b'createType="monolithicSparse"', b'createType="monolithicFlat"')
    yield text(base, b'createType="monolithicSparse"', b'createType="custom"')
    whole = b'# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType="%s"\n%s'
    for number, (kind, lines) in enumerate((
            (b"monolithicFlat", b'RW 100 FLAT "../canary/backing" 0\n'),
            (b"monolithicFlat", b'RW 100 FLAT "/etc/hostname" 0\n'),
            (b"monolithicFlat", b'RW 18446744073709551615 FLAT "x" 0\n'),
            (b"monolithicFlat", b'RW 100 FLAT "x" 18446744073709551615\n'),
            (b"twoGbMaxExtentSparse", b'RW 1 SPARSE "image"\n' * 3000),
            (b"twoGbMaxExtentFlat", b"RW 9223372036854775807 ZERO\n" * 4),
            (b"monolithicSparse", b'RW 100 SPARSE "image"\n'), (b"monolithicFlat", b'parentFileNameHint="image"\n'),
            (b"vmfs", b"RW 100 ZERO\n" * 20000), (b"custom", b"RW 100 ZERO"), (b"custom", b"R" * 100000),
            (b"custom", b""))):
        yield Case(base, f"descriptor-{number}", image=(whole % (kind, lines)).ljust(1024, b"\n"))


def stream(folder):
    image = qemu(folder, "vmdk", "subformat=streamOptimized", "1M", "write -c -P 1 0 64k")
    base = Base("vmdk", "stream", image, fields("<", HEADER))
    grain = base.get(base.get(base.get(56, "<Q") * 512, "<I") * 512, "<I") * 512
    base.fields += fields("<", f"marker {grain} 8\nmarker-size {grain + 8} 4\nzlib {grain + 12} 4")
    yield from both(base)
    packed = zlib.compress(bytes(64 * MIB), 9)
    yield Case(base, "bomb", [(grain + 8, struct.pack("<I", len(packed)) + packed)])

    # The header says that it is at the end, where the footer is.
    footer = struct.pack("<QII", 1, 0, 3).ljust(512, b"\0") + image[:512] + bytes(512)
    head = bytearray(image[:512])
    struct.pack_into("<Q", head, 56, (1 << 64) - 1)
    at = len(image)
    base = Base("vmdk", "footer", bytes(head) + image[512:] + footer)
    base.fields += [*fields("<", "flags 8 4\ndirectory 56 8"), *fields("<", HEADER, at + 512, "footer-")]
    base.fields += fields("<", "marker 0 8\nmarker-size 8 4\nmarker-kind 12 4", at)
    yield from both(base)


def cowd():
    """An extent of ESX, alone: the directory in sector 4, one table of 16 KiB in sector 8, one grain in sector 64."""
    head = struct.pack("<8I", 0x44574F43, 1, 3, 2048, 8, 4, 1, 80).ljust(2048, b"\0") + struct.pack("<I", 8)
    image = head.ljust(4096, b"\0") + struct.pack("<II", 0, 64)
    base = Base("vmdk", "cowd", image.ljust(32768, b"\0") + b"U" * 4096, fields("<", COWD))
    base.fields += [*entries("gd-", 2048, "<", 4, 1), *entries("gt-", 4096, "<", 4, 3)]
    yield from both(base)
    yield Case(base, "table-is-directory", [(2048, struct.pack("<I", 4))])
    yield Case(base, "two-grains-alike", [(4096, struct.pack("<I", 64))])
    yield Case(base, "largest", [(12, struct.pack("<II", 0xFFFFFFFF, 1)), (24, struct.pack("<I", 1 << 20)),
                                 (20, struct.pack("<I", 1024)), (5 * MIB, bytes(512))])


def sesparse():
    """Another one: entries of 8 bytes whose upper bits say what kind they are."""
    at = [1, 1, 2, 2, 16, 16, 32, 8, 40, 64, 104, 8, 112, 8, 120, 64]  # where, and how many sectors
    head = struct.pack("<6Q32x16Q", 0xCAFEBABE, 0x200000001, 2048, 8, 64, 0, *at).ljust(512, b"\0")
    image = bytearray((head + struct.pack("<4Q", 0xCAFECAFE, 0, 0, 0)).ljust(184 * 512, b"\0"))
    struct.pack_into("<Q", image, 32 * 512, 1 << 60)
    struct.pack_into("<3Q", image, 40 * 512, 0, 3 << 60 | 3 << 48, 2 << 60)
    image[120 * 512 + 3 * 4096:120 * 512 + 4 * 4096] = b"U" * 4096
    # Only by the descriptor of its disk does it say what it is.
    text = b'# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType="seSparse"\n'
    text += b'RW 2048 SESPARSE "extent"\n'
    base = Base("vmdk", "sesparse", image, fields("<", SESPARSE))
    base.fields += [*entries("gd-", 32 * 512, "<", 8, 1), *entries("gt-", 40 * 512, "<", 8, 4)]
    for extent in both(base):
        case = Case(base, extent.name.removeprefix("sesparse-"), image=text.ljust(1024, b"\n"))
        yield case.following(extent=extent.image())
