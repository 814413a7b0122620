#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""A guest's memory and registers in a core file: what gdb shows of it, holes, parts, refusals, policies."""

import os
import re
import shutil
import socket
import subprocess
import tempfile

import guest
from guest import Qmp, Skip, hostel, tap

guest.MONITOR = os.environ["REGISTERS"]
RAM = 0x80000000
SCRATCH = tempfile.TemporaryDirectory()


def ready(*args):
    vmm = Qmp(*args)
    vmm.command("qmp_capabilities")
    vmm.wait_console(b"ready\n")
    return vmm


def hand_in(vmm, name, path, flags=os.O_WRONLY | os.O_CREAT):
    """Getfd of a file."""
    fd = os.open(path, flags, 0o600)
    message = f'{{"execute": "getfd", "arguments": {{"fdname": "{name}"}}}}\n'.encode()
    socket.send_fds(vmm.socket, [message], [fd])
    os.close(fd)
    assert vmm.answer() == {"return": {}}


def dump(vmm, path, **more):
    hand_in(vmm, "core", path)
    return vmm.command("dump-guest-memory", paging=False, protocol="fd:core", **more)


def path_of(name):
    return os.path.join(SCRATCH.name, name)


def gdb(core, *commands):
    """What gdb says of a core file, by command."""
    program = shutil.which("gdb-multiarch")
    if not program:
        raise Skip("no gdb-multiarch here")
    ask = [word for command in commands for word in ("-ex", "echo <<<\\n", "-ex", command)]
    done = subprocess.run([program, "-nx", "-batch", "-ex", "set pagination off", "-ex", "set architecture riscv:rv64",
                           "-ex", f"core-file {core}", *ask], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, check=False, timeout=60)  # its status is about memory that is not there
    return [part.strip() for part in done.stdout.split("<<<\n")[1:]]


def registers(text):
    """Of `info registers`: raw values by name."""
    return {m[1]: int(m[2], 16) for m in re.finditer(r"^(\w+) +.*?(0x[0-9a-f]+)", text, re.M)}


def wait_until_spinning(vmm):
    """Both harts have filled their registers when their instructions counted go up and nothing else happens: the
    loop is entered within some thousand of them."""
    def instructions():
        return vmm.command("x-query-stats")["return"]["instructions"]
    first = instructions()
    guest.until(lambda: instructions() > first + 1000000, "the guest's loop")


def test_gdb_shows_registers_and_memory():
    with ready("--cpus", "2") as vmm:
        wait_until_spinning(vmm)
        core = path_of("core")
        assert dump(vmm, core) == {"return": {}}
        assert vmm.command("query-status")["return"]["running"]  # it ran before, and goes on
        threads, first, fp, second, words, far, none = gdb(
            core, "info threads", "thread apply 1 info registers", "info registers fcsr ft0 ft1 ft11",
            "thread apply 2 info registers", f"x/4xw {RAM + (8 << 20):#x}", f"x/3xb {RAM + (12 << 20) + 0x122:#x}",
            f"x/2xg {RAM + (4 << 20):#x}")
        assert len(re.findall(r"(?:LWP|process|Thread) \d+", threads)) >= 2, threads
        names = ("ra sp gp tp t0 t1 t2 fp s1 a0 a1 a2 a3 a4 a5 a6 a7 s2 s3 s4 s5 s6 s7 s8 s9 s10 s11 t3 t4 t5 "
                 "t6").split()
        for hart, text in ((0, first), (1, second)):
            found = registers(text)
            for number, name in enumerate(names, 1):
                expected = number * 0x1111 + (hart << 56 if name != "t0" else 0)
                assert found.get(name) == expected, (hart, name, text)
            assert RAM + 0x200 < found["pc"] < RAM + 0x400, text
        assert "0x0000000055667788" not in words and re.search(
            r"0x55667788\s+0x11223344\s+0x55667789\s+0x11223344", words), words
        assert re.search(r"0x00\s+0x5a\s+0x00", far), far
        assert re.search(r"0x0{16}\s+0x0{16}", none), none
        assert re.search(r"fcsr\s+0x22\b", fp) and re.search(r"ft1 .*raw 0x0*2222\b|ft1 .*0x2222\b", fp), fp


def test_holes():
    with ready() as vmm:
        core = path_of("sparse")
        assert dump(vmm, core) == {"return": {}}
        status = os.stat(core)
        assert status.st_size > 16 << 20 and status.st_blocks * 512 < 1 << 20, status
        # Over what was there before: nothing of it is left.
        with open(core, "wb") as file:
            file.write(b"\xff" * (100 << 20))
        assert dump(vmm, core) == {"return": {}}
        again = os.stat(core)
        assert (again.st_size, again.st_blocks) == (status.st_size, status.st_blocks), again


def test_every_byte():
    """The dump of memory is memory: the firmware's own file lies in it, as the ELF header says where."""
    with ready() as vmm:
        core, flat = path_of("bytes"), path_of("flat")
        assert dump(vmm, core) == {"return": {}}
        gdb(core, f"dump binary memory {flat} {RAM:#x} {RAM + 0x1000:#x}")
        code = path_of("code")
        subprocess.run(["riscv64-linux-gnu-objcopy", "-O", "binary", "--only-section=.text", os.environ["REGISTERS"],
                        code], check=True)
        with open(code, "rb") as one, open(flat, "rb") as other:
            text = one.read()
            assert len(text) > 100 and other.read().startswith(text)


