#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""Boots: Debian's own riscv64 kernel to user space and back, under every method, with one and two vCPUs.

What the guest computes is compared with what Python computes here. The kernel, busybox and OpenSBI come from
tools/debian-guest; where they cannot be had, the tests skip.
"""

import functools
import gzip
import hashlib
import os
import pathlib
import re

from debian import BOOT, SCRATCH, files, initramfs
from guest import HOSTEL, PATIENCE, RUN, Pipes, Skip, Terminal, hostel, tap

METHODS = ("translation", "emulation")
BANNER = b"Linux version "

# Each line of its output is a claim that check_claims() verifies.
SCRIPT = r"""
echo "machine: $(uname -m)"
echo "cpus: $(nproc)"
grep -m 1 ^isa /proc/cpuinfo
echo "sha256: $(seq 1 20000 | sha256sum)"
echo "packed: $(seq 1 20000 | gzip | gunzip | md5sum)"
echo "float: $(awk 'BEGIN { printf "%.12f", 355 / 113 * 1e4 + 2 / 3 }')"
(sleep 1; echo "job: $(seq 1 1000 | md5sum)" >/tmp/job; exit 5) &
echo "before: $(cat /tmp/job 2>/dev/null)"
wait $!
echo "waited: $?"
cat /tmp/job
cpu=0
while [ $cpu -lt $(nproc) ]; do
    taskset $((1 << cpu)) sh -c "echo \"pinned $cpu: \$(seq $cpu 5000 | md5sum)\" >/tmp/cpu$cpu" &
    cpu=$((cpu + 1))
done
wait
cat /tmp/cpu*
exit 7
"""

# Obeys words from the console.
OBEY = r"""
while echo "obeying" && read word; do
    case $word in
    reboot) reboot -f ;;
    fail) devmem 0x100000 32 $((42 << 16 | 0x3333)) ;;
    crash) echo c >/proc/sysrq-trigger ;;
    off) exit 0 ;;
    esac
done
"""


@functools.cache
def unavailable():
    """The methods that this host cannot run, with the reason."""
    return dict(re.findall(r"^(\w+) .*\(not here: (.*)\)$", hostel("methods").stdout, re.M))


def boot(*more, method="translation", cpus=1, script=OBEY, kernel=None, append="", session=Pipes):
    """Debian's kernel, booting."""
    if method in unavailable():
        raise Skip(unavailable()[method])
    return session("--initrd", initramfs(script) if script else files() / "initramfs.gz",
                   "--kernel", kernel or files() / "kernel", "--append", f"console=ttyS0 {append}",
                   "--method", method, "--cpus", str(cpus), *more,
                   command=[HOSTEL, "run", "--isa", "riscv64", "--memory", "256M"])


def lines(first, last):
    return "".join(f"{i}\n" for i in range(first, last + 1)).encode()


def digest(name, data):
    return f"{hashlib.new(name, data).hexdigest()}  -"


def check_claims(text, cpus):
    """What the script says is true."""
    claims = dict(re.findall(r"^([\w ]+?)\s*: ?(.*)$", text.replace("\r\n", "\n"), re.M))
    expected = {
        "machine": "riscv64",
        "cpus": str(cpus),
        "sha256": digest("sha256", lines(1, 20000)),
        "packed": digest("md5", lines(1, 20000)),
        "float": f"{355 / 113 * 1e4 + 2 / 3:.12f}",
        "before": "",
        "waited": "5",
        "job": digest("md5", lines(1, 1000)),
        **{f"pinned {cpu}": digest("md5", lines(cpu, 5000)) for cpu in range(cpus)},
    }
    for name, value in expected.items():
        assert claims.get(name) == value, (name, claims.get(name), value)
    assert claims["isa"].startswith("rv64imafdc"), claims["isa"]
    for extension in ("zba", "zbb", "zbc", "zbs", "zicbom", "zicboz", "zicond", "sstc", "svinval"):
        assert extension in claims["isa"].split("_"), (extension, claims["isa"])


def runs_script(method, cpus, *more):
    with boot(*more, method=method, cpus=cpus, script=SCRIPT) as guest:
        head = guest.wait_for(BANNER, BOOT)
        text = guest.wait_for(b"script exit status: 7\r\n", BOOT).decode()
        check_claims(text, cpus)
        guest.wait_for(b"reboot: Power down", BOOT)
        assert guest.end(BOOT) == 0
        return head + text.encode()


