# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""What is on a raw disk: partition tables, and ext2 and ext4, which `hostel image ls` and `cat` read."""

import pathlib
import shutil
import struct
import subprocess
import zlib

from malformed.case import KIB, MIB, Base, Case, both, entries, fields

MBR_ENTRY = "status 0 1\nkind 4 1\nfirst 8 4\nsectors 12 4"
GPT = """
magic 0 8
revision 8 4
header-size 12 4 512
crc 16 4
self 24 8
other 32 8
usable 40 8
usable-end 48 8
array 72 8
count 80 4 128
each 84 4
array-crc 88 4
"""
GPT_ENTRY = "kind 0 8\nfirst 32 8\nlast 40 8\nflags 48 8\nname 56 8"
SUPER = """
inodes 0 4
blocks 4 4
free-blocks 12 4
free-inodes 16 4
first-block 20 4
block-size 24 4 6
cluster-size 28 4
group-blocks 32 4
group-clusters 36 4
group-inodes 40 4
magic 56 2
state 58 2
revision 76 4 1
first-inode 84 4
inode-size 88 2
compatible 92 4
incompatible 96 4
read-only 100 4
reserved-gdt 206 2
journal 224 4
descriptor-size 254 2 1024
first-meta-group 260 4
checksum 373 1
groups-per-flex 372 1
high-blocks 336 4
"""
INODE = """
mode 0 2
size 4 4
links 26 2
blocks 28 4
flags 32 4
extent-magic 40 2
extents 42 2 4
extents-max 44 2
depth 46 2 5
place0 52 4
place1 56 4
place2 60 4
indirect 88 4
size-high 108 4
extra 128 2
"""


def all_raw(folder):
    yield from mbr()
    yield from gpt()
    mke2fs = shutil.which("mke2fs", path="/usr/sbin:/sbin:/usr/bin")
    if mke2fs:
        for kind, options in ("ext2", []), ("ext4", ["-O", "^metadata_csum,^has_journal"]), ("ext4", []):
            yield from ext(folder, mke2fs, kind, options)


def mbr_sector(*rows):
    """Rows of kind, first sector and how many."""
    table = b"".join(struct.pack("<B3xB3xII", 0, *row) for row in rows)
    return bytes(446) + table.ljust(64, b"\0") + b"\x55\xaa"


def mbr():
    image = bytearray(MIB)
    image[:512] = mbr_sector((0x83, 64, 64), (0x83, 128, 64), (5, 256, 512))
    for number in range(3):
        following = [(5, 64 * (number + 1), 64)] if number < 2 else []
        at = (256 + 64 * number) * 512
        image[at:at + 512] = mbr_sector((0x83, 8, 32), *following)
    base = Base("raw", "mbr", image, fields("<", "signature 510 2"))
    for number in range(4):
        base.fields += fields("<", MBR_ENTRY, 446 + 16 * number, f"entry{number}-")
    for number in range(2):
        base.fields += fields("<", MBR_ENTRY, (256 + 64 * number) * 512 + 446, f"logical{number}-")
    yield from both(base)
    link = 256 * 512 + 446 + 16
    for name, to in ("itself", 0), ("behind", 1 << 31), ("table", (1 << 32) - 256):
        yield Case(base, f"chain-to-{name}", [(link, struct.pack("<B3xB3xII", 0, 5, to, 64))])
    yield Case(base, "all-extended", [(446, mbr_sector(*[(5, 256, 512)] * 4)[446:])])


def gpt_mend(image):
    """Both sums, of the header in front."""
    count, each = struct.unpack_from("<II", image, 512 + 80)
    at = struct.unpack_from("<Q", image, 512 + 72)[0] * 512
    if at + count * each <= len(image):
        struct.pack_into("<I", image, 512 + 88, zlib.crc32(image[at:at + count * each]))
    size = min(512, struct.unpack_from("<I", image, 512 + 12)[0])
    image[512 + 16:512 + 20] = bytes(4)
    struct.pack_into("<I", image, 512 + 16, zlib.crc32(image[512:512 + size]))


def gpt():
    image = bytearray(MIB)
    last = MIB // 512 - 1
    image[:512] = mbr_sector((0xEE, 1, last))
    array = b"".join(struct.pack("<16s16sQQQ", b"kind" * 4, bytes([n] * 16), 64 * n, 64 * n + 63, 0) +
                     f"part{n}".encode("utf-16-le").ljust(72, b"\0") for n in range(1, 4))
    image[1024:1024 + len(array)] = array
    struct.pack_into("<8sIIIIQQQQ16sQII", image, 512, b"EFI PART", 0x10000, 92, 0, 0, 1, last, 34, last - 33,
                     b"disk" * 4, 2, 128, 128)
    gpt_mend(image)
    base = Base("raw", "gpt", image, fields("<", GPT, 512), gpt_mend)
    for number in range(2):
        base.fields += fields("<", GPT_ENTRY, 1024 + 128 * number, f"entry{number}-")
    yield from both(base)
    yield Case(base, "two-entries-alike", [(1024 + 128, array[:128])])
    yield Case(base, "entries-are-header", [(512 + 72, struct.pack("<Q", 1))])


def ext(folder, mke2fs, kind, options):
    """With a file, a folder in a folder, and a link that goes round."""
    root, path = pathlib.Path(folder) / "root", pathlib.Path(folder) / "made"
    if not root.exists():
        (root / "a" / "b").mkdir(parents=True)
        (root / "file").write_bytes(b"what is in the file\n" * 1000)
        (root / "a" / "around").symlink_to("around")
    path.unlink(missing_ok=True)
    subprocess.run([mke2fs, "-q", "-F", "-t", kind, *options, "-b", "1024", "-N", "16", "-d", root, path, "1024k"],
                   check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    sums = bool(options) or kind == "ext2"
    base = Base("raw", f"{kind}{'' if sums else '-summed'}", path.read_bytes(), fields("<", SUPER, KIB))
    base.fields += entries("group-", 2 * KIB, "<", 4, 4)
    size = base.get(KIB + 88, "<H")
    table = base.get(2 * KIB + 8, "<I") * KIB
    for name, number in ("root", 2), ("lost", 11), ("first", 12), ("second", 13), ("third", 14):
        base.fields += fields("<", INODE, table + (number - 1) * size, f"{name}-")
    inode = table + size
    place = base.get(inode + (60 if base.get(inode + 32, "<I") & 0x80000 else 40), "<I") * KIB
    for number, at in enumerate((0, 12, 24, 44)):
        base.fields += fields("<", "inode 0 4\nlength 4 2\nname-size 6 1\nkind 7 1", place + at, f"entry{number}-")
    yield from both(base)
    yield Case(base, "root-is-table", [(inode + (60 if kind == "ext4" else 40), struct.pack("<I", table // KIB))])
