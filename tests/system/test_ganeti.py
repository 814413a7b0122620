#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""A QMP client that nobody here wrote: that of Ganeti, which manages clusters of QEMU guests, from Debian's package.

Only its module for QMP is used, as it is; what it needs of the rest of Ganeti is put in its place here."""

import functools
import importlib.util
import json
import os
import pathlib
import socket
import sys
import tempfile
import types

from guest import Qmp, Skip, tap, until

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))
import private_apt  # noqa: the path comes first

FOLDER = "ganeti-bookworm-1"
MODULE = "usr/share/ganeti/3.0/ganeti/hypervisor/hv_kvm/monitor.py"


@functools.cache
def source():
    """The module's file, fetched once."""
    folder = private_apt.cache_dir() / FOLDER
    if not (folder / "monitor.py").exists():
        try:
            with private_apt.building(folder) as scratch:
                apt = private_apt.PrivateApt(scratch / "apt", "bookworm", "amd64")
                package = apt.download(["ganeti-3.0"])["ganeti-3.0"]
                (scratch / "result").mkdir()
                private_apt.unpack(package, scratch / "tree", ["./" + MODULE])
                os.rename(scratch / "tree" / MODULE, scratch / "result/monitor.py")
        except private_apt.PrivateAptError as why:
            raise Skip(f"Debian's package ganeti-3.0: {why}") from why
    return folder / "monitor.py"


class Error(Exception):
    pass


def fake(name, **members):
    module = types.ModuleType(name)
    vars(module).update(members)
    sys.modules[name] = module
    return module


@functools.cache
def ganeti():
    """Ganeti's module, with what it asks of others."""
    path = source()
    parts = {
        "errors": fake("ganeti.errors", HypervisorError=Error, ProgrammerError=Error, HotplugError=Error),
        "utils": fake("ganeti.utils", ErrnoOrStr=str,
                      SendFds=lambda sock, data, fds: socket.send_fds(sock, [data], fds)),
        "constants": fake("ganeti.constants"),
        "serializer": fake("ganeti.serializer", LoadJson=json.loads,
                           DumpJson=lambda data: json.dumps(data).encode() + b"\n"),
    }
    fake("ganeti", **parts)
    fake("bitarray", bitarray=None)
    spec = importlib.util.spec_from_file_location("ganeti_monitor", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def client(vmm):
    return ganeti().QmpConnection(vmm.address)


def guest():
    ganeti()  # or skip before there is a guest
    vmm = Qmp(listen=True)
    assert vmm.command("qmp_capabilities") == {"return": {}}
    vmm.wait_console(b"ready\n")
    return vmm


def test_it_connects_and_learns_the_commands():
    with guest() as vmm, client(vmm) as qmp:
        assert qmp.version[0] == 0, qmp.version
        assert {"query-status", "getfd", "add-fd"} <= set(qmp.supported_commands)


def test_it_stops_and_continues_the_guest():
    with guest() as vmm, client(vmm) as qmp:
        assert qmp.Execute("query-status")["status"] == "running"
        client(vmm).StopGuestEmulation()  # connects, and leaves again
        vmm.wait_event("STOP")
        assert qmp.Execute("query-status") == {"running": False, "singlestep": False, "status": "paused"}
        client(vmm).ContinueGuestEmulation()
        vmm.wait_event("RESUME")
        assert qmp.Execute("query-status")["running"]


def test_its_errors_are_ours():
    with guest() as vmm, client(vmm) as qmp:
        for command, arguments, words in (("query-rocker", {"name": "x"}, "does not support"),
                                          ("closefd", {"fdname": "none"}, "no descriptor named"),
                                          ("chardev-send-break", None, "'id' is missing")):
            try:
                qmp.Execute(command, arguments)
            except Error as error:
                assert words in str(error), error
            else:
                raise AssertionError(f"{command} succeeded")


def test_it_hands_in_descriptors():
    with guest() as vmm, client(vmm) as qmp, tempfile.TemporaryFile() as file:
        qmp._GetFd(file.fileno(), "tap0")
        qmp.Execute("closefd", {"fdname": "tap0"})
        fdset = qmp._AddFd(file.fileno())
        assert [row["fdset-id"] for row in vmm.command("query-fdsets")["return"]] == [fdset]
        qmp._RemoveFdset(fdset)
        assert vmm.command("query-fdsets")["return"] == []


def test_it_tells_how_a_saving_goes():
    with guest() as vmm, client(vmm) as qmp, tempfile.TemporaryFile() as file:
        status = client(vmm).GetMigrationStatus
        assert status() == {}
        qmp._GetFd(file.fileno(), "state")
        qmp.Execute("migrate", {"uri": "fd:state"})
        until(lambda: status().get("status") == "completed", "the guest is saved")
        assert file.seek(0, os.SEEK_END) > 0
        assert qmp.Execute("query-status")["status"] == "postmigrate"


def test_it_ends_the_guest():
    with guest() as vmm, client(vmm) as qmp:
        qmp.Execute("quit")
        assert vmm.wait_event("SHUTDOWN")["data"]["reason"] == "host-qmp-quit"
        assert vmm.process.wait(15) == 0


tap([value for name, value in sorted(globals().items()) if name.startswith("test_")])