def reboots(method, cpus):
    with boot(method=method, cpus=cpus, append="quiet") as guest:
        for word in (b"reboot\n", b"reboot\n", b"off\n"):
            guest.wait_for(b"obeying", BOOT)
            guest.send(word)
        guest.wait_for(b"script exit status: 0", BOOT)
        assert guest.end(BOOT) == 0


def opensbi(method, cpus):
    text = runs_script(method, cpus, "--firmware", files() / "opensbi/fw_dynamic.bin")
    assert re.search(rb"OpenSBI v\d+\.\d+", text), text[:500]
    assert re.search(rb"Platform HART Count +: %d\r?\n" % cpus, text), text[:3000]
    assert re.search(rb"SBI implementation ID=0x1 ", text), "the kernel did not find OpenSBI"


def tuned(words):
    """The engine otherwise than usual; in lockstep, with so many blocks compared that most of the kernel's were."""
    with boot("--stats", "--x-tuning", words, script=SCRIPT) as guest:
        check_claims(guest.wait_for(b"script exit status: 7\r\n", BOOT).decode(), 1)
        guest.wait_for(b"reboot: Power down", BOOT)
        if words.startswith("check="):
            text = guest.wait_for(b" blocks compared, all equal", BOOT)
            assert int(re.search(rb"lockstep: (\d+) blocks", text)[1]) > 10000, text
        assert guest.end(BOOT) == 0


def failure_code(method):
    with boot(method=method, append="quiet") as guest:
        guest.wait_for(b"obeying", BOOT)
        guest.send(b"fail\n")
        assert guest.end(BOOT) == 42


def bare_failure_code(method):
    if method in unavailable():
        raise Skip(unavailable()[method])
    with Pipes("--method", method, command=RUN) as guest:
        guest.wait_for(b"ready\n")
        guest.send(b"F")
        assert guest.end() == 42


def test_panic_reboots():
    with boot(append="quiet panic=-1") as guest:
        guest.wait_for(b"obeying", BOOT)
        guest.send(b"crash\n")
        guest.wait_for(b"Kernel panic", BOOT)
        guest.wait_for(b"obeying", BOOT)
        guest.send(b"off\n")
        assert guest.end(BOOT) == 0


def test_compressed_kernel():
    packed = pathlib.Path(SCRATCH.name) / "kernel.gz"
    packed.write_bytes(gzip.compress((files() / "kernel").read_bytes(), 1))
    with boot(kernel=packed) as guest:
        guest.wait_for(BANNER, BOOT)
        guest.wait_for(b"obeying", BOOT)
        guest.send(b"off\n")
        assert guest.end(BOOT) == 0


def test_shell_on_a_terminal():
    with boot(script=None, append="quiet", session=Terminal) as guest:
        guest.wait_for(b"~ # ", BOOT)
        assert guest.is_raw()
        guest.send(b"echo $((6 * 7))\r")
        guest.wait_for(b"\n42\r", BOOT)
        # What prints is the foreground process itself, so that it is the one Ctrl-C finds.
        guest.send(b"sh -c 'echo $((7 * 8)); sleep 1000'\r")
        guest.wait_for(b"\n56\r", BOOT)
        guest.send(b"\x03")  # goes to the guest, and ends its sleep
        guest.wait_for(b"^C", BOOT)
        guest.wait_for(b"~ # ", BOOT)
        guest.send(b"poweroff -f\r")
        assert guest.end(BOOT) == 0
        assert guest.is_restored()


def test_menu_while_linux_runs():
    with boot(script=None, append="quiet", session=Terminal) as guest:
        for _ in range(2):
            guest.wait_for(b"~ # ", BOOT)
            guest.send(b"\x1dr")
        guest.wait_for(b"~ # ", BOOT)
        guest.send(b"\x1dq")
        assert guest.end(BOOT) == 0
        assert guest.is_restored()


def named(name, function, *args):
    test = functools.partial(function, *args)
    test.__name__ = name
    return test


tap([
    *[named(f"{what}, {cpus} vCPU, {method}", function, method, cpus)
      for what, function in (("script", runs_script), ("reboot", reboots), ("OpenSBI", opensbi))
      for method in METHODS for cpus in (1, 2)],
    *[named(f"translation, {words}", tuned, words)
      for words in ("check=10", "check=400,no-jumps", "code=4194304", "counted", "no-pins,no-tlb")],
    *[named(f"{what}, {method}", function, method)
      for what, function in (("failure code of Linux", failure_code), ("failure code of firmware", bare_failure_code))
      for method in METHODS],
    *[value for name, value in sorted(globals().items()) if name.startswith("test_")],
])
