# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""Formats that are a header and a table of blocks: vdi, vpc, vhdx, qed, parallels, and Hostel's overlay."""

import struct

from malformed.case import KIB, MIB, Base, Case, both, entries, fields, from_fields, qemu

VDI = """
magic 64 4
version 68 4
header-size 72 4
type 76 4 4
flags 80 4
map 340 4
data 344 4
cylinders 348 4
heads 352 4
sectors 356 4
sector 360 4
unused 364 4
size 368 8
block 376 4 0x10000000
extra 380 4
blocks 384 4 0x1000000
allocated 388 4
link 424 8
parent 440 8
"""


def all_vdi(folder):
    for name, options in ("dynamic", ""), ("static", "static=on"):
        image = qemu(folder, "vdi", options, "3M", "write -P 1 0 4k", "write -P 1 2M 4k")
        base = Base("vdi", name, image, fields("<", VDI))
        base.fields += entries("map-", base.get(340, "<I"), "<", 4, 3)
        yield from both(base)
        at = base.get(340, "<I")
        yield Case(base, "two-blocks-alike", [(at + 8, base.image[at:at + 4])])
        yield Case(base, "huge", [(368, struct.pack("<Q", 1 << 52)), (384, struct.pack("<I", 0xFFFFFFFF))])
        largest = [(376, struct.pack("<I", 1 << 28)), (384, struct.pack("<I", 1 << 24)),
                   (368, struct.pack("<Q", 1 << 52)), (340, struct.pack("<II", 2 * MIB, 66 * MIB))]
        yield Case(base, "largest", [*largest, (2 * MIB, b"\xff" * 64 * MIB)])
        small = [*largest, (376, struct.pack("<I", MIB)), (368, struct.pack("<Q", 1 << 44))]
        yield Case(base, "vast", [*small, (2 * MIB, bytes(66 * MIB))])
        yield Case(base, "small-blocks", [(376, struct.pack("<I", 1)), (384, struct.pack("<I", 3 * MIB))])


VPC_FOOTER = """
magic 0 8
features 8 4
version 12 4
next 16 8
time 24 4
creator 28 4
creator-version 32 4
size-first 40 8
size 48 8
cylinders 56 2
heads 58 1 16
sectors 59 1
type 60 4 4
checksum 64 4
state 84 1
"""
VPC_HEADER = """
header-magic 512 8
header-next 520 8
table 528 8
header-version 536 4
entries 540 4 0x1000000
block 544 4 0x10000000
header-checksum 548 4
locator 1088 4
locator-space 1092 4
locator-size 1096 4
locator-offset 1104 8
"""


def vpc_mend(dynamic):
    def mend(image):
        def sum_up(at, size, place):
            total = sum(image[at:at + size]) - sum(image[at + place:at + place + 4])
            struct.pack_into(">I", image, at + place, ~total & 0xFFFFFFFF)
        if len(image) < 2048:
            return
        if dynamic:
            sum_up(0, 512, 64)
            sum_up(512, 1024, 36)
            image[-512:] = image[:512]
        else:
            sum_up(len(image) - 512, 512, 64)
    return mend


