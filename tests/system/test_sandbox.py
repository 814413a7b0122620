#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""What the kernel says about a running guest's process, thread by thread; and what hostel itself keeps open."""

import os
import re

from guest import SANITIZED, Pipes, Qmp, Skip, children, status_of, tap


def running():
    guest = Pipes("--cpus", "2")
    guest.wait_for(b"ready\n")
    return guest


def thread_status(pid):
    for thread in os.listdir(f"/proc/{pid}/task"):
        yield status_of(f"{pid}/task/{thread}")


def test_every_thread_has_given_up_its_privileges():
    with running() as guest:
        threads = list(thread_status(guest.vmm()))
        assert len(threads) >= 3, "main thread, two vCPUs, workers"
        for status in threads:
            assert status["NoNewPrivs"] == "1", status
            for row in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
                assert int(status[row], 16) == 0, (row, status[row])
            if os.getuid() == 0:
                assert int(status["CapBnd"], 16) == 0, status["CapBnd"]


def test_every_thread_has_the_list_of_system_calls():
    if SANITIZED:
        raise Skip("builds with a sanitizer have no list of system calls")
    with running() as guest:
        for status in thread_status(guest.vmm()):
            assert status["Seccomp"] == "2" and status["Seccomp_filters"] == "1", status


def test_limits():
    with running() as guest:
        with open(f"/proc/{guest.vmm()}/limits", encoding="ascii") as file:
            limits = dict(re.findall(r"^(.+?)  +(\S+)  +\S+", file.read(), re.M))
        assert limits["Max core file size"] == "0", limits
        assert int(limits["Max open files"]) <= 256, limits


def test_no_memory_is_writable_and_executable():
    with running() as guest:
        with open(f"/proc/{guest.vmm()}/maps", encoding="ascii") as file:
            for line in file:
                assert "wx" not in line.split()[1], line


def test_descriptors_are_those_of_the_guest():
    # Something that nobody meant the guest to have: it must not get through.
    secret = os.open("/etc/passwd", os.O_RDONLY)
    os.set_inheritable(secret, True)
    try:
        with running() as guest:
            vmm = guest.vmm()
            names = [os.readlink(f"/proc/{vmm}/fd/{fd}") for fd in os.listdir(f"/proc/{vmm}/fd")]
            for name in names:
                own = re.match(r"/dev/null$|socket:|pipe:|anon_inode:\[(eventfd|timerfd|signalfd)\]|/memfd:", name)
                assert own or name == os.environ["MONITOR"], names
    finally:
        os.close(secret)


def test_no_terminal_and_no_path_in_its_arguments():
    with running() as guest:
        with open(f"/proc/{guest.vmm()}/cmdline", "rb") as file:
            arguments = file.read().split(b"\0")
        assert not [argument for argument in arguments if b"/" in argument], arguments


def test_the_account_agrees():
    with Qmp() as vmm:
        vmm.command("qmp_capabilities")
        account = vmm.command("x-query-sandbox")["return"]
        status = status_of(vmm.process.pid)
        assert account["no-new-privileges"] == (status["NoNewPrivs"] == "1")
        assert account["no-capabilities"] == (int(status["CapEff"], 16) == 0)
        assert account["seccomp"] == (status["Seccomp"] == "2")
        assert account["seccomp"] != SANITIZED
        assert account["state"] in ("full", "reduced")


def test_hostel_has_no_children_left_behind():
    with running() as guest:
        assert len(children(guest.process.pid)) == 1
        guest.send(b"P")
        assert guest.end() == 0


tap([value for name, value in sorted(globals().items()) if name.startswith("test_")])
