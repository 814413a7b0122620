# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""Images of the formats that no tool at hand writes, made from nothing: bochs, cloop and dmg.

Each function takes the bytes of the disk and gives those of the image.
"""

import base64
import bz2
import lzma
import struct
import zlib

SECTOR = 512
CLOOP_SCRIPT = b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0 && mount -r -t iso9660 /dev/cloop $1\n"
DMG_ZERO, DMG_RAW, DMG_IGNORE = 0, 1, 2
DMG_ADC, DMG_ZLIB, DMG_BZIP2, DMG_LZFSE, DMG_LZMA = range(0x80000004, 0x80000009)
DMG_COMMENT, DMG_END = 0x7FFFFFFE, 0xFFFFFFFF


def pieces(disk, size):
    return [disk[at:at + size] for at in range(0, len(disk), size)]


def bochs(disk, version=0x20000, extent=65536, kind=b"Growing"):
    """A growing disk; sectors and extents of zeroes are left out. The extents lie in the opposite order."""
    parts = pieces(disk, extent)
    bitmap = max(1, extent // SECTOR // 8)
    header = struct.pack("<32s16s16sIIIII", b"Bochs Virtual HD Image", b"Redolog", kind, version, 512, len(parts),
                         bitmap, extent)
    header += struct.pack("<QI", len(disk), 0) if version == 0x10000 else struct.pack("<IQ", 0, len(disk))
    catalog, places = [0xFFFFFFFF] * len(parts), b""
    for index in reversed(range(len(parts))):
        if any(parts[index]):
            sectors = pieces(parts[index].ljust(extent, b"\0"), SECTOR)
            bits = sum(1 << i for i, sector in enumerate(sectors) if any(sector))
            catalog[index] = len(places) // (-(-bitmap // SECTOR) * SECTOR + extent)
            places += bits.to_bytes(bitmap, "little").ljust(-(-bitmap // SECTOR) * SECTOR, b"\0")
            places += b"".join(sectors)
    return header.ljust(512, b"\0") + struct.pack(f"<{len(parts)}I", *catalog) + places


def cloop(disk, block=65536):
    packed = [zlib.compress(part.ljust(block, b"\0")) for part in pieces(disk, block)]
    at, offsets = 136 + (len(packed) + 1) * 8, []
    for part in packed:
        offsets.append(at)
        at += len(part)
    head = CLOOP_SCRIPT.ljust(128, b"\0") + struct.pack(">II", block, len(packed))
    return head + struct.pack(f">{len(packed) + 1}Q", *offsets, at) + b"".join(packed)


PACK = {
    DMG_ZERO: lambda part: b"",
    DMG_IGNORE: lambda part: b"",
    DMG_RAW: bytes,
    DMG_ZLIB: zlib.compress,
    DMG_BZIP2: bz2.compress,
    DMG_LZMA: lzma.compress,
    DMG_LZFSE: lambda part: b"bvx-" + struct.pack("<I", len(part)) + part + b"bvx$",
}


def dmg_table(first, begin, chunks):
    """One table: chunks are (type, sector, sectors, offset, size)."""
    sectors = sum(chunk[2] for chunk in chunks)
    table = struct.pack(">4sIQQQII", b"mish", 1, first, sectors, begin, 0, 0) + bytes(24) + bytes(136)
    table += struct.pack(">I", len(chunks))
    for kind, sector, count, offset, size in chunks:
        table += struct.pack(">IIQQQQ", kind, 0, sector, count, offset, size)
    return table


def dmg_list(tables):
    """The property list."""
    rows = "".join(
        f"<dict><key>Attributes</key><string>0x0050</string><key>Data</key>\n<data>\n\t\t"
        f"{base64.encodebytes(table).decode()}\t\t</data><key>ID</key><string>{i}</string></dict>\n"
        for i, table in enumerate(tables))
    return ('<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE plist PUBLIC "-//Apple Computer//DTD PLIST 1.0//EN" '
            '"http://www.apple.com/DTDs/PropertyList-1.0.dtd">\n<!-- <key>blkx</key> -->\n<plist version="1.0"><dict>'
            f"<key>resource-fork</key><dict><key>blkx</key><array>\n{rows}</array><key>plst</key><array/></dict></dict>"
            "</plist>\n").encode()


def dmg_end(fork, data_size, list_at, list_size, sectors):
    """The trailer."""
    koly = struct.pack(">4sIIIQQQQQII", b"koly", 4, 512, 1, 0, fork, data_size, 0, 0, 1, 1) + bytes(16 + 136)
    koly += struct.pack(">QQ", list_at, list_size) + bytes(120 + 136)
    return (koly + struct.pack(">IQ", 1, sectors)).ljust(512, b"\0")


def dmg(disk, kinds=(DMG_ZLIB, DMG_RAW, DMG_ZERO), chunk=256, fork=0, per_table=5):
    """chunk: sectors. The chunks' kinds go round; zeroes only stand for zeroes."""
    data, tables, chunks, first = bytes(fork), [], [], 0
    parts = pieces(disk, chunk * SECTOR)
    for index, part in enumerate(parts):
        kind = kinds[index % len(kinds)]
        if kind in (DMG_ZERO, DMG_IGNORE) and any(part):
            kind = DMG_RAW
        packed = PACK[kind](part)
        chunks.append((kind, index * chunk - first, len(part) // SECTOR, len(data) - fork, len(packed)))
        data += packed
        if len(chunks) == per_table or index == len(parts) - 1:
            end = chunks[-1][1] + chunks[-1][2]
            chunks.append((DMG_END, end, 0, len(data) - fork, 0))
            tables.append(dmg_table(first, 0, chunks))
            chunks, first = [], first + end
    text = dmg_list(tables)
    return data + text + dmg_end(fork, len(data) - fork, len(data), len(text), len(disk) // SECTOR)
