# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""Benchmarks of the control socket."""

import contextlib
import glob
import json
import os
import socket
import statistics
import subprocess
import tempfile
import time

from guests import running
from machines import Unavailable
from measures import Best, bench
from table import Row

ROUND_TRIPS = 200


class Qmp:
    """A client that only asks."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(10)
        self.socket.connect(path)
        self.lines = self.socket.makefile()
        self.lines.readline()
        self.ask("qmp_capabilities")

    def ask(self, command):
        self.socket.sendall(json.dumps({"execute": command}).encode() + b"\n")
        while "event" in (answer := json.loads(self.lines.readline())):
            pass
        if "return" not in answer:
            raise Unavailable(f"{command}: {answer['error']['desc']}")
        return answer["return"]


def waiting_for(path):
    end = time.monotonic() + 10
    while not os.path.exists(path):
        if time.monotonic() > end:
            raise Unavailable(f"no socket {path}")
        time.sleep(0.01)
    return path


@contextlib.contextmanager
def qemu_socket(command):
    with tempfile.TemporaryDirectory(prefix="hostel-bench-") as folder:
        path = f"{folder}/qmp"
        with subprocess.Popen([*command, "-qmp", f"unix:{path},server=on,wait=off"], stdin=subprocess.DEVNULL,
                              stdout=subprocess.DEVNULL) as process:
            try:
                yield waiting_for(path)
            finally:
                process.kill()


@contextlib.contextmanager
def hostel_socket(context):
    with running(context, 1) as (_, (name,)):
        yield glob.glob(f"{os.environ['XDG_RUNTIME_DIR']}/hostel/*/{glob.escape(name)}/control")[0]


def round_trips(path):
    """Median ms of a `stop` and a `cont`, each with its answer."""
    qmp, took = Qmp(path), []
    for _ in range(ROUND_TRIPS):
        start = time.perf_counter()
        qmp.ask("stop")
        qmp.ask("cont")
        took.append((time.perf_counter() - start) * 1e3)
    if not qmp.ask("query-status")["running"]:
        raise Unavailable("the guest does not run after `cont`")
    qmp.socket.close()
    return statistics.median(took)


@bench("control/stop_cont")
def stop_cont(context):
    """`stop` and `cont` over the QMP socket of a guest that waits for interrupts, until the second answer"""
    ms = Best()
    command = context.machines.both(context.machines.bare("idle"), megabytes=16)["qemu"]
    with hostel_socket(context) as ours, qemu_socket(command) as theirs:
        for _ in range(context.rounds * 5):
            for system, path in (("hostel", ours), ("qemu", theirs)):
                ms.see(system, round_trips(path))
    yield Row("control/stop_cont", "ms", dict(ms))