def test_a_part():
    with ready() as vmm:
        core = path_of("part")
        assert dump(vmm, core, begin=RAM + (8 << 20) + 8, length=8) == {"return": {}}
        assert os.stat(core).st_size < 8192
        inside, outside = gdb(core, f"x/1xg {RAM + (8 << 20) + 8:#x}", f"x/1xg {RAM + (8 << 20):#x}")
        assert "0x1122334455667789" in inside, inside
        assert "0x1122334455667788" not in outside, outside
        for wrong in ({"begin": 5}, {"length": 5}, {"begin": 0x50000000, "length": 5}, {"begin": -1, "length": 5},
                      {"begin": RAM, "length": 0}):
            assert "error" in dump(vmm, core, **wrong), wrong
        assert os.stat(core).st_size < 8192  # and the file is as it was


def test_detached():
    with ready() as vmm:
        assert vmm.command("query-dump")["return"] == {"status": "none", "completed": 0, "total": 0}
        assert dump(vmm, path_of("later"), detach=True) == {"return": {}}
        result = vmm.wait_event("DUMP_COMPLETED")["data"]["result"]
        assert result["status"] == "completed" and result["completed"] == result["total"] >= 16 << 20, result
        assert vmm.command("query-dump")["return"] == result
        assert vmm.command("query-dump-guest-memory-capability")["return"] == {"formats": ["elf"]}


def test_paused_stays_paused():
    with ready() as vmm:
        vmm.command("stop")
        assert dump(vmm, path_of("paused")) == {"return": {}}
        assert vmm.command("query-status")["return"]["status"] == "paused"


def test_refusals():
    with ready() as vmm:
        core = path_of("refused")
        for flags in (os.O_RDONLY | os.O_CREAT, os.O_WRONLY | os.O_APPEND):
            hand_in(vmm, "core", core, flags)
            answer = vmm.command("dump-guest-memory", paging=False, protocol="fd:core")
            assert "open" in answer["error"]["desc"], answer
        reader, writer = os.pipe()
        socket.send_fds(vmm.socket, [b'{"execute": "getfd", "arguments": {"fdname": "pipe"}}\n'], [writer])
        vmm.answer()
        assert "regular file" in vmm.command("dump-guest-memory", paging=False,
                                             protocol="fd:pipe")["error"]["desc"]
        os.close(reader)
        os.close(writer)
        assert "paging" in vmm.command("dump-guest-memory", paging=True, protocol="fd:core")["error"]["desc"]
        assert "error" in vmm.command("dump-guest-memory", paging=False, protocol="fd:nobody")
        assert "error" in vmm.command("dump-guest-memory", paging=False, protocol="/etc/passwd")
        assert vmm.command("query-status")["return"]["running"]
        assert vmm.command("query-dump")["return"]["status"] == "none"


def test_command():
    """hostel dump: a new file or none."""
    for variable, folder in (("XDG_DATA_HOME", "data"), ("XDG_RUNTIME_DIR", "run")):
        os.environ[variable] = path_of(folder)
        os.makedirs(path_of(folder), mode=0o700, exist_ok=True)
    core = path_of("named")
    done = hostel("run", "--detach", "--name", "dumped", "--isa", "riscv64", "--memory", "16M", "--firmware",
                  os.environ["REGISTERS"])
    assert done.returncode == 0, done
    try:
        assert hostel("dump", "dumped", core).returncode == 0
        with open(core, "rb") as file:
            assert file.read(4) == b"\x7fELF"
        again = hostel("dump", "dumped", core)
        assert again.returncode == 1 and "give a name that is not there" in again.stderr, again
        assert hostel("dump", "nobody", core + "2").returncode != 0 and not os.path.exists(core + "2")
        hostel("kill", "dumped")
        assert hostel("dump", "dumped", core + "2").returncode != 0 and not os.path.exists(core + "2")
    finally:
        hostel("kill", "dumped")
        hostel("rm", "dumped")


def test_no_room():
    """A full disk: an error, an empty file, and the guest goes on."""
    with ready() as vmm:
        if not os.path.exists("/dev/full"):
            raise Skip("no /dev/full here")
        small = path_of("small")
        os.mkdir(small)
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", small], capture_output=True,
                                 check=False)
        if mounted.returncode:
            raise Skip("a file system of 16 KiB cannot be mounted here")
        try:
            answer = dump(vmm, small + "/core")
            assert "No space left" in answer["error"]["desc"], answer
            assert os.stat(small + "/core").st_size == 0
            assert vmm.command("query-status")["return"]["running"]
            assert vmm.command("query-dump")["return"]["status"] == "failed"
            assert vmm.wait_event("DUMP_COMPLETED")["data"]["error"]
        finally:
            subprocess.run(["umount", small], check=True)


tap([value for name, value in sorted(globals().items()) if name.startswith("test_")])