def all_vpc(folder):
    image = qemu(folder, "vpc", "force_size=on", "5M", "write -P 1 0 4k", "write -P 1 4M 4k")
    base = Base("vpc", "dynamic", image, fields(">", VPC_FOOTER + VPC_HEADER), vpc_mend(True))
    table = base.get(528, ">Q")
    base.fields += entries("table-", table, ">", 4, 3)
    yield from both(base)
    yield Case(base, "two-blocks-alike", [(table + 8, base.image[table:table + 4])])
    yield Case(base, "block-is-table", [(table, struct.pack(">I", table // 512))])
    yield Case(base, "block-is-header", [(table, struct.pack(">I", 0))])
    most = [(540, struct.pack(">II", 1 << 24, 1 << 17)), (528, struct.pack(">Q", 2 * MIB)),
            (40, struct.pack(">QQ", 2040 << 30, 2040 << 30))]
    yield Case(base, "largest", [*most, (2 * MIB, b"\xff" * 64 * MIB + image[-512:])])
    alike = struct.pack(">I", 66 * MIB // 512) * (1 << 24)
    yield Case(base, "vast", [*most, (2 * MIB, alike + bytes(MIB) + image[-512:])])
    parent = [(60, struct.pack(">I", 4)), (512 + 64, "../canary/backing".encode("utf-16-be"))]
    yield Case(base, "parent", parent)
    name = "../canary/backing".encode("utf-16-le")
    locator = struct.pack(">4sIIIQ", b"W2ru", 512, len(name), 0, len(image))
    yield Case(base, "parent-locator", parent + [(1088, locator), (len(image), name.ljust(1024, b"\0"))])
    name = "image".encode("utf-16-le")
    locator = struct.pack(">4sIIIQ", b"W2ru", 512, len(name), 0, len(image))
    yield Case(base, "parent-is-itself", parent + [(1088, locator), (len(image), name.ljust(1024, b"\0"))]).following()
    image = qemu(folder, "vpc", "force_size=on,subformat=fixed", "1M")
    shift = list(fields(">", VPC_FOOTER, len(image) - 512, "end-"))
    yield from both(Base("vpc", "fixed", image, shift, vpc_mend(False)))
    yield from from_fields(Base("vpc", "unsummed", image, shift[-2:]))


CRC32C = []
for index in range(256):
    for _ in range(8):
        index = index >> 1 ^ (0x82F63B78 if index & 1 else 0)
    CRC32C.append(index)


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ CRC32C[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def vhdx_mend(sound):
    """Sums what is not as it was."""
    sound = bytes(sound)

    def mend(image):
        for at, size in (64 * KIB, 4096), (128 * KIB, 4096), (192 * KIB, 65536), (256 * KIB, 65536):
            if image[at:at + size] != sound[at:at + size] and len(image) >= at + size:
                image[at + 4:at + 8] = bytes(4)
                struct.pack_into("<I", image, at + 4, crc32c(image[at:at + size]))
    return mend


def vhdx_log(base, at, patches=(), sector=b"\0" * 4096, sign=True):
    """The image with one entry in its log: a descriptor of data for the file's offset 3 MiB."""
    guid = bytes(range(16))
    end = len(base.image)
    entry = bytearray(struct.pack("<4sIIIQII16sQQ", b"loge", 0, 8192, 0, 1, 1, 0, guid, end, end))
    entry += struct.pack("<4s4s8sQQ", b"desc", sector[-4:], sector[:8], 3 * MIB, 1)
    entry = entry.ljust(4096, b"\0") + struct.pack("<4sI", b"data", 0) + sector[8:-4] + struct.pack("<I", 1)
    for offset, kind, value in patches:
        struct.pack_into(kind, entry, offset, value)
    if sign:
        struct.pack_into("<I", entry, 4, crc32c(entry))
    return [(at, bytes(entry)), (64 * KIB + 48, guid), (128 * KIB + 48, guid)]


def vhdx_logs(base):
    at = base.get(64 * KIB + 72, "<Q")
    header = {"length": (8, "<I"), "tail": (12, "<I"), "sequence": (16, "<Q"), "count": (24, "<I"),
              "flushed": (48, "<Q"), "last": (56, "<Q"), "where": (80, "<Q"),
              "desc-sequence": (88, "<Q"), "magic": (64, "<I")}
    yield Case(base, "log-sound", vhdx_log(base, at))
    yield Case(base, "log-unsummed", vhdx_log(base, at, sign=False))
    for name, (offset, kind) in header.items():
        bits = struct.calcsize(kind) * 8
        for value in (0, 1, 4095, 4096, 65536, 1 << 20, (1 << bits) - 1, (1 << bits) - 4096, 1 << (bits - 1)):
            yield Case(base, f"log-{name}={value:#x}", vhdx_log(base, at, [(offset, kind, value)]))
    zero = [(64, "<I", 0x6F72657A), (72, "<Q", 1 << 62)]
    yield Case(base, "log-zero-bomb", vhdx_log(base, at, zero))


def all_vhdx(folder):
    image = qemu(folder, "vhdx", "block_size=1M", "3M", "write -P 1 0 4k", "write -P 1 2M 4k")
    text = ""
    for number, at in enumerate((64 * KIB, 128 * KIB)):
        text += f"h{number}-sequence {at + 8} 8\nh{number}-log-version {at + 64} 2\nh{number}-version {at + 66} 2\n"
        text += f"h{number}-log-size {at + 68} 4\nh{number}-log {at + 72} 8\n"
    at = 192 * KIB
    text += f"regions {at + 8} 4 2047\nbat-offset {at + 32} 8\nbat-size {at + 40} 4\nbat-required {at + 44} 4\n"
    text += f"meta-offset {at + 64} 8\nmeta-size {at + 72} 4\nregion-guid {at + 16} 8\n"
    base = Base("vhdx", "dynamic", image, fields("<", "magic 0 8\n" + text), vhdx_mend(image))
    first, second = base.get(at + 32, "<Q"), base.get(at + 64, "<Q")
    bat, meta = (first, second) if image[second:second + 8] == b"metadata" else (second, first)
    rows = f"meta-count {meta + 10} 2\nmeta-magic {meta} 8\n"
    for i in range(5):
        entry = meta + 32 + i * 32
        rows += f"item{i}-offset {entry + 16} 4\nitem{i}-size {entry + 20} 4\nitem{i}-flags {entry + 24} 4\n"
        rows += f"item{i}-value {meta + base.get(entry + 16, '<I')} 4\nitem{i}-guid {entry} 4\n"
    base.fields += [*fields("<", rows), *entries("bat-", bat, "<", 8, 3)]
    # the second region table must not stand in for the first
    for case in both(base):
        case.also(at, at + 64 * KIB, 64 * KIB)
        yield case
    yield from vhdx_logs(base)
    yield Case(base, "two-blocks-alike", [(bat + 16, image[bat:bat + 8])])
    yield Case(base, "block-is-header", [(bat, struct.pack("<Q", 6))])
    yield Case(base, "block-is-bat", [(bat, struct.pack("<Q", bat | 6))])
    for state in range(8):
        for where in 0, base.get(bat, "<Q") & ~7:
            yield Case(base, f"state-{state}-{where:#x}", [(bat, struct.pack("<Q", where | state))])
    disk_size, block_size = (meta + base.get(meta + 32 + i * 32 + 16, "<I") for i in (1, 0))
    most = [(block_size, struct.pack("<I", MIB)), (disk_size, struct.pack("<Q", (8 << 20) * MIB - (8 << 8) * MIB)),
            (at + (32 if bat == first else 64), struct.pack("<QI", 16 * MIB, 64 * MIB))]
    for name, entry in ("largest", bytes(8)), ("vast", struct.pack("<Q", 80 * MIB | 6)):
        case = Case(base, name, [*most, (16 * MIB, entry * (8 << 20)), (82 * MIB, bytes(512))])
        case.also(at, at + 64 * KIB, 64 * KIB)
        yield case


QED = """
magic 0 4
cluster 4 4 0x4000000
table 8 4 16
header 12 4
features 16 8
compatible 24 8
autoclear 32 8
l1-offset 40 8
size 48 8
backing 56 4
backing-size 60 4 1023
"""


def all_qed(folder):
    base = Base("qed", "plain", qemu(folder, "qed", "cluster_size=4k,table_size=2", "1M", "write -P 1 0 8k"),
                fields("<", QED))
    l1 = base.get(40, "<Q")
    l2 = base.get(l1, "<Q")
    base.fields += [*entries("l1-", l1, "<", 8), *entries("l2-", l2, "<", 8, 3)]
    yield from both(base)
    yield Case(base, "l2-is-l1", [(l1, struct.pack("<Q", l1))])
    yield Case(base, "l2-is-itself", [(l2, struct.pack("<Q", l2))])
    yield Case(base, "two-clusters-alike", [(l2 + 8, base.image[l2:l2 + 8])])
    for flags in 1, 5, 2, 3:
        yield Case(base, f"backing-{flags}",
                   [(16, struct.pack("<Q", flags)), (56, struct.pack("<II", 64, 17)), (64, b"../canary/backing")])
    yield Case(base, "backing-itself", [(16, struct.pack("<Q", 1)), (56, struct.pack("<II", 64, 5)), (64, b"image")]
               ).following()
    most = [(4, struct.pack("<II", 1 << 20, 16)), (40, struct.pack("<QQ", 16 * MIB, 1 << 60))]
    for name, entry in ("largest", bytes(8)), ("vast", struct.pack("<Q", 32 * MIB)):
        yield Case(base, name, [*most, (16 * MIB, entry * (2 << 20)),
                                (32 * MIB, struct.pack("<Q", 48 * MIB) * (2 << 20)), (49 * MIB - 8, bytes(8))])


PARALLELS = """
magic 0 8
version 16 4
heads 20 4
cylinders 24 4
tracks 28 4 0x80000
entries 32 4 0x1000000
sectors 36 8
in-use 44 4
data 48 4
flags 52 4
extension 56 8
"""


def all_parallels(folder):
    image = qemu(folder, "parallels", "cluster_size=64k", "1M", "write -P 1 0 4k", "write -P 1 128k 4k")
    base = Base("parallels", "plain", image, [*fields("<", PARALLELS), *entries("bat-", 64, "<", 4, 3)])
    yield from both(base)
    yield Case(base, "two-clusters-alike", [(72, base.image[64:68])])
    yield Case(base, "old-magic", [(0, b"WithoutFreeSpace")])
    yield Case(base, "dirty", [(44, struct.pack("<I", 0x746F6E59))])
    most = [(32, struct.pack("<IQ", 1 << 24, 128 << 24)), (48, struct.pack("<I", 65 * MIB // 512))]
    for name, entry in ("largest", bytes(4)), ("vast", struct.pack("<I", 1)):
        yield Case(base, name, [*most, (64, entry * (1 << 24)), (66 * MIB, bytes(512))])


OVERLAY = """
magic 0 8
version 8 4 1
cluster 12 4
size 16 8 0x20000000000
base-size 24 8
table 32 8
data 40 8
bits 4096 8
"""


def all_overlay(_folder):
    head = struct.pack("<8sIIQQQQ", b"HOSTELOV", 1, 4096, MIB, MIB, 4096, 8192).ljust(4096, b"\0")
    table = struct.pack("<Q", 0b101).ljust(4096, b"\0")
    base = Base("overlay", "plain", head + table + b"1" * 4096 + bytes(MIB - 4096), fields("<", OVERLAY))
    yield from both(base)
    size = 1 << 41
    most = [(16, struct.pack("<Q", size)), (40, struct.pack("<Q", 4096 + size // 4096 // 8))]
    for name, byte in ("largest", b"\0"), ("vast", b"\xff"):
        yield Case(base, f"{name}-without-end", [*most, (4096, byte * (64 * MIB))])
    for size in range(4096, 12288, 512):
        yield Case(base, f"table-cut-{size}", size=size)
