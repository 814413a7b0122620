#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""image_corpus.py [FORMAT...]: make the first inputs of fuzz/image_FORMAT.c again, in fuzz/corpus/image_FORMAT.

They are images that qemu-img makes and samples that tests make, as small as they can be, in the harness's form: see
fuzz/image.c. What the fuzzer finds joins them by hand.
"""

import pathlib
import random
import struct
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "image"))
import samples  # noqa: E402

KIB, MIB = 1 << 10, 1 << 20
LARGEST = 48 * KIB
# write, zero, discard, flush, compressed, resize, snapshots, check: see write_some()
STEPS = bytes([0x01, 0x14, 0x05, 0x18, 0x1c, 0x20, 0x28, 0x09, 0x2C, 0x04, 0x30, 0x34, 0x24, 0x02, 0x15, 0x1C])
WRITES = ["write -P 1 0 4k", "write -P 2 200k 5k"]

# name: (format, options of its making, size, what qemu-io does)
MADE = {
    "qcow": {"plain": ("", "1M", WRITES), "compressed": ("", "1M", ["write -c -P 7 0 4k", "write -P 1 8k 512"])},
    "qcow2": {
        "plain": ("", "1M", WRITES),
        "small": ("cluster_size=512", "300k", WRITES),
        "version-2": ("compat=0.10,cluster_size=4k", "1M", WRITES),
        "wide": ("cluster_size=1k,refcount_bits=64", "300k", WRITES),
        "bits": ("cluster_size=1k,refcount_bits=1", "300k", WRITES),
        "lazy": ("cluster_size=4k,lazy_refcounts=on", "1M", WRITES),
        "extended": ("cluster_size=16k,extended_l2=on", "1M", WRITES + ["write -z 20k 2k", "discard 4k 8k"]),
        "zlib": ("cluster_size=4k", "1M", ["write -c -P 7 0 4k", "write -c -P 8 8k 4k", "write -P 1 12k 512"]),
        "zstd": ("cluster_size=4k,compression_type=zstd", "1M", ["write -c -P 7 0 4k", "write -c -P 8 8k 4k"]),
        "zeroes": ("cluster_size=4k", "1M", WRITES + ["write -z 0 8k", "discard 200k 4k"]),
    },
    "vmdk": {
        "sparse": ("", "1M", WRITES),
        "stream": ("subformat=streamOptimized", "1M", ["write -c -P 1 0 64k"]),
    },
    "vdi": {"dynamic": ("", "3M", WRITES)},
    "vhdx": {"dynamic": ("block_size=1M", "3M", WRITES), "fixed": ("subformat=fixed,block_size=1M", "2M", WRITES)},
    "vpc": {"dynamic": ("force_size=on", "3M", WRITES), "fixed": ("force_size=on,subformat=fixed", "1M", WRITES)},
    "qed": {"plain": ("cluster_size=4k,table_size=2", "1M", WRITES)},
    "parallels": {"plain": ("cluster_size=4k", "1M", WRITES)},
}


def encode(image, steps=STEPS):
    """What of the image is not zero, in pieces."""
    out, unit = steps + struct.pack("<Q", len(image)), 64
    at = 0
    while at < len(image):
        if not any(image[at:at + unit]):
            at += unit
            continue
        end = at
        while end < len(image) and end - at < 32 * KIB and any(image[end:end + unit]):
            end += unit
        piece = image[at:end].rstrip(b"\0")
        out += struct.pack("<IH", at, len(piece)) + piece
        at = end
    return out


def made(form, options, size, commands):
    """qemu-img's; the contents are as few bytes as matter."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "image"
        more = ["-o", options] if options else []
        subprocess.run(["qemu-img", "create", "-q", "-f", form, *more, path, size], check=True)
        for command in commands:
            subprocess.run(["qemu-io", "-f", form, "-c", command, path], check=True, stdout=subprocess.DEVNULL)
        if form == "qcow2" and not options:
            subprocess.run(["qemu-img", "snapshot", "-c", "first", path], check=True)
            subprocess.run(["qemu-img", "bitmap", "--add", path, "marked"], check=True)
        image = bytearray(path.read_bytes())
    for byte in (1, 2):  # a block of the same bytes says no more than its beginning
        for length in (5 * KIB, 4 * KIB):
            at = image.find(bytes([byte]) * length)
            if at >= 0:
                image[at + 16:at + length] = bytes(length - 16)
    return bytes(image)


def luks():
    """LUKS 1 with a passphrase that takes no time to try; the harness has no passphrase."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "image"
        subprocess.run(["qemu-img", "create", "-q", "-f", "luks", "--object", "secret,id=s,data=fuzz", "-o",
                        "key-secret=s,iter-time=10", path, "1M"], check=True)
        return path.read_bytes()


def overlay(size, base_size, clusters):
    """Of our own format (src/block/format/overlay.c): 4 KiB of some bytes in each of these clusters."""
    count = (size + 4095) // 4096
    data = 4096 + (count + 8 * 4096 - 1) // (8 * 4096) * 4096
    image = bytearray(data + count * 4096)
    struct.pack_into("<8sIIQQQQ", image, 0, b"HOSTELOV", 1, 4096, size, base_size, 4096, data)
    for cluster in clusters:
        image[4096 + cluster // 8] |= 1 << cluster % 8
        image[data + cluster * 4096:data + cluster * 4096 + 16] = bytes([cluster % 255 + 1]) * 16
    return bytes(image)


def kept():
    """All inputs: (format, name, bytes)."""
    for form, kinds in MADE.items():
        for name, (options, size, commands) in kinds.items():
            yield form, name, encode(made(form, options, size, commands))
    yield "luks", "header", encode(luks()[:1024].ljust(4 * MIB, b"\0"))
    disk = (b"some text " * 60 + bytes(700) + random.Random(1).randbytes(300)).ljust(3072, b"\0") + bytes(6 * KIB)
    yield "overlay", "larger", encode(overlay(MIB, 256 * KIB, [0, 10, 63, 64, 255]))
    yield "overlay", "alike", encode(overlay(256 * KIB, 256 * KIB, [1]))
    yield "bochs", "growing", encode(samples.bochs(disk, extent=4096))
    yield "bochs", "version-1", encode(samples.bochs(disk, 0x10000, 512))
    yield "cloop", "blocks", encode(samples.cloop(disk, 1024))
    kinds = (samples.DMG_ZLIB, samples.DMG_RAW, samples.DMG_ZERO, samples.DMG_BZIP2, samples.DMG_LZMA)
    yield "dmg", "methods", encode(samples.dmg(disk, kinds, 3))
    yield "dmg", "fork", encode(samples.dmg(disk, kinds[:2], 4, fork=512))


def main():
    wanted = set(sys.argv[1:])
    for form, name, data in kept():
        if not wanted or form in wanted:
            assert len(data) <= LARGEST, f"{form}/{name}: {len(data)} bytes"
            folder = HERE / "corpus" / f"image_{form}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)


main()
