#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""The control socket of a VMM, as a QMP client meets it: conversations after QEMU's QMP specification."""

import json
import os
import pathlib
import socket
import struct
import tempfile

from guest import Qmp, tap, until


def ready(*args, **more):
    vmm = Qmp(*args, **more)
    assert vmm.command("qmp_capabilities") == {"return": {}}
    vmm.wait_console(b"ready\n")
    return vmm


def error_class(answer):
    assert set(answer) <= {"error", "id"} and set(answer["error"]) == {"class", "desc"}, answer
    return answer["error"]["class"]


def test_greeting():
    with Qmp() as vmm:
        version = vmm.greeting["QMP"]["version"]
        assert set(version["qemu"]) == {"major", "minor", "micro"} and version["package"].startswith("hostel")
        assert vmm.greeting["QMP"]["capabilities"] == ["oob"]


def test_negotiation_comes_first():
    with Qmp() as vmm:
        assert error_class(vmm.command("query-status")) == "CommandNotFound"
        assert vmm.command("qmp_capabilities") == {"return": {}}
        assert error_class(vmm.command("qmp_capabilities")) == "CommandNotFound"
        assert vmm.command("query-version")["return"] == vmm.greeting["QMP"]["version"]


def test_every_command_listed_exists():
    with ready() as vmm:
        names = [row["name"] for row in vmm.command("query-commands")["return"]]
        assert {"quit", "stop", "cont", "system_reset", "query-status", "query-name", "query-cpus-fast",
                "chardev-send-break"} <= set(names)
        for name in names:
            if name.startswith(("query-", "x-query-")):
                assert "return" in vmm.command(name), name


def test_stop_and_cont():
    with ready() as vmm:
        assert vmm.command("query-status")["return"]["status"] == "running"
        vmm.command("stop")
        assert vmm.wait_event("STOP")["timestamp"]["seconds"] > 0
        assert vmm.command("query-status")["return"] == {"running": False, "singlestep": False, "status": "paused"}
        vmm.console.sendall(b"a")
        vmm.command("stop")  # again: nothing happens
        vmm.command("cont")
        vmm.wait_event("RESUME")
        vmm.wait_console(b"<a>")


def test_counters_stand_still_while_paused():
    with ready() as vmm:
        vmm.command("stop")
        first = vmm.command("x-query-stats")["return"]["instructions"]
        assert first > 0
        again = vmm.command("x-query-stats")["return"]
        assert again["instructions"] == first
        assert again["cpu-ns"] > 0
        assert next(row["count"] for row in again["returns"] if row["name"] == "next") > 0
        assert {row["name"] for row in again["invalidated-by"]} == {"store", "device", "atomic", "longer"}
        assert sum(row["count"] for row in again["invalidated-by"]) == again["invalidations"]


def test_reset():
    with ready() as vmm:
        vmm.command("system_reset")
        assert vmm.wait_event("RESET")["data"] == {"guest": False, "reason": "host-qmp-system-reset"}
        vmm.wait_console(b"ready\n")
        vmm.console.sendall(b"R")
        assert vmm.wait_event("RESET")["data"] == {"guest": True, "reason": "guest-reset"}
        vmm.wait_console(b"ready\n")


def test_reset_while_paused_stays_paused():
    with ready() as vmm:
        vmm.command("stop")
        vmm.command("system_reset")
        assert vmm.command("query-status")["return"]["status"] == "paused"
        vmm.command("cont")
        vmm.wait_console(b"ready\n")


def test_shutdown_by_the_guest():
    for key, code in ((b"P", 0), (b"F", 42)):
        with ready() as vmm:
            vmm.console.sendall(key)
            data = vmm.wait_event("SHUTDOWN")["data"]
            assert data["guest"] and data["x-exit-code"] == code, data
            assert vmm.process.wait(15) == code


def test_quit():
    with ready() as vmm:
        assert vmm.command("quit") == {"return": {}}
        assert vmm.wait_event("SHUTDOWN")["data"]["reason"] == "host-qmp-quit"
        assert vmm.process.wait(15) == 0


