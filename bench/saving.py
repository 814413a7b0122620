# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""Benchmarks of saved guests: both systems by QMP, in the same order of steps, files on tmpfs."""

import contextlib
import json
import os
import pathlib
import select
import signal
import socket
import tempfile
import time

from guests import own_places, quietly
from images import TMPFS, once
from machines import READY, TIMEOUT, Unavailable
from measures import MIB, Best, bench
from table import Row

MEGABYTES = 1024


class Guest:
    """A process of one system with a QMP socket and a console that is read; or such a guest that goes on from a file.
    The machine is as small as each system makes it; kernel and initramfs are the same bytes."""

    def __init__(self, context, system, incoming=None, unpack=""):
        self.system, self.buffer, self.seen = system, b"", b""
        self.socket, control = socket.socketpair()
        self.console, their_console = socket.socketpair()
        self.socket.settimeout(TIMEOUT)
        machines = context.machines
        passed = [control.fileno(), their_console.fileno()]
        kernel, initrd = machines.debian / "kernel", machines.initrd()
        more = ["-append" if system == "qemu" else "--append", "console=ttyS0 quiet"]
        if system == "qemu":
            command = [machines.tool("qemu-system-riscv64"), "-M", "virt", "-accel", "tcg", "-m", f"{MEGABYTES}M",
                       "-nodefaults", "-display", "none", "-kernel", str(kernel), "-initrd", str(initrd),
                       "-chardev", f"socket,id=control,fd={passed[0]}", "-mon", "chardev=control,mode=control",
                       "-chardev", f"socket,id=console,fd={passed[1]}", "-serial", "chardev:console"]
        else:
            passed += [os.open(path, os.O_RDONLY) for path in (kernel, initrd)]
            command = [str(machines.hostel_program.with_name("hostel-vmm")), "--isa", "riscv64", "--method",
                       machines.method, "--memory", f"{MEGABYTES}M", "--control", f"fd:{passed[0]}", "--console",
                       f"fd:{passed[1]}", "--kernel", f"fd:{passed[2]}:kernel", "--initrd", f"fd:{passed[3]}:initrd"]
        if unpack:
            more += ["-incoming", f"exec:{unpack} {incoming}"]
        elif incoming:
            passed.append(os.open(incoming, os.O_RDONLY))
            more += (["-incoming", f"fd:{passed[-1]}"] if system == "qemu" else
                     ["--incoming", f"fd:{passed[-1]}:saved"])
        for fd in passed:
            os.set_inheritable(fd, True)
        self.start = time.monotonic()
        self.pid = os.posix_spawn(command[0], command + more, os.environ)
        control.close()
        their_console.close()
        for fd in passed[2:]:
            os.close(fd)
        self.message()
        self.ask("qmp_capabilities")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()
        self.console.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)

    def message(self):
        while b"\n" not in self.buffer:
            chunk = self.socket.recv(65536)
            if not chunk:
                raise Unavailable(f"{self.system} ended")
            self.buffer += chunk
        line, _, self.buffer = self.buffer.partition(b"\n")
        return json.loads(line)

    def ask(self, name, *fds, **arguments):
        socket.send_fds(self.socket, [json.dumps({"execute": name, "arguments": arguments}).encode() + b"\n"], fds)
        while "event" in (answer := self.message()):
            pass
        if "return" not in answer:
            raise Unavailable(f"{self.system} says to {name}: {answer}")
        return answer["return"]

    def wait_status(self, status, command="query-status"):
        """Seconds from its start until it says so."""
        while self.ask(command).get("status") != status:
            if time.monotonic() > self.start + TIMEOUT:
                raise Unavailable(f"{self.system} never said '{status}'")
        return time.monotonic() - self.start

    def wait_for(self, text):
        while text.encode() not in self.seen:
            if not select.select([self.console], [], [], TIMEOUT)[0] or not (chunk := self.console.recv(65536)):
                raise Unavailable(f"'{text}' never came from {self.system}: {self.seen[-200:]!r}")
            self.seen += chunk
        self.seen = self.seen.partition(text.encode())[2]

    def save(self, path):
        """Seconds of saving, beginning with an empty file; the guest stands behind it."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        self.ask("getfd", fd, fdname="file")
        os.close(fd)
        start = time.monotonic()
        if self.system == "qemu":
            self.ask("migrate", uri="fd:file")
            while (told := self.ask("query-migrate")).get("status") != "completed":
                if told.get("status") == "failed":
                    raise Unavailable(f"QEMU cannot save: {told}")
                time.sleep(0.001)
        else:
            self.ask("x-save", fdname="file", fast=True)
        return time.monotonic() - start


def prepare(guest):
    """QEMU may write as fast as it can."""
    if guest.system == "qemu":
        guest.ask("migrate-set-parameters", **{"max-bandwidth": 1 << 40, "downtime-limit": 2000})
    guest.wait_for(READY)


def cpu_seconds(pid):
    """Of all threads of a process, those that have ended too, which both systems save with."""
    return time.clock_gettime(~pid << 3 | 2)  # the process's clock, clock_getcpuclockid(3)


def timed(guest, command):
    start = time.monotonic()
    guest.ask(command)
    return (time.monotonic() - start) * 1e3


@bench("saved/pause", "saved/resume", "saved/save", "saved/size", "saved/restore")
def saved(context):
    """a booted Debian kernel with 1 GiB: paused, resumed, saved, and going on from the file, by QMP"""
    names = ("pause", "resume", "save", "size", "restore")
    best, cpu = {name: Best() for name in names}, {name: Best() for name in names}
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hostel-bench-", dir=TMPFS)))
        guests = {system: stack.enter_context(Guest(context, system)) for system in ("hostel", "qemu")}
        for guest in guests.values():
            prepare(guest)
        for _ in range(context.rounds * 5):
            for system, guest in guests.items():
                best["pause"].see(system, timed(guest, "stop"))
                best["resume"].see(system, timed(guest, "cont"))
        for _ in range(context.rounds * 4):
            for system, guest in guests.items():
                before = cpu_seconds(guest.pid)
                best["save"].see(system, guest.save(folder / system) * 1e3)
                cpu["save"].see(system, (cpu_seconds(guest.pid) - before) * 1e3)
                best["size"].see(system, (folder / system).stat().st_blocks * 512 / MIB)
                guest.ask("cont")
        for _ in range(context.rounds * 3):
            for system in guests:
                with Guest(context, system, incoming=folder / system) as guest:
                    best["restore"].see(system, guest.wait_status("running") * 1e3)
                    cpu["restore"].see(system, cpu_seconds(guest.pid) * 1e3)
    for name in names:
        yield Row(f"saved/{name}", "MiB" if name == "size" else "ms", dict(best[name]), dict(cpu[name]))


def named_guest(context, hostel):
    """A named guest like those above, up to the suite."""
    machines = context.machines
    command = machines.hostel(machines.linux, megabytes=MEGABYTES)
    words = [word for word in command if word not in ("--console", "stdio")]
    once([*words, "--detach", "--name", "base"])
    end = time.monotonic() + TIMEOUT
    while READY not in once([hostel, "logs", "--console", "base"])[2]:
        if time.monotonic() > end:
            raise Unavailable("the guest did not come to the suite")
        time.sleep(0.1)


def save_small(guest, path):
    """Milliseconds of QEMU's way to a small file, which is whole when its process has ended."""
    done = path.with_suffix(".done")
    done.unlink(missing_ok=True)
    start = time.monotonic()
    guest.ask("migrate", uri=f"exec:zstd -1 -T0 -q -f -o {path} && touch {done}")
    while guest.ask("query-migrate").get("status") != "completed" or not done.exists():
        time.sleep(0.001)
    return (time.monotonic() - start) * 1e3


