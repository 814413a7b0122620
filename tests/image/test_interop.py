#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""Images that one side writes and the other reads: Hostel's block layer and Debian's qemu-img and qemu-io.

Random sequences of operations on an image, some by disktool (our block layer) and some by qemu-io, compared with a
flat array of bytes as both sides read it. `SEEDS=500` makes the long run, `SEED=N` begins elsewhere, `ONLY=NAME`
chooses among the kinds below.
"""

import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "system"))
from tap import Skip, tap  # noqa: E402

DISKTOOL = os.environ["DISKTOOL"]
HOSTEL = os.environ["HOSTEL"]
SEEDS = int(os.environ.get("SEEDS", "30"))
FIRST = int(os.environ.get("SEED", "1"))
KIB, MIB = 1 << 10, 1 << 20
LIMIT = 60


class Kind:
    """A format with some options of its creation, and what can be done to it."""

    def __init__(self, name, form, options="", size=3 * MIB + 5 * 512, zero=True, discard=True, compressed=0,
                 grow=False, backing=False, snapshots=False, unit=512):
        self.name, self.form, self.options, self.size = name, form, options, size
        self.zero, self.discard, self.compressed, self.grow = zero, discard, compressed, grow
        self.backing, self.snapshots, self.unit = backing, snapshots, unit


QCOW2 = {"grow": True, "backing": True, "snapshots": True}
KINDS = [
    Kind("qcow2", "qcow2", compressed=65536, **QCOW2),
    Kind("qcow2-v2", "qcow2", "compat=0.10", compressed=65536, **QCOW2),
    Kind("qcow2-512", "qcow2", "cluster_size=512,refcount_bits=64", compressed=512, **QCOW2),
    Kind("qcow2-4k", "qcow2", "cluster_size=4096,refcount_bits=1", compressed=4096, grow=True, backing=True),
    Kind("qcow2-2m", "qcow2", "cluster_size=2M", size=9 * MIB + 512, compressed=2 * MIB, **QCOW2),
    Kind("qcow2-lazy", "qcow2", "lazy_refcounts=on", **QCOW2),
    Kind("qcow2-extended", "qcow2", "extended_l2=on,cluster_size=128k", compressed=131072, **QCOW2),
    Kind("qcow2-zstd", "qcow2", "compression_type=zstd", compressed=65536, **QCOW2),
    Kind("qcow2-metadata", "qcow2", "preallocation=metadata", grow=True, snapshots=True),
    Kind("qcow2-data", "qcow2", "data_file=data.raw", **QCOW2),
    Kind("vmdk", "vmdk", size=5 * MIB + 65536),
    Kind("vmdk-flat", "vmdk", "subformat=monolithicFlat"),
    Kind("vmdk-split", "vmdk", "subformat=twoGbMaxExtentSparse", size=5 * MIB),
    Kind("vmdk-split-flat", "vmdk", "subformat=twoGbMaxExtentFlat"),
    Kind("vdi", "vdi", size=5 * MIB),
    Kind("vdi-static", "vdi", "static=on", size=5 * MIB),
    Kind("vpc", "vpc", "force_size=on", size=5 * MIB),
    Kind("vpc-fixed", "vpc", "force_size=on,subformat=fixed", size=5 * MIB),
    Kind("vhdx", "vhdx", size=20 * MIB),
    Kind("vhdx-1m", "vhdx", "block_size=1M", size=5 * MIB),
    Kind("vhdx-fixed", "vhdx", "subformat=fixed", size=5 * MIB),
    # Over nothing: where QEMU 7.2 writes a part of a zeroed cluster, the rest shows the backing file, to itself, too.
    Kind("qed", "qed", size=3 * MIB + 512),
    Kind("parallels", "parallels", size=5 * MIB),
    Kind("raw", "raw", grow=True),
]


def run(*command, text="", good=(0,)):
    done = subprocess.run(command, input=text.encode(), capture_output=True, timeout=LIMIT)
    if done.returncode not in good:
        raise AssertionError(f"{' '.join(command)}\n{text}\n=> {done.returncode}: {done.stderr.decode()[-2000:]}")
    return done.stdout


class Ours:
    """disktool; a new process for each batch, so that all goes through the image."""

    name = "hostel"

    @staticmethod
    def create(image):
        options = image.options()
        backing = ["-b", image.base.name, "-F", "raw"] if image.base else []
        run(HOSTEL, "image", "create", "-q", "-f", image.kind.form, *options, *backing, str(image.path),
            str(image.kind.size))

    @staticmethod
    def apply(image, batch):
        lines = "".join(" ".join(str(word) for word in operation) + "\n" for operation in batch)
        run(DISKTOOL, image.kind.form, str(image.path), text=lines)

    @staticmethod
    def read(image):
        return run(DISKTOOL, image.kind.form, str(image.path), text="dump\n")


class Theirs:
    """qemu-io, likewise."""

    name = "qemu"

    @staticmethod
    def create(image):
        options = image.options()
        backing = ["-b", image.base.name, "-F", "raw"] if image.base else []
        run("qemu-img", "create", "-q", "-f", image.kind.form, *options, *backing, str(image.path),
            str(image.kind.size))

    @staticmethod
    def command(operation):
        verb, *words = operation
        if verb in ("write", "compressed"):
            return f"write {'-c ' if verb == 'compressed' else ''}-P {words[2]} {words[0]} {words[1]}"
        if verb in ("zero", "unmap"):
            return f"write -z {'-u ' if verb == 'unmap' else ''}{words[0]} {words[1]}"
        return {"discard": "discard {} {}", "flush": "flush", "resize": "truncate {}"}[verb].format(*words)

    @classmethod
    def apply(cls, image, batch):
        commands = []
        for operation in batch:
            if operation[0] in ("snapshot", "revert", "forget"):
                cls.commands(image, commands)
                commands = []
                flag = {"snapshot": "-c", "revert": "-a", "forget": "-d"}[operation[0]]
                run("qemu-img", "snapshot", flag, operation[1], str(image.path))
            else:
                commands += ["-c", cls.command(operation)]
            # QEMU 7.2 goes on packing compressed clusters into one that it has given away meanwhile: its own check
            # then finds a cluster with two owners. A new process forgets where it was.
            if operation[0] == "compressed":
                cls.commands(image, commands)
                commands = []
        cls.commands(image, commands)

    @staticmethod
    def commands(image, commands):
        if not commands:
            return
        out = run("qemu-io", "-f", image.kind.form, *commands, str(image.path)).decode()
        bad = [line for line in out.splitlines() if "failed" in line or "rror" in line]
        assert not bad, bad

    @staticmethod
    def read(image):
        with tempfile.NamedTemporaryFile(dir=image.path.parent) as out:
            run("qemu-img", "convert", "-f", image.kind.form, "-O", "raw", str(image.path), out.name)
            return pathlib.Path(out.name).read_bytes()


class Image:
    """An image and what must be read from it."""

    def __init__(self, kind, folder, rand, maker):
        self.kind, self.rand, self.base = kind, rand, None
        self.path = folder / f"disk.{kind.form}"
        self.bytes = bytearray(kind.size)
        if kind.backing and rand.random() < 0.5:
            self.base = folder / "base.raw"
            content = b"".join(bytes([rand.randrange(256)]) * 4096 for _ in range(kind.size // 8192)) + bytes(512)
            self.base.write_bytes(content)
            self.bytes[:len(content)] = content
        self.saved = {}
        self.fresh = set(range(kind.size // kind.compressed + 1)) if kind.compressed else set()
        maker.create(self)

    def options(self):
        """As given when it is made; QEMU wants a data file's whole path."""
        options = self.kind.options.replace("data.raw", str(self.path.parent / "data.raw"))
        return ["-o", options] if options else []

    def place(self):
        size, unit = len(self.bytes), self.kind.unit
        longest = self.rand.choice([4 * KIB, 70 * KIB, 700 * KIB])
        start = self.rand.randrange(size // unit) * unit
        return start, max(unit, min(self.rand.randrange(longest), size - start) // unit * unit)

    def touch(self, start, length):
        """What compressed writes may not go to any more: a cluster is written compressed only once."""
        if self.kind.compressed:
            self.fresh -= set(range(start // self.kind.compressed, (start + length - 1) // self.kind.compressed + 1))

    def write(self, verb):
        start, length = self.place()
        byte = self.rand.randrange(1, 256) if verb == "write" else 0
        self.touch(start, length)
        self.bytes[start:start + length] = bytes([byte]) * length
        return (verb, start, length, byte) if verb == "write" else (verb, start, length)

    def compressed(self):
        whole = [i for i in self.fresh if (i + 1) * self.kind.compressed <= len(self.bytes)]
        if not whole:
            return self.write("write")
        start, length = self.rand.choice(sorted(whole)) * self.kind.compressed, self.kind.compressed
        byte = self.rand.randrange(256)
        self.touch(start, length)
        self.bytes[start:start + length] = bytes([byte]) * length
        return ("compressed", start, length, byte)

    def snapshot(self):
        if self.saved and self.rand.random() < 0.6:
            name = self.rand.choice(sorted(self.saved))
            self.fresh = set()
            if self.rand.random() < 0.5:
                self.bytes = bytearray(self.saved[name])
                return ("revert", name)
            del self.saved[name]
            return ("forget", name)
        name = f"s{self.rand.randrange(10 ** 6)}"
        self.saved[name] = bytes(self.bytes)
        self.fresh = set()
        return ("snapshot", name)

    def operation(self):
        kind, choices = self.kind, ["write"] * 6 + ["flush"]
        choices += ["zero", "unmap"] if kind.zero else []
        choices += ["compressed"] * 2 if kind.compressed else []
        choices += ["snapshot"] if kind.snapshots and "data_file" not in kind.options else []
        choices += ["resize"] if kind.grow and not self.saved else []
        verb = self.rand.choice(choices)
        if verb == "flush":
            return ("flush",)
        if verb == "compressed":
            return self.compressed()
        if verb == "snapshot":
            return self.snapshot()
        if verb == "resize":
            size = len(self.bytes) + self.rand.randrange(1, 200) * 512
            self.bytes += bytes(size - len(self.bytes))
            return ("resize", size)
        return self.write(verb)

    def compare(self, side):
        got, want = side.read(self), bytes(self.bytes)
        got = got[:len(want)] + bytes(max(0, len(want) - len(got)))
        if got != want:
            at = next(i for i in range(len(want)) if got[i] != want[i])
            raise AssertionError(f"as {side.name} reads it, byte {at} ({at:#x}) is {got[at]}, not {want[at]}")

    def check(self):
        if self.kind.form in ("qcow2", "vdi", "vhdx", "qed", "parallels", "vmdk"):
            run("qemu-img", "check", "-q", "-f", self.kind.form, str(self.path))
            run(HOSTEL, "image", "check", "-q", "-f", self.kind.form, "--follow", str(self.path), good=(0, 63))


def sequence(kind, seed):
    rand = random.Random(f"{kind.name} {seed}")
    folder = pathlib.Path(tempfile.mkdtemp(prefix="hostel-interop-"))
    history = []
    try:
        image = Image(kind, folder, rand, rand.choice([Ours, Theirs]))
        for _ in range(rand.randrange(2, 6)):
            side = rand.choice([Ours, Theirs])
            batch = [image.operation() for _ in range(rand.randrange(1, 15))]
            history.append((side.name, batch))
            side.apply(image, batch)
            image.check()
            image.compare(Ours)
            image.compare(Theirs)
    except Exception as error:
        raise AssertionError(f"{kind.name}, seed {seed}, after {history}") from error
    finally:
        shutil.rmtree(folder)


def kinds():
    wanted = os.environ.get("ONLY")
    return [kind for kind in KINDS if not wanted or wanted in kind.name]


def test_of(kind, seeds):
    def test():
        if not shutil.which("qemu-io"):
            raise Skip("qemu-io is not installed")
        for seed in seeds:
            sequence(kind, seed)
    test.__name__ = f"test_{kind.name}_with_{len(seeds)}_sequences_from_both_sides"
    return test


if __name__ == "__main__":
    # Every kind gets its turn: the seeds are dealt out, not repeated for each.
    chosen = kinds()
    share = max(1, -(-SEEDS // max(1, len(chosen))))
    tap([test_of(kind, range(FIRST, FIRST + share)) for kind in chosen])