def test_break():
    with ready() as vmm:
        assert vmm.command("chardev-send-break", id="console") == {"return": {}}
        vmm.wait_console(b"break\n")
        assert error_class(vmm.command("chardev-send-break", id="other")) == "GenericError"
        assert vmm.command("x-console-resize", size="132x43") == {"return": {}}
        for size in ("132", "132x", "132x43 ", "x43", "70000x1", "1x65536"):
            assert error_class(vmm.command("x-console-resize", size=size)) == "GenericError", size


def test_names_and_cpus():
    with ready("--name", "blue", "--cpus", "3") as vmm:
        assert vmm.command("query-name")["return"] == {"name": "blue"}
        cpus = vmm.command("query-cpus-fast")["return"]
        assert [cpu["cpu-index"] for cpu in cpus] == [0, 1, 2]
        for cpu in cpus:
            with open(f"/proc/{vmm.process.pid}/task/{cpu['thread-id']}/comm", encoding="ascii") as file:
                assert file.read() == f"vcpu{cpu['cpu-index']}\n"


def test_a_name_that_is_no_text():
    with ready("--name", b"x\xff") as vmm:
        assert vmm.command("query-name")["return"] == {"name": "x\ufffd"}


def test_ids_come_back():
    with ready() as vmm:
        for ident in (7, "seven", {"a": [1, None]}, 1.5):
            message = {"execute": "query-status", "id": ident}
            assert vmm.send(json.dumps(message).encode())["id"] == ident
        assert vmm.send(b'{"execute":"nonsense","id":8}\n')["id"] == 8


def test_wrong_messages_change_nothing():
    with ready() as vmm:
        for message in (b"hello\n", b"[]\n", b'{"execute":1}\n', b"{}\n", b'{"execute":"stop","arguments":[]}\n',
                        b'{"execute":"stop","arguments":{"x":1}}\n', b'{"execute":"chardev-send-break"}\n',
                        b'{"execute":"chardev-send-break","arguments":{"id":5}}\n', b'{"execute":"stop","y":1}\n',
                        b'{"execute":"stop",}\n', b'{"execute":"stop","execute":"quit"}\n', b"{]\n", b'{"a\x01":1}\n',
                        b'{"a":' + b"[" * 40 + b"]" * 40 + b"}\n", b'{"a":"' + b"x" * 70000 + b'"}\n'):
            assert error_class(vmm.send(message)) == "GenericError", message
        assert error_class(vmm.command("system_powerdown")) == "DeviceNotActive"
        vmm.command("stop")
        assert "stands still" in vmm.command("system_powerdown")["error"]["desc"]
        vmm.command("cont")
        assert error_class(vmm.command("no-such-command")) == "CommandNotFound"
        assert vmm.command("query-status")["return"]["status"] == "running"


def test_messages_in_pieces_and_in_one():
    with ready() as vmm:
        for byte in b'{"execute": "query-status"}':
            vmm.socket.sendall(bytes([byte]))
        assert vmm.answer()["return"]["running"]
        vmm.socket.sendall(b'{"execute":"query-status","id":1}{"execute":"query-status","id":2}')
        assert [vmm.answer()["id"], vmm.answer()["id"]] == [1, 2]


