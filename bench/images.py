# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""Disk images: `hostel image` beside Debian's qemu-img, each command from its start to its end."""

import contextlib
import os
import pathlib
import random
import re
import shutil
import subprocess
import tempfile
import time

from machines import ROOT, Unavailable, older, succeed
from measures import Best, bench
from table import Row

MIB, GIB = 1 << 20, 1 << 30
TMPFS = pathlib.Path("/dev/shm")
FORMATS = ("qcow2", "vmdk", "vhdx", "vpc", "vdi")
TEXT = b"the same lines again and again, as logs and configuration files have them, line %d\n"


class Bench:
    """A folder on tmpfs, a source whose bytes are in the page cache, and both programs."""

    def __init__(self, context, folder):
        self.folder = pathlib.Path(folder)
        self.quick = context.quick
        self.pairs = 2 if context.quick else 7
        self.hostel = [str(context.machines.hostel_program), "image"]
        self.qemu = [context.machines.tool("qemu-img")]
        self.size = 256 * MIB if context.quick else 2 * GIB
        self.peak_program = context.machines.folder / "peak"
        if older(self.peak_program, [ROOT / "bench/peak.c"]):
            succeed([context.machines.tool("gcc"), "-O2", "-static", "-s", "-o", self.peak_program,
                     ROOT / "bench/peak.c"])
        self.source = context.machines.folder / f"source-{self.size // MIB}.raw"
        if not self.source.exists():
            self.write_source()
        with open(self.source, "rb") as file:  # into the page cache
            while file.read(16 * MIB):
                pass

    def write_source(self):
        """A quarter each of random bytes, text that repeats, zeroes that were written, and a hole."""
        quarter, rand = self.size // 4, random.Random(1)
        unfinished = self.source.with_suffix(".new")
        with open(unfinished, "wb") as out:
            for _ in range(quarter // MIB):
                out.write(rand.randbytes(MIB))
            text = b"".join(TEXT % i for i in range(MIB // len(TEXT) + 1))[:MIB]
            for _ in range(quarter // MIB):
                out.write(text)
            for _ in range(quarter // MIB):
                out.write(bytes(MIB))
            out.truncate(self.size)
        unfinished.rename(self.source)

    def commands(self, *args, hostel=(), qemu=()):
        return {"hostel": [*self.hostel, args[0], *hostel, *map(str, args[1:])],
                "qemu": [*self.qemu, args[0], *qemu, *map(str, args[1:])]}


@contextlib.contextmanager
def place(context):
    if shutil.disk_usage(TMPFS).free < 8 * GIB:
        raise Unavailable(f"{TMPFS} has no room for images of 2 GiB")
    with tempfile.TemporaryDirectory(prefix="hostel-bench-", dir=TMPFS) as folder:
        yield Bench(context, folder)


def once(command):
    """(seconds, CPU seconds, what it printed)"""
    with tempfile.TemporaryFile() as out:
        start = time.monotonic()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        text = out.read().decode(errors="replace")
    if status:
        raise Unavailable(f"{' '.join(command)} ended with status {status}: {text[-300:]}")
    return seconds, usage.ru_utime + usage.ru_stime, text


def in_turns(pairs, commands, before=lambda: None):
    """(best seconds, best CPU seconds) of both, taking turns."""
    seconds, cpu = Best(), Best()
    for _ in range(pairs):
        for system, command in commands.items():
            before()
            now, now_cpu, _ = once(command)
            seconds.see(system, now)
            cpu.see(system, now_cpu)
    return dict(seconds), dict(cpu)


def peaks(b, commands, before):
    """The least peaks of resident memory of both, MiB."""
    out, peak = b.folder / "peak", Best()
    for _ in range(b.pairs):
        for system, command in commands.items():
            before()
            once([str(b.peak_program), str(out), *command])
            peak.see(system, int(out.read_text()) / 1024)
    return dict(peak)


def conversion(b, name, out, *args):
    commands = b.commands("convert", *args, out)
    seconds, cpu = in_turns(b.pairs, commands, lambda: out.unlink(missing_ok=True))
    return Row(name, "s", seconds, cpu)


@bench("image/floor")
def floor(context):
    """the host alone: what of the 2 GiB is no zeroes (half of it), written to a new file on tmpfs by one thread"""
    with place(context) as b:
        best, cpu = Best(), Best()
        piece, out = memoryview(random.Random(2).randbytes(MIB)), b.folder / "floor"
        for _ in range(b.pairs):
            out.unlink(missing_ok=True)
            with open(out, "wb", buffering=0) as file:
                start, used = time.monotonic(), time.process_time()
                for _ in range(b.size // 2 // MIB):
                    file.write(piece)
                best.see("native", time.monotonic() - start)
                cpu.see("native", time.process_time() - used)
        yield Row("image/floor", "s", dict(best), dict(cpu))


@bench("image/to_*", "image/from_*")
def convert(context):
    """a raw disk of 2 GiB, a quarter each of random bytes, text, zeroes and holes, to other formats and back"""
    with place(context) as b:
        for form in FORMATS:
            out, back = b.folder / f"disk.{form}", b.folder / "back.raw"
            yield conversion(b, f"image/to_{form}", out, "-f", "raw", "-O", form, b.source)
            once(b.commands("convert", "-f", "raw", "-O", form, b.source, out)["qemu"])
            yield conversion(b, f"image/from_{form}", back, "-f", form, "-O", "raw", out)
            out.unlink()
            back.unlink()
        out, back = b.folder / "small.qcow2", b.folder / "back.raw"
        b.pairs = min(b.pairs, 2)  # half a minute each
        yield conversion(b, "image/to_compressed", out, "-c", "-f", "raw", "-O", "qcow2", b.source)
        b.pairs = 2 if b.quick else 7
        yield conversion(b, "image/from_compressed", back, "-f", "qcow2", "-O", "raw", out)


def small(b, name, commands, before=lambda: None):
    """Rows of a command that takes milliseconds: its time and its memory."""
    seconds, cpu = in_turns(b.pairs * 10, commands, before)
    yield Row(f"image/{name}", "ms", {s: v * 1e3 for s, v in seconds.items()}, {s: v * 1e3 for s, v in cpu.items()})
    yield Row(f"image/{name}_peak", "MiB", peaks(b, commands, before))


@bench("image/info_*", "image/create_*", "image/overlay_*", "image/snapshot_*")
def short(context):
    """commands that take milliseconds, on qcow2 images of 1 GiB and of 1 TiB: their time and their peak of memory"""
    with place(context) as b:
        for size in ("1G", "1T"):
            image, new = b.folder / "disk.qcow2", b.folder / "new.qcow2"
            image.unlink(missing_ok=True)
            once(b.commands("create", "-q", "-f", "qcow2", image, size)["qemu"])
            yield from small(b, f"info_{size}", b.commands("info", "-f", "qcow2", image))
            yield from small(b, f"create_{size}", b.commands("create", "-q", "-f", "qcow2", new, size),
                             lambda: new.unlink(missing_ok=True))
            yield from small(b, f"overlay_{size}",
                             b.commands("create", "-q", "-f", "qcow2", "-b", image, "-F", "qcow2", new),
                             lambda: new.unlink(missing_ok=True))
            yield from small(b, f"snapshot_{size}", b.commands("snapshot", "-c", "one", image, hostel=("-f", "qcow2")),
                             lambda: once([*b.qemu, "snapshot", "-d", "one", str(image)]) if "one" in once(
                                 [*b.qemu, "snapshot", "-l", str(image)])[2] else None)


# What is asked of `bench`: its options, the bytes of an operation, how many of them.
LOADS = {
    "read_4k": (("-s", "4k"), 4096, 200000),
    "write_4k": (("-w", "-s", "4k"), 4096, 200000),
    "read": (("-s", "1M", "-S", "1M"), MIB, 4000),
    "write": (("-w", "-s", "1M", "-S", "1M"), MIB, 2000),
}
STEP_4K = 37 * 4096 + 4096 * 1009  # from one place to the next: all over the disk, since qemu-img knows no random ones


@bench("image/bench_*")
def load(context):
    """reads and writes of a full qcow2 of 1 GiB through the block layer, 16 at once: all over it, and in order"""
    with place(context) as b:
        image = b.folder / "disk.qcow2"
        once([*b.qemu, "create", "-q", "-f", "qcow2", "-o", "preallocation=full", str(image), "1G"])
        for name, (options, size, count) in LOADS.items():
            count = count // 10 if b.quick else count
            step = ("-S", str(STEP_4K)) if size == 4096 else ()
            rate, cpu = Best(max), Best()
            commands = b.commands("bench", "-f", "qcow2", "-t", "writeback", "-d", 16, "-c", count, *options, *step,
                                  image)
            for _ in range(b.pairs):
                for system, command in commands.items():
                    _, seconds, text = once(command)
                    took = float(re.search(r"completed in ([0-9.]+) seconds", text)[1])
                    rate.see(system, count / took if size == 4096 else count * size / took / 1e6)
                    cpu.see(system, seconds)
            yield Row(f"image/bench_{name}", "/s" if size == 4096 else "MB/s", dict(rate), more_is_better=True)
