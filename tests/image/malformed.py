# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""Malformed images of every format, made from sound ones.

A case is a base image and what is changed in it. Most come from a table of fields: each of the header and of the first
entries of each table gets every value that is worth a try, and where the format has checksums, they are made right
again, or nothing behind them would ever be looked at. The rest are made by hand: cycles, overlaps, decompression bombs,
references to other files.
"""

import bz2
import lzma
import pathlib
import struct
import subprocess
import zlib

import samples

KIB, MIB = 1 << 10, 1 << 20
PASSPHRASE = "malformed"


class Base:
    """A sound image: what it is called, its bytes, and of its fields the name, offset and format of struct."""

    def __init__(self, form, name, image, fields=(), mend=None):
        self.form, self.name, self.image, self.mend = form, name, bytes(image), mend
        self.fields = list(fields)

    def get(self, at, kind):
        return struct.unpack_from(kind, self.image, at)[0]


class Case:
    def __init__(self, base, name, patches=(), size=None, image=None):
        self.form, self.name = base.form, f"{base.name}-{name}"
        self._base, self._patches, self._size, self._image = base, patches, size, image

    def image(self):
        if self._image is not None:
            return self._image
        out = bytearray(self._base.image)
        for at, data in self._patches:
            out[at:at + len(data)] = data
        if self._base.mend:
            self._base.mend(out)
        return bytes(out[:self._size]) if self._size is not None else bytes(out)


def values(base, at, kind):
    """What a field is set to: the names are part of the case's."""
    bits = struct.calcsize(kind) * 8
    now, top, end = base.get(at, kind), (1 << bits) - 1, len(base.image)
    found = {"0": 0, "1": 1, "2": 2, "less": now - 1, "more": now + 1, "twice": now * 2, "half": now // 2,
             "all": top, "all-but-one": top - 1, "sign": 1 << (bits - 1),
             "below-sign": (1 << (bits - 1)) - 1, "odd": now ^ 0x1FF}
    if bits >= 32:
        found |= {"end": end, "end-less": end - 512, "self": at & ~511, "sectors": end // 512, "large": 1 << 28,
                  "flag": now | 1 << (bits - 2), "million": 1 << 20}
    if bits == 64:
        found |= {"2^40": 1 << 40, "2^56": 1 << 56, "2^63-64k": (1 << 63) - 65536, "-512": top - 511, "2^32": 1 << 32}
    seen = {now}
    for name, value in found.items():
        if 0 <= value <= top and value not in seen:
            seen.add(value)
            yield name, value


def from_fields(base):
    for name, at, kind in base.fields:
        if at + struct.calcsize(kind) <= len(base.image):
            for what, value in values(base, at, kind):
                yield Case(base, f"{name}={what}", [(at, struct.pack(kind, value))])


