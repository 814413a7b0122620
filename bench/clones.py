# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""Benchmarks of guests that go on from a moment of another: clones, and starts from a snapshot."""

import contextlib
import json
import pathlib
import re
import time

from guests import own_places, quietly
from images import once
from machines import ROOT, Run, Unavailable, cpu_seconds, family, succeed
from measures import MIB, Best, bench
from table import Row

CLONES, MEGABYTES = 10, 512
READY, QUESTION, ANSWER = "shell is ready", "echo answer $((6 * 7))", "answer 42"
SCRIPT = f"echo {READY}\nexec sh\n"


@contextlib.contextmanager
def booted(context):
    """The program hostel, and the name of a guest of Debian's kernel at its shell, with a disk it has written to."""
    machines = context.machines
    with own_places() as folder:
        script, initrd, disk = (pathlib.Path(folder, name) for name in ("script", "initrd", "disk.img"))
        script.write_text("dd if=/dev/zero of=/dev/vda bs=1M count=16 conv=fsync 2>/dev/null\n" + SCRIPT)
        succeed([ROOT / "tools/debian-guest", "initramfs", initrd, "--script", script, "--modules", "virtio"])
        with open(disk, "wb") as file:
            file.truncate(256 * MIB)
        boot = machines.boot_linux(initrd)
        boot["hostel"] += ["--disk", f"file={disk},format=raw"]
        command = [word for word in machines.hostel(boot, megabytes=MEGABYTES) if word not in ("--console", "stdio")]
        hostel = command[0]
        try:
            once([*command, "--detach", "--name", "base"])
            end = time.monotonic() + 60
            while READY not in once([hostel, "logs", "--console", "base"])[2]:
                if time.monotonic() > end:
                    raise Unavailable("the guest did not come to its shell")
                time.sleep(0.1)
            yield hostel, "base"
        finally:
            names = re.findall(r'"name": "([^"]+)"', once([hostel, "ps", "-a", "-o", "json"])[2])
            quietly([hostel, "rm", "--force", *names])


def proportional(pid):
    """Bytes of memory of a process and all below it; what several share counts in parts."""
    total = 0
    for member in family(pid):
        rollup = pathlib.Path(f"/proc/{member}/smaps_rollup").read_text()
        total += int(re.search(r"^Pss: +(\d+) kB", rollup, re.M)[1]) * 1024
    return total


@bench("clones/ten", "clones/memory", "clones/from_snapshot")
def clones(context):
    """`hostel clone --count 10` of a booted guest with 512 MiB, the memory of each clone right after, and `hostel run
    --from` a snapshot of it until its shell answers"""
    ms, cpu, memory, answer, answer_cpu = Best(), Best(), Best(), Best(), Best()
    with booted(context) as (hostel, name):
        for _ in range(context.rounds):
            seconds, used, _ = once([hostel, "clone", "--count", str(CLONES), name, "clone"])
            ms.see("hostel", seconds * 1e3)
            told = [row for row in json.loads(once([hostel, "ps", "-o", "json"])[2]) if row["name"] != name]
            if len(told) != CLONES:
                raise Unavailable(f"{len(told)} clones run")
            cpu.see("hostel", (used + sum(cpu_seconds(row["supervisor-pid"]) for row in told)) * 1e3)
            memory.see("hostel", max(proportional(row["supervisor-pid"]) for row in told) / MIB)
            once([hostel, "rm", "--force", *(row["name"] for row in told)])
        yield Row("clones/ten", "ms", dict(ms), dict(cpu))
        yield Row("clones/memory", "MiB", dict(memory))
        once([hostel, "snapshot", "create", name, "moment"])
        for _ in range(context.rounds * 3):
            with Run([hostel, "run", "--from", f"{name}/moment", "--rm"]) as run:
                run.send(QUESTION)
                answer.see("hostel", run.wait_for(ANSWER) * 1e3)
                answer_cpu.see("hostel", run.cpu_seconds() * 1e3)
        yield Row("clones/from_snapshot", "ms", dict(answer), dict(answer_cpu))
