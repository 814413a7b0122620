# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""Formats that are only read and that no tool at hand writes: bochs, cloop and dmg."""

import bz2
import lzma
import struct
import zlib

import samples
from malformed.case import KIB, MIB, Base, Case, both, entries, fields

DISK = (b"some text " * 60 + bytes(700) + bytes(range(256)) * 2).ljust(3072, b"\0") + bytes(6 * KIB)


def all_bochs(_folder):
    text = "magic 0 8\ntype 32 8\nkind 48 8\nversion 64 4\nheader 68 4\ncatalog 72 4\nbitmap 76 4\n"
    text += "extent 80 4 0x800000\n"
    for name, version, size in ("new", 0x20000, 88), ("old", 0x10000, 84):
        base = Base("bochs", name, samples.bochs(DISK, version, 4096), fields("<", f"{text}size {size} 8"))
        base.fields += entries("catalog-", 512, "<", 4, 3)
        yield from both(base)
        yield Case(base, "two-extents-alike", [(516, base.image[512:516])])
        count = 1 << 22
        most = [(72, struct.pack("<III", count, 2048, 8 << 20)), (size, struct.pack("<Q", count * (8 << 20)))]
        yield Case(base, "largest", [*most, (512, b"\xff" * (4 * count + 512))])
        yield Case(base, "vast", [*most, (512, bytes(4 * count)), (32 * MIB, bytes(512))])
    yield Case(base, "undoable", image=samples.bochs(DISK, kind=b"Undoable"))


def all_cloop(_folder):
    text = "magic 0 8\nblock 128 4 0x4000000\nblocks 132 4"
    base = Base("cloop", "blocks", samples.cloop(DISK, 1024), fields(">", text))
    base.fields += entries("offset-", 136, ">", 8, 6)
    yield from both(base)
    for size in (64 * KIB, 16 * MIB, 64 * MIB, 64 * MIB + 512, 512 * MIB):
        yield Case(base, f"bomb-{size}", image=samples.cloop(b"x", size) if size <= 64 * MIB else
                   samples.cloop(b"x", 512)[:128] + struct.pack(">II", size, 1) + bytes(4096))
    count = 4 << 20
    table = struct.pack(">QQ", 48 * MIB, 48 * MIB) * (count // 2) + struct.pack(">Q", 48 * MIB)
    yield Case(base, "vast", [(128, struct.pack(">II", 512, count)), (136, table), (48 * MIB, bytes(512))])
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
    kinds = (samples.DMG_ZERO, samples.DMG_RAW, samples.DMG_ADC, samples.DMG_ZLIB, samples.DMG_BZIP2,
             samples.DMG_LZFSE, samples.DMG_LZMA)
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
    text = "magic 0 4\nversion 4 4 4\nheader 8 4\nfork 24 8\nfork-size 32 8\nlist 216 8\nlist-size 224 8\nsectors 492 8"
    base = Base("dmg", "chunks", image, fields(">", text, at))
    yield from both(base, dmg_cases)