def cut_off(base):
    end = len(base.image)
    sizes = {0, 1, 4, 100, 511, 512, 513, 1024, 4096, 65536, end // 2, end - 512, end - 1}
    for size in sorted(size for size in sizes if 0 <= size < end):
        yield Case(base, f"cut-{size}", size=size)


def fields(order, text):
    """Lines of name, offset, size in bytes."""
    letters = {1: "B", 2: "H", 4: "I", 8: "Q"}
    rows = [line.split() for line in text.splitlines() if line]
    return [(name, int(at, 0), order + letters[int(size)]) for name, at, size in rows]


def entries(name, at, order, size, count=2):
    return fields(order, "\n".join(f"{name}{i} {at + i * size} {size}" for i in range(count)))


# --- images that qemu-img makes ---


def qemu(folder, form, options, size, *commands):
    path = pathlib.Path(folder) / "made"
    path.unlink(missing_ok=True)
    more = ["-o", options] if options else []
    subprocess.run(["qemu-img", "create", "-q", "-f", form, *more, path, size], check=True)
    for command in commands:
        if isinstance(command, str):
            command = ["qemu-io", "-f", form, "-c", command]
        subprocess.run([*command, path], check=True, stdout=subprocess.DEVNULL)
    return path.read_bytes()


QCOW2 = """
magic 0 4
version 4 4
backing-offset 8 8
backing-size 16 4
cluster-bits 20 4
size 24 8
encryption 32 4
l1-size 36 4
l1-offset 40 8
refcounts-offset 48 8
refcounts-clusters 56 4
snapshots 60 4
snapshots-offset 64 8
incompatible 72 8
compatible 80 8
autoclear 88 8
refcount-order 96 4
header-size 100 4
compression 104 1
extension 112 4
extension-size 116 4
"""


def qcow2(folder, name, options, *commands, size="1M"):
    base = Base("qcow2", name, qemu(folder, "qcow2", options, size, *commands))
    base.fields = fields(">", QCOW2)
    l1, refcounts = base.get(40, ">Q"), base.get(48, ">Q")
    l2 = base.get(l1, ">Q") & 0x00FFFFFFFFFFFE00
    base.fields += entries("l1-", l1, ">", 8) + entries("l2-", l2, ">", 8, 4) + entries("refcounts-", refcounts, ">", 8)
    block = base.get(refcounts, ">Q")
    base.fields += entries("refcount-", block, ">", 2, 4)
    if base.get(60, ">I"):
        table = base.get(64, ">Q")
        text = "l1 0 8\nl1-size 8 4\nid-size 12 2\nname-size 14 2\ntime 16 4\nvm-state 32 4\nextra 36 4\n"
        text += "large-state 40 8\nsize 48 8"
        base.fields += [(f"snapshot-{n}", table + at, kind) for n, at, kind in fields(">", text)]
    return base


def qcow2_bitmaps(base):
    """The fields of a bitmap's directory; where it is stands in a header extension."""
    at = base.get(100, ">I")
    while base.get(at, ">I") not in (0, 0x23852875):
        at += 8 + -(-base.get(at + 4, ">I") // 8) * 8
    directory = base.get(at + 24, ">Q")
    base.fields += fields(">", f"bitmaps {at + 8} 4\nbitmaps-size {at + 16} 8\nbitmaps-offset {at + 24} 8")
    text = "table 0 8\ntable-size 8 4\nflags 12 4\ntype 16 1\ngranularity 17 1\nname-size 18 2\nextra 20 4"
    base.fields += [(f"bitmap-{n}", directory + a, kind) for n, a, kind in fields(">", text)]
    return base


def qcow2_by_hand(base):
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
    at, bits = len(base.image), base.get(20, ">I")
    entry = 1 << 62 | at | min((len(packed) + 511) // 512, (1 << (bits - 8)) - 1) << (62 - (bits - 8))
    yield Case(base, "bomb", [(l2, struct.pack(">Q", entry)), (at, packed)])
    end = base.get(100, ">I")
    for name in ("../canary/backing", "/etc/hostname", "json:{\"driver\":\"file\",\"filename\":\"../canary/backing\"}",
                 "nbd://127.0.0.1:1/x", "http://127.0.0.1:1/x"):
        form = struct.pack(">II", 0xE2792ACA, 3) + b"raw".ljust(8, b"\0") + bytes(8)
        text = name.encode()
        patches = [(end, form), (end + len(form), text), (8, struct.pack(">QI", end + len(form), len(text)))]
        yield Case(base, f"backing-{name[:4]}", patches)
        data = struct.pack(">II", 0x44415441, len(text)) + text.ljust(-(-len(text) // 8) * 8, b"\0") + bytes(8)
        yield Case(base, f"data-{name[:4]}", [(end, data), (72, struct.pack(">Q", 4))])


def all_qcow2(folder):
    writes = ["write -P 1 0 4k", "write -P 2 200k 5k"]
    made = qcow2(folder, "plain", "", *writes, ["qemu-img", "snapshot", "-c", "first"])
    path = pathlib.Path(folder) / "made"
    subprocess.run(["qemu-img", "bitmap", "-f", "qcow2", "--add", path, "marked"], check=True)
    made.image = path.read_bytes()
    yield from both(qcow2_bitmaps(made), qcow2_by_hand)
    packed = ["write -c -P 7 0 4k", "write -c -P 8 8k 4k", "write -P 1 12k 512"]
    yield from both(qcow2(folder, "zlib", "cluster_size=4k", *packed), qcow2_by_hand)
    yield from both(qcow2(folder, "zstd", "cluster_size=4k,compression_type=zstd", *packed))
    yield from both(qcow2(folder, "extended", "cluster_size=16k,extended_l2=on", *writes))
    yield from both(qcow2(folder, "version-2", "compat=0.10,cluster_size=512", *writes))


def both(base, by_hand=None):
    yield from from_fields(base)
    yield from cut_off(base)
    if by_hand:
        yield from by_hand(base)


def all_qcow(folder):
    text = "magic 0 4\nversion 4 4\nbacking 8 8\nbacking-size 16 4\nsize 24 8\ncluster-bits 32 1\nl2-bits 33 1\n"
    for name, command in ("plain", "write -P 1 0 4k"), ("packed", "write -c -P 1 0 4k"):
        base = Base("qcow", name, qemu(folder, "qcow", "", "1M", command))
        base.fields = fields(">", text + "encryption 36 4\nl1-offset 40 8")
        l1 = base.get(40, ">Q")
        l2 = base.get(l1, ">Q")
        base.fields += entries("l1-", l1, ">", 8) + entries("l2-", l2, ">", 8)
        yield from both(base)
        yield Case(base, "l2-is-l1", [(l1, struct.pack(">Q", l1))])
        yield Case(base, "l2-is-itself", [(l2, struct.pack(">Q", l2))])
        at, name = len(base.image), b"../canary/backing"
        yield Case(base, "backing", [(8, struct.pack(">QI", at, len(name))), (at, name)])


VMDK = """
magic 0 4
version 4 4
flags 8 4
capacity 12 8
grain 20 8
descriptor 28 8
descriptor-size 36 8
entries 44 4
redundant 48 8
directory 56 8
overhead 64 8
unclean 72 1
lines 73 4
compression 77 2
"""


def vmdk_text(base, old, new):
    return Case(base, f"text-{new[:24]!r}", [(base.image.index(old), new.ljust(len(old), b" "))])


def all_vmdk(folder):
    base = Base("vmdk", "sparse", qemu(folder, "vmdk", "", "1M", "write -P 1 0 4k", "write -P 2 200k 5k"),
                fields("<", VMDK))
    directory = base.get(56, "<Q") * 512
    table = base.get(directory, "<I") * 512
    base.fields += entries("gd-", directory, "<", 4) + entries("gt-", table, "<", 4, 5)
    base.fields += entries("rgd-", base.get(48, "<Q") * 512, "<", 4)
    yield from both(base)
    yield Case(base, "table-is-directory", [(directory, struct.pack("<I", directory // 512))])
    yield Case(base, "grain-is-table", [(table, struct.pack("<I", table // 512))])
    yield Case(base, "two-grains-alike", [(table + 4, base.image[table:table + 4])])
    extent = b'RW 2048 SPARSE "made"'
    for new in (b'RW 0 SPARSE "made"', b'RW 99 SPARSE "made"', b'RW 2048 FLAT "x" 0', b'RW 2048 ZERO', b'RW',
                b'RW 2048 SPARSE', b'RW 2048 SPARSE ""', b'RW -1 SPARSE "made"', b'NO 2048 SPARSE "made"',
                b'RW 1e9 SPARSE "',
                b'RW 2048 VMFS "../c"', b'\0', b'\xff' * 20):
        yield vmdk_text(base, extent, new)
    yield vmdk_text(base, b'parentCID=ffffffff', b'parentCID=00000000')
    yield vmdk_text(base, b'createType="monolithicSparse"', b'createType="monolithicFlat"')
    yield vmdk_text(base, b'createType="monolithicSparse"', b'createType="custom"')
    text = b'# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType="%s"\n%s'
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
        yield Case(base, f"descriptor-{number}", image=(text % (kind, lines)).ljust(1024, b"\n"))
    stream = qemu(folder, "vmdk", "subformat=streamOptimized", "1M", "write -c -P 1 0 64k")
    base = Base("vmdk", "stream", stream, fields("<", VMDK))
    grain = base.get(base.get(base.get(56, "<Q") * 512, "<I") * 512, "<I") * 512
    base.fields += fields("<", f"marker {grain} 8\nmarker-size {grain + 8} 4\nzlib {grain + 12} 4")
    yield from both(base)
    packed = zlib.compress(bytes(64 * MIB), 9)
    yield Case(base, "bomb", [(grain + 8, struct.pack("<I", len(packed)) + packed)])


VDI = """
magic 64 4
version 68 4
header-size 72 4
type 76 4
flags 80 4
map 340 4
data 344 4
sector 360 4
size 368 8
block 376 4
extra 380 4
blocks 384 4
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
        yield Case(base, "small-blocks", [(376, struct.pack("<I", 1)), (384, struct.pack("<I", 3 * MIB))])


VPC_FOOTER = """
magic 0 8
features 8 4
version 12 4
next 16 8
size-first 40 8
size 48 8
cylinders 56 2
heads 58 1
sectors 59 1
type 60 4
checksum 64 4
state 84 1
"""
VPC_HEADER = """
header-magic 512 8
header-next 520 8
table 528 8
header-version 536 4
entries 540 4
block 544 4
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
    parent = [(60, struct.pack(">I", 4)), (512 + 64, "../canary/backing".encode("utf-16-be"))]
    yield Case(base, "parent", parent)
    name = "../canary/backing".encode("utf-16-le")
    locator = struct.pack(">4sIIIQ", b"W2ru", 512, len(name), 0, len(image))
    yield Case(base, "parent-locator", parent + [(1088, locator), (len(image), name.ljust(1024, b"\0"))])
    image = qemu(folder, "vpc", "force_size=on,subformat=fixed", "1M")
    shift = [(f"end-{name}", at + len(image) - 512, kind) for name, at, kind in fields(">", VPC_FOOTER)]
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
    text += f"regions {at + 8} 4\nbat-offset {at + 32} 8\nbat-size {at + 40} 4\nbat-required {at + 44} 4\n"
    text += f"meta-offset {at + 64} 8\nmeta-size {at + 72} 4\nregion-guid {at + 16} 8\n"
    base = Base("vhdx", "dynamic", image, fields("<", "magic 0 8\n" + text), vhdx_mend(image))
    first, second = base.get(at + 32, "<Q"), base.get(at + 64, "<Q")
    bat, meta = (first, second) if image[second:second + 8] == b"metadata" else (second, first)
    rows = f"meta-count {meta + 10} 2\nmeta-magic {meta} 8\n"
    for i in range(5):
        entry = meta + 32 + i * 32
        rows += f"item{i}-offset {entry + 16} 4\nitem{i}-size {entry + 20} 4\nitem{i}-flags {entry + 24} 4\n"
        rows += f"item{i}-value {meta + base.get(entry + 16, '<I')} 4\nitem{i}-guid {entry} 4\n"
    base.fields += fields("<", rows) + entries("bat-", bat, "<", 8, 3)
    # the second region table must not stand in for the first
    for case in both(base):
        if case._patches and at <= case._patches[0][0] < at + 65536:
            case._patches = list(case._patches) + [(case._patches[0][0] + 64 * KIB, case._patches[0][1])]
        yield case
    yield from vhdx_logs(base)
    yield Case(base, "two-blocks-alike", [(bat + 16, image[bat:bat + 8])])
    yield Case(base, "block-is-header", [(bat, struct.pack("<Q", 6))])
    yield Case(base, "block-is-bat", [(bat, struct.pack("<Q", bat | 6))])


QED = """
magic 0 4
cluster 4 4
table 8 4
header 12 4
features 16 8
compatible 24 8
autoclear 32 8
l1-offset 40 8
size 48 8
backing 56 4
backing-size 60 4
"""


def all_qed(folder):
    base = Base("qed", "plain", qemu(folder, "qed", "cluster_size=4k,table_size=2", "1M", "write -P 1 0 8k"),
                fields("<", QED))
    l1 = base.get(40, "<Q")
    l2 = base.get(l1, "<Q")
    base.fields += entries("l1-", l1, "<", 8) + entries("l2-", l2, "<", 8, 3)
    yield from both(base)
    yield Case(base, "l2-is-l1", [(l1, struct.pack("<Q", l1))])
    yield Case(base, "l2-is-itself", [(l2, struct.pack("<Q", l2))])
    yield Case(base, "two-clusters-alike", [(l2 + 8, base.image[l2:l2 + 8])])
    for flags in 1, 5, 2, 3:
        yield Case(base, f"backing-{flags}",
                   [(16, struct.pack("<Q", flags)), (56, struct.pack("<II", 64, 17)), (64, b"../canary/backing")])


PARALLELS = """
magic 0 8
version 16 4
heads 20 4
cylinders 24 4
tracks 28 4
entries 32 4
sectors 36 8
in-use 44 4
data 48 4
flags 52 4
extension 56 8
"""


def all_parallels(folder):
    image = qemu(folder, "parallels", "cluster_size=64k", "1M", "write -P 1 0 4k", "write -P 1 128k 4k")
    base = Base("parallels", "plain", image, fields("<", PARALLELS) + entries("bat", 64, "<", 4, 3))
    yield from both(base)
    yield Case(base, "two-clusters-alike", [(72, base.image[64:68])])
    yield Case(base, "old-magic", [(0, b"WithoutFreeSpace")])
    yield Case(base, "dirty", [(44, struct.pack("<I", 0x746F6E59))])


# --- images made from nothing ---

DISK = (b"some text " * 60 + bytes(700) + bytes(range(256)) * 2).ljust(3072, b"\0") + bytes(6 * KIB)


def all_bochs(_folder):
    text = "magic 0 8\ntype 32 8\nkind 48 8\nversion 64 4\nheader 68 4\ncatalog 72 4\nbitmap 76 4\nextent 80 4\n"
    for name, version, size in ("new", 0x20000, 88), ("old", 0x10000, 84):
        base = Base("bochs", name, samples.bochs(DISK, version, 4096), fields("<", f"{text}size {size} 8"))
        base.fields += entries("catalog-", 512, "<", 4, 3)
        yield from both(base)
        yield Case(base, "two-extents-alike", [(516, base.image[512:516])])
    yield Case(base, "undoable", image=samples.bochs(DISK, kind=b"Undoable"))


def all_cloop(_folder):
    base = Base("cloop", "blocks", samples.cloop(DISK, 1024), fields(">", "magic 0 8\nblock 128 4\nblocks 132 4"))
    base.fields += entries("offset-", 136, ">", 8, 6)
    yield from both(base)
    for size in (64 * KIB, 16 * MIB, 64 * MIB, 64 * MIB + 512, 512 * MIB):
        yield Case(base, f"bomb-{size}", image=samples.cloop(b"x", size) if size <= 64 * MIB else
                   samples.cloop(b"x", 512)[:128] + struct.pack(">II", size, 1) + bytes(4096))
    packed = zlib.compress(bytes(64 * MIB), 9)
    head = base.image[:128] + struct.pack(">IIQQ", 512, 1, 152, 152 + len(packed))
    yield Case(base, "bomb-small-block", image=head + packed)
    yield Case(base, "back", [(136, base.image[144:152] + base.image[136:144])])


def dmg_cases(base):
    """Chunks and property lists as they should not be."""
    def image(table, data=b"x" * 512, text=None):
        text = samples.dmg_list([table]) if text is None else text
        return data + text + samples.dmg_end(0, len(data), len(data), len(text), 1)
    numbers = (0, 1, 2, 1 << 17, 1 << 31, (1 << 32) - 1, 1 << 53, 1 << 54, 1 << 62, (1 << 63) - 1, 1 << 63,
               (1 << 64) - 1)
    kinds = (samples.DMG_ZERO, samples.DMG_RAW, samples.DMG_ZLIB, samples.DMG_LZMA)
    for kind in kinds:
        for place in range(1, 5):
            for number in numbers:
                chunk = [kind, 0, 1, 0, 512]
                chunk[place] = number
                yield Case(base, f"chunk-{kind:#x}-{place}={number:#x}", image=image(samples.dmg_table(0, 0, [chunk])))
    for number in numbers[1:]:
        yield Case(base, f"first={number:#x}", image=image(samples.dmg_table(number, 0, [(1, 0, 1, 0, 512)])))
        yield Case(base, f"begin={number:#x}", image=image(samples.dmg_table(0, number, [(1, 0, 1, 0, 512)])))
        table = bytearray(samples.dmg_table(0, 0, [(1, 0, 1, 0, 512)]))
        struct.pack_into(">I", table, 200, number & 0xFFFFFFFF)
        yield Case(base, f"count={number:#x}", image=image(bytes(table)))
    yield Case(base, "overlap", image=image(samples.dmg_table(0, 0, [(1, 0, 1, 0, 512), (0, 0, 9, 0, 0)])))
    yield Case(base, "gap", image=image(samples.dmg_table(0, 0, [(1, 5, 1, 0, 512)])))
    yield Case(base, "kind", image=image(samples.dmg_table(0, 0, [(77, 0, 1, 0, 512)])))
    for name, pack in ("zlib", zlib.compress), ("bzip2", bz2.compress), ("lzma", lzma.compress):
        for sectors in (1, 131072):
            packed, kind = pack(bytes(64 * MIB)), {"zlib": 5, "bzip2": 6, "lzma": 8}[name] | 1 << 31
            table = samples.dmg_table(0, 0, [(kind, 0, sectors, 0, len(packed))])
            yield Case(base, f"bomb-{name}-{sectors}", image=image(table, packed))
    many = [(samples.DMG_ZERO, i, 1, 0, 0) for i in range(50000)]
    yield Case(base, "many-chunks", image=image(samples.dmg_table(0, 0, many)))
    good = samples.dmg_list([samples.dmg_table(0, 0, [(1, 0, 1, 0, 512)])])
    texts = (b"", b"<", b"<key>", b"<key>resource-fork</key>", b"<key>resource-fork</key><key>blkx</key>",
             b"<" * 100000, b"<!--" * 10000, b"<key>resource-fork</key><key>blkx</key><key>Data</key><data>",
             b"<key>resource-fork</key><key>blkx</key><key>Data</key><data>" + b"A" * 100000,
             b"<key>resource-fork</key><key>blkx</key><key>Data</key><data></data>", good.replace(b"<array>", b"<!--"),
             good.replace(b"</data>", b""), good.replace(b"blkx", b"blky"), good[:len(good) // 2], good * 20,
             b'<!DOCTYPE x [<!ENTITY a "' + b"a" * 999 + b'">]>' + good, b"\0" * 1000, b"\xff" * 1000)
    for number, text in enumerate(texts):
        yield Case(base, f"list-{number}", image=image(b"", text=text))


def all_dmg(_folder):
    image = samples.dmg(DISK, (samples.DMG_ZLIB, samples.DMG_RAW, samples.DMG_ZERO), 3)
    at = len(image) - 512
    text = f"magic {at} 4\nversion {at + 4} 4\nfork {at + 24} 8\nfork-size {at + 32} 8\nlist {at + 216} 8\n"
    base = Base("dmg", "chunks", image, fields(">", f"{text}list-size {at + 224} 8\nsectors {at + 492} 8"))
    yield from both(base, dmg_cases)


LUKS = """
magic 0 4
version 6 2
cipher 8 8
mode 40 8
hash 72 8
payload 104 4
key-size 108 4
iterations 164 4
slot 208 4
slot-iterations 212 4
slot-offset 248 4
slot-stripes 252 4
slot2 256 4
slot2-offset 296 4
slot2-stripes 300 4
"""


def all_luks(folder):
    path = pathlib.Path(folder) / "made"
    path.unlink(missing_ok=True)
    command = ["qemu-img", "create", "-q", "-f", "luks", "--object", f"secret,id=s,data={PASSPHRASE}", "-o",
               "key-secret=s,iter-time=50", path, "64k"]
    for _ in range(5):  # it measures the host, which may be too busy for that
        if not subprocess.run(command, stderr=subprocess.DEVNULL).returncode:
            break
    base = Base("luks", "plain", path.read_bytes(), fields(">", LUKS))
    yield from both(base)
    for at, size in (8, 32), (40, 32), (72, 32), (168, 40):
        yield Case(base, f"unended-{at}", [(at, b"x" * size)])


FORMATS = {name.removeprefix("all_"): make for name, make in list(globals().items()) if name.startswith("all_")}
