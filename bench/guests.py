# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""Benchmarks of commands about guests with a name."""

import contextlib
import os
import pathlib
import re
import subprocess
import tempfile

from images import once
from machines import Unavailable
from measures import MIB, Best, bench
from table import Row

GUESTS = 100


@contextlib.contextmanager
def own_places():
    """An environment in which guests have folders of their own: that of all these."""
    with tempfile.TemporaryDirectory(prefix="hostel-bench-") as folder:
        before = dict(os.environ)
        os.environ.update(XDG_DATA_HOME=f"{folder}/data", XDG_RUNTIME_DIR=f"{folder}/run")
        os.mkdir(f"{folder}/run", 0o700)
        try:
            yield folder
        finally:
            os.environ.clear()
            os.environ.update(before)


@contextlib.contextmanager
def running(context, count):
    """The program hostel, and an environment in which that many guests run, which wait for interrupts."""
    command = context.machines.both(context.machines.bare("idle"), megabytes=16)["hostel"]
    with own_places():
        names = [f"guest-{i}" for i in range(count)]
        try:
            for name in names:
                once([*command, "--detach", "--name", name])
            yield command[0], names
        finally:
            subprocess.run([command[0], "rm", "--force", *names], check=False, stderr=subprocess.DEVNULL)


def best_of(times, command, before=lambda: None):
    """(ms, CPU ms, what it printed last): the best of several."""
    ms, cpu, text = Best(), Best(), ""
    for _ in range(times):
        before()
        seconds, cpu_seconds, text = once(command)
        ms.see("hostel", seconds * 1e3)
        cpu.see("hostel", cpu_seconds * 1e3)
    return dict(ms), dict(cpu), text


def quietly(command):
    subprocess.run(command, check=False, capture_output=True)


@bench("guests/ps", "guests/supervisor")
def listing(context):
    """`hostel ps` with 100 guests that run, from process start to end; and the memory of a guest's supervisor"""
    with running(context, GUESTS) as (hostel, names):
        ms, cpu, text = best_of(context.rounds * 10, [hostel, "ps"])
        if text.count(" running ") != len(names):
            raise Unavailable(f"{len(names)} guests were started, and ps says: {text[-300:]}")
        yield Row("guests/ps", "ms", ms, cpu)
        pids = re.findall(r'"supervisor-pid": (\d+)', once([hostel, "ps", "-o", "json"])[2])
        own = [sum(int(kib) for kib in re.findall(r"^Private_\w+: +(\d+) kB", rollup, re.M)) for rollup in
               (pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in pids)]
        yield Row("guests/supervisor", "MiB", {"hostel": max(own) * 1024 / MIB})


@bench("guests/pause", "guests/resume", "guests/start")
def life(context):
    """`hostel pause` and `hostel resume`, from process start to end, and a start until the guest's process answers"""
    with running(context, 1) as (hostel, (name,)):
        pause, resume = [hostel, "pause", name], [hostel, "resume", name]
        ms, cpu, _ = best_of(context.rounds * 10, pause, lambda: quietly(resume))
        yield Row("guests/pause", "ms", ms, cpu)
        ms, cpu, _ = best_of(context.rounds * 10, resume, lambda: quietly(pause))
        yield Row("guests/resume", "ms", ms, cpu)
        ms, cpu, _ = best_of(context.rounds * 5, [hostel, "start", name], lambda: once([hostel, "kill", name]))
        yield Row("guests/start", "ms", ms)
