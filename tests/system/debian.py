# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""Debian's kernel with devices, for system tests: what tools/debian-guest provides, and a guest that runs a script."""

import functools
import hashlib
import pathlib
import subprocess
import tempfile

from guest import HOSTEL, PATIENCE, Pipes, Skip

DEBIAN_GUEST = pathlib.Path(__file__).resolve().parents[2] / "tools/debian-guest"
BOOT = 8 * PATIENCE  # seconds for a boot on the slowest of hosts; a good one needs three
SCRATCH = tempfile.TemporaryDirectory()


@functools.cache
def files():
    """The folder of Debian's files."""
    done = subprocess.run([DEBIAN_GUEST, "fetch"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Skip(done.stderr.strip().splitlines()[-1])
    return pathlib.Path(done.stdout.strip())


@functools.cache
def initramfs(script, modules=""):
    """An initramfs whose init loads modules, if any, runs a script, tells its exit status and powers off."""
    files()
    name = pathlib.Path(SCRATCH.name) / hashlib.md5((script + modules).encode()).hexdigest()
    source = name.with_suffix(".sh")
    source.write_text(script)
    load = ["--modules", modules] if modules else []
    subprocess.run([DEBIAN_GUEST, "initramfs", name, "--script", source, *load], check=True)
    return name


def boot(script, *more, modules="virtio", cpus=1, memory="256M", before=()):
    """A guest that runs a script, and its console; `before` is put in front of the command."""
    return Pipes("--initrd", initramfs(script, modules), "--kernel", files() / "kernel", "--append",
                 "console=ttyS0 quiet", "--cpus", str(cpus), *more,
                 command=[*before, HOSTEL, "run", "--isa", "riscv64", "--memory", memory])


def run(script, *more, **how):
    """Everything that a guest says from its start to its end; its script must succeed."""
    with boot(script, *more, **how) as guest:
        text = guest.wait_for(b"script exit status: ", BOOT) + guest.wait_for(b"\n", BOOT)
        assert guest.end(BOOT) == 0, guest.seen
        text = text.replace(b"\r\n", b"\n").decode(errors="replace")
        assert text.endswith("status: 0\n"), text
        return text