@bench("saved/small", "saved/small_size", "saved/small_restore")
def small(context):
    """the same guest saved to a compressed file by `hostel save --compress` and by QEMU's migrate to `zstd -1 -T0`, and
    going on from there"""
    context.machines.tool("zstd")
    best = {name: Best() for name in ("small", "small_size", "small_restore")}
    hostel = str(context.machines.hostel_program)
    with contextlib.ExitStack() as stack:
        stack.enter_context(own_places())
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hostel-bench-", dir=TMPFS)))
        stack.callback(lambda: quietly([hostel, "rm", "--force", "base"]))
        named_guest(context, hostel)
        qemu = stack.enter_context(Guest(context, "qemu"))
        prepare(qemu)
        for _ in range(context.rounds * 2):
            for name, words in (("small", ["save", "--compress", "base", str(folder / "hostel")]),
                                ("small_restore", ["start", "base"])):
                best[name].see("hostel", once([hostel, *words])[0] * 1e3)
            best["small"].see("qemu", save_small(qemu, folder / "qemu"))
            qemu.ask("cont")
            with Guest(context, "qemu", incoming=folder / "qemu", unpack="zstd -dcq") as guest:
                best["small_restore"].see("qemu", guest.wait_status("running") * 1e3)
        for system in ("hostel", "qemu"):
            best["small_size"].see(system, (folder / system).stat().st_size / MIB)
    for name, seen in best.items():
        yield Row(f"saved/{name}", "MiB" if name == "small_size" else "ms", dict(seen))