def test_a_client_that_does_not_read():
    with ready() as vmm:
        count = 20000
        message = b'{"execute":"query-version"}\n'
        vmm.socket.setblocking(False)
        sent = 0
        for _ in range(count):
            try:
                sent += vmm.socket.send(message)
            except BlockingIOError:
                break  # held back, as it should be
        else:
            raise AssertionError("the VMM took commands without end")
        vmm.socket.settimeout(15)
        vmm.socket.sendall(message[sent % len(message):] if sent % len(message) else b"\n")
        for _ in range(-(-sent // len(message))):
            assert "return" in vmm.answer()


def visitor(vmm, **enable):
    client = vmm.visitor()
    assert client.command("qmp_capabilities", **enable) == {"return": {}}
    return client


def test_clients_come_and_go():
    with ready(listen=True) as vmm:
        for _ in range(3):
            with visitor(vmm) as one, visitor(vmm, enable=["oob"]) as two:
                one.command("stop")
                for client in (vmm, one, two):
                    client.wait_event("STOP")
                    assert client.command("query-status")["return"]["status"] == "paused"
                two.command("cont")
                for client in (vmm, one, two):
                    client.wait_event("RESUME")
        assert vmm.command("query-status")["return"]["running"]


def test_too_many_clients_are_told_so():
    with ready(listen=True) as vmm:
        many = [visitor(vmm) for _ in range(31)]
        with socket.socket(socket.AF_UNIX) as late:
            late.connect(vmm.address)
            late.settimeout(15)
            answer = b""
            while data := late.recv(1000):
                answer += data
            assert "32 clients" in json.loads(answer)["error"]["desc"]
        many.pop().socket.close()

        def admitted():  # as soon as the VMM has seen that one left
            with vmm.visitor() as client:
                return "QMP" in client.greeting

        until(admitted, "a place for another client")
        for client in many:
            client.socket.close()


def test_the_parent_matters_more_than_a_visitor():
    with ready(listen=True) as vmm:
        with visitor(vmm):
            vmm.socket.close()
            assert vmm.process.wait(15) == 1


def test_out_of_band():
    with ready(listen=True) as vmm:
        with visitor(vmm, enable=["oob"]) as client:
            assert client.send(b'{"exec-oob": "query-status", "id": 1}')["id"] == 1
            assert error_class(client.send(b'{"exec-oob": "stop", "id": 2}')) == "GenericError"
        assert error_class(vmm.send(b'{"exec-oob": "query-status"}')) == "GenericError"


def test_descriptors():
    with ready() as vmm, tempfile.TemporaryFile() as file:
        def hand_in(name, **arguments):
            message = json.dumps({"execute": name, "arguments": arguments}).encode()
            socket.send_fds(vmm.socket, [message], [file.fileno()])
            return vmm.answer()

        before = len(os.listdir(f"/proc/{vmm.process.pid}/fd"))
        assert hand_in("getfd", fdname="a") == {"return": {}}
        assert hand_in("getfd", fdname="a") == {"return": {}}  # instead of the first
        added = hand_in("add-fd", opaque="word")["return"]
        assert len(os.listdir(f"/proc/{vmm.process.pid}/fd")) == before + 2
        sets = vmm.command("query-fdsets")["return"]
        assert sets == [{"fdset-id": added["fdset-id"], "fds": [{"fd": added["fd"], "opaque": "word"}]}], sets
        assert vmm.command("remove-fd", **{"fdset-id": added["fdset-id"]}) == {"return": {}}
        assert vmm.command("closefd", fdname="a") == {"return": {}}
        assert error_class(vmm.command("closefd", fdname="a")) == "GenericError"
        assert error_class(hand_in("getfd", fdname="7")) == "GenericError"
        assert len(os.listdir(f"/proc/{vmm.process.pid}/fd")) == before


def hand_in(vmm, file, name):
    message = json.dumps({"execute": "getfd", "arguments": {"fdname": name}}).encode()
    socket.send_fds(vmm.socket, [message], [file.fileno()])
    assert vmm.answer() == {"return": {}}


def first_segment(path):
    """(address, bytes) of the first part of a 64-bit ELF file that is loaded."""
    data = pathlib.Path(path).read_bytes()
    at, = struct.unpack_from("<Q", data, 32)
    while struct.unpack_from("<I", data, at)[0] != 1:
        at += struct.unpack_from("<H", data, 54)[0]
    offset, address, _, size = struct.unpack_from("<QQQQ", data, at + 8)
    return address, data[offset:offset + size]


def test_memory_to_a_file():
    address, text = first_segment(os.environ["MONITOR"])
    with ready() as vmm, tempfile.TemporaryFile() as file:
        hand_in(vmm, file, "memory")
        assert vmm.command("pmemsave", val=address, size=len(text), filename="fd:memory") == {"return": {}}
        file.seek(0)
        assert file.read() == text
        for wrong in ({"val": 0xfffffff000, "size": 10}, {"val": address, "size": 1 << 40}, {"val": -1, "size": 1}):
            hand_in(vmm, file, "memory")
            assert error_class(vmm.command("pmemsave", filename="fd:memory", **wrong)) == "GenericError", wrong
        for name in ("/etc/hostname", "fd:nothing", "/dev/fdset/0"):
            assert error_class(vmm.command("pmemsave", val=address, size=1, filename=name)) == "GenericError", name


def test_memory_by_virtual_addresses():
    """Without translation, as in the monitor, they are the physical ones."""
    address, text = first_segment(os.environ["MONITOR"])
    with ready() as vmm, tempfile.TemporaryFile() as file:
        for start, size in ((0, len(text)), (1, 1), (4095, 2)):
            file.truncate(0)
            hand_in(vmm, file, "memory")
            assert vmm.command("memsave", val=address + start, size=size, filename="fd:memory") == {"return": {}}
            data = os.pread(file.fileno(), len(text), 0)
            assert len(data) == size and data.startswith(text[start:start + size])
            file.seek(0)
        for wrong in ({"val": address, "size": 1, "cpu-index": 1}, {"val": address, "size": 1, "cpu-index": -1},
                      {"val": address, "size": 0}, {"val": address, "size": 1 << 40},
                      {"val": 0xfffffff000, "size": 10}):
            hand_in(vmm, file, "memory")
            assert error_class(vmm.command("memsave", filename="fd:memory", **wrong)) == "GenericError", wrong
            vmm.command("closefd", fdname="memory")
        assert vmm.command("query-status")["return"]["running"]


def test_objects():
    balloon = "/machine/peripheral/balloon0"
    with ready() as vmm:
        def ask(command, **arguments):
            return vmm.command(command, **arguments)["return"]

        def names(path):
            return {row["name"]: row["type"] for row in ask("qom-list", path=path)}

        assert names("/") == {"type": "string", "machine": "child<machine>"}
        assert names("/machine") == {"type": "string", "peripheral": "child<container>", "cpu[0]": "child<cpu>"}
        assert names("/machine/peripheral") == {"type": "string", "balloon0": "child<virtio-balloon-device>"}
        assert ask("qom-get", path=ask("query-cpus-fast")[0]["qom-path"], property="type") == "cpu"
        stats = ask("qom-get", path=balloon, property="guest-stats")
        assert stats["last-update"] == 0 and set(stats["stats"].values()) == {-1}
        assert {"stat-free-memory", "stat-total-memory", "stat-available-memory"} <= set(stats["stats"])
        assert ask("qom-get", path=balloon, property="guest-stats-polling-interval") == 0
        assert ask("qom-set", path=balloon, property="guest-stats-polling-interval", value=3) == {}
        assert ask("qom-get", path=balloon, property="guest-stats-polling-interval") == 3
        for value in (-1, "3", 1 << 40, None, 1.5):
            answer = vmm.command("qom-set", path=balloon, property="guest-stats-polling-interval", value=value)
            assert error_class(answer) == "GenericError", value
        assert "read only" in vmm.command("qom-set", path=balloon, property="guest-stats", value=1)["error"]["desc"]
        assert error_class(vmm.command("qom-get", path=balloon, property="x")) == "GenericError"
        for path in ("", "/machine/peripheral/", "/machine/peripheral/x", "/machine/cpu[1]", "/machine/cpu[0]x", "x"):
            assert error_class(vmm.command("qom-list", path=path)) == "DeviceNotFound", path
        assert ask("qom-set", path=balloon, property="guest-stats-polling-interval", value=0) == {}


def test_what_the_machine_is():
    with ready() as vmm:
        assert vmm.command("query-target")["return"] == {"arch": "riscv64"}
        assert vmm.command("query-kvm")["return"]["enabled"] is False
        machines = vmm.command("query-machines")["return"]
        assert [row["name"] for row in machines if row.get("is-default")] == ["riscv-virt"], machines
        assert [row["label"] for row in vmm.command("query-chardev")["return"]] == ["console"]
        assert error_class(vmm.command("inject-nmi")) == "GenericError"


def test_hang_up_ends_the_vmm():
    with ready() as vmm:
        vmm.socket.close()
        assert vmm.process.wait(15) == 1


tap([value for name, value in sorted(globals().items()) if name.startswith("test_")])
