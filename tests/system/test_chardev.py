#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""Character devices of a running guest: the console leads elsewhere, and nothing of what it said is lost or doubled."""

import base64
import contextlib
import os
import socket
import tempfile

from guest import PATIENCE, Qmp, tap, until

LINES = 6000  # that the monitor prints for an L, "line 1" first


@contextlib.contextmanager
def ready(*args):
    with Qmp(*args) as vmm:
        assert vmm.command("qmp_capabilities") == {"return": {}}
        if "--console" not in args:
            vmm.wait_console(b"ready\n")
        yield vmm


def ok(vmm, name, *fds, **arguments):
    answer = vmm.command(name, *fds, **arguments)
    assert "return" in answer, (name, arguments, answer)
    return answer["return"]


def refused(vmm, name, word, **arguments):
    error = vmm.command(name, **arguments)["error"]
    assert error["class"] == "GenericError" and word in error["desc"], error


def kinds(vmm):
    return {row["label"]: row["filename"] for row in ok(vmm, "query-chardev")}


def backend(kind, **data):
    return {"type": kind, "data": data}


def by_socket(name="line", **more):
    return backend("socket", addr={"type": "fd", "data": {"str": name}}, **(more or {"server": False}))


def connect(vmm, **more):
    """The console leads to a new socket, of which we have the other end."""
    ours, theirs = socket.socketpair()
    ours.settimeout(PATIENCE)
    ok(vmm, "getfd", theirs.fileno(), fdname="line")
    theirs.close()
    ok(vmm, "chardev-change", id="console", backend=by_socket(), **more)
    return ours


def hear(line, text):
    seen = b""
    while text not in seen:
        data = line.recv(65536)
        assert data, seen
        seen += data
    return seen


def rest(line):
    """All that comes until the other side closes."""
    seen = b""
    while data := line.recv(65536):
        seen += data
    return seen


def read_all(vmm, device="console", size=1 << 20):
    seen = b""
    while data := base64.b64decode(ok(vmm, "ringbuf-read", device=device, size=size, format="base64")):
        seen += data
    return seen


def wait_ring(vmm, text):
    seen = b""

    def there():
        nonlocal seen
        seen += read_all(vmm)
        return text in seen
    until(there, text)
    return seen


def whole_run():
    with ready() as vmm:
        vmm.console.sendall(b"L")
        return vmm.wait_console(b"end\n")


def test_another_socket():
    with ready() as vmm:
        vmm.console.sendall(b"a")
        vmm.wait_console(b"<a>")
        with connect(vmm) as line:
            assert kinds(vmm) == {"console": "socket"}
            assert vmm.console.recv(1) == b""  # the old descriptor is closed
            line.sendall(b"b")
            assert hear(line, b"<b>") == b"<b>"
            with connect(vmm) as third:
                assert line.recv(1) == b""
                third.sendall(b"c")
                assert hear(third, b"<c>") == b"<c>"
                ok(vmm, "chardev-send-break", id="console")
                assert hear(third, b"break\n") == b"break\n"


def test_callers():
    """A socket that listens: whoever calls is at the console, one after the other; nobody there stops nothing."""
    with tempfile.TemporaryDirectory() as folder, ready() as vmm, socket.socket(socket.AF_UNIX) as listens:
        listens.bind(folder + "/console")
        listens.listen()
        ok(vmm, "getfd", listens.fileno(), fdname="line")
        ok(vmm, "chardev-change", id="console", backend=by_socket(server=True, wait=False))
        ok(vmm, "chardev-send-break", id="console")
        for word in (b"a", b"b"):
            with socket.socket(socket.AF_UNIX) as line:
                line.settimeout(PATIENCE)
                line.connect(folder + "/console")
                line.sendall(word)
                assert b"<" + word + b">" in hear(line, b">")
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(PATIENCE)
            line.connect(folder + "/console")
            line.sendall(b"L")
            line.recv(100)
            ok(vmm, "chardev-change", id="console", backend=backend("null"))
            rest(line)  # comes to an end
            assert kinds(vmm) == {"console": "null"}
        listens.close()
        with socket.socket(socket.AF_UNIX) as line:
            try:
                line.connect(folder + "/console")
            except ConnectionRefusedError:
                return
            raise AssertionError("the old socket still listens")


def test_in_the_middle_of_output():
    """Nobody reads while the guest prints more than the line and the ring take; then the console changes."""
    expected = whole_run()
    assert expected.count(b"\n") >= LINES
    with ready() as vmm:
        vmm.console.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        vmm.console.sendall(b"L")
        seen = vmm.console.recv(1000, socket.MSG_WAITALL)
        lines = [vmm.console]
        for _ in range(5):
            lines.append(connect(vmm))
            seen += rest(lines[-2])
            if b"end\n" not in seen:
                seen += lines[-1].recv(300)
        while b"end\n" not in seen:
            seen += lines[-1].recv(65536)
        assert seen == expected, (len(seen), len(expected))
        lines[-1].sendall(b"z")
        hear(lines[-1], b"<z>")


def test_a_guest_that_prints_without_end():
    with ready() as vmm:
        vmm.console.sendall(b"O")  # without end
        assert vmm.console.recv(10)
        ok(vmm, "chardev-change", id="console", backend=backend("ringbuf", size=4096))
        for _ in range(3):
            until(lambda: ok(vmm, "ringbuf-read", device="console", size=100), "more output")
        ok(vmm, "chardev-change", id="console", backend=backend("null"))
        before = ok(vmm, "x-query-stats")["instructions"]
        until(lambda: ok(vmm, "x-query-stats")["instructions"] > before, "the guest goes on")
        with connect(vmm) as line:
            assert line.recv(100)


def test_memory():
    with ready() as vmm:
        vmm.console.sendall(b"ab")
        vmm.wait_console(b"<b>")
        ok(vmm, "chardev-change", id="console", backend=backend("ringbuf", size=8192))
        with connect(vmm) as line:
            line.sendall(b"q")
            hear(line, b"<q>")
            ok(vmm, "chardev-change", id="console", backend=backend("memory"))
            assert kinds(vmm) == {"console": "memory"}
            ok(vmm, "chardev-send-break", id="console")
            assert wait_ring(vmm, b"break\n") == b"break\n"
            ok(vmm, "system_reset")
            assert wait_ring(vmm, b"ready\n") == b"ready\n"


def test_files():
    with tempfile.TemporaryDirectory() as folder, ready() as vmm:
        path = folder + "/out"
        with open(path, "wb") as file:
            file.write(b"old")
        read, write = os.pipe()
        for fd, number in ((os.open(path, os.O_WRONLY), 1), (read, 2)):
            ok(vmm, "add-fd", fd, **{"fdset-id": number})
            os.close(fd)
        ok(vmm, "chardev-change", id="console",
           backend={"type": "file", "data": {"out": "/dev/fdset/1", "in": "/dev/fdset/2", "append": True}})

        def content():
            with open(path, "rb") as file:
                return file.read()
        os.write(write, b"x")
        until(lambda: content() == b"old<x>", "what was written")
        ok(vmm, "chardev-change", id="console",
           backend={"type": "file", "data": {"out": "/dev/fdset/1", "in": "/dev/fdset/2"}})
        os.write(write, b"y")
        until(lambda: content() == b"<y>", "a file from its beginning")
        refused(vmm, "chardev-change", "is open for writing", id="console",
                backend=backend("file", out="/dev/fdset/2"))
        os.write(write, b"z")
        until(lambda: content() == b"<y><z>", "the old one goes on")
        os.close(write)


def test_without_a_console():
    with ready("--console", "none") as vmm:
        assert kinds(vmm) == {"console": "null"}
        with connect(vmm) as line:
            line.sendall(b"a")
            assert b"<a>" in hear(line, b"<a>")


def test_they_come_and_go():
    with ready() as vmm:
        assert {row["name"] for row in ok(vmm, "query-chardev-backends")} == \
            {"file", "socket", "null", "ringbuf", "memory"}
        for name, kind in (("one", "ringbuf"), ("two", "null")):
            ok(vmm, "chardev-add", id=name, backend=backend(kind))
        assert kinds(vmm) == {"console": "fd", "one": "ringbuf", "two": "null"}
        assert [row["frontend-open"] for row in ok(vmm, "query-chardev")] == [True, False, False]
        ok(vmm, "ringbuf-write", device="one", data="gr\u00fc\u00dfe")
        ok(vmm, "ringbuf-write", device="one", data=base64.b64encode(b"\x00\xff").decode(), format="base64")
        assert ok(vmm, "ringbuf-read", device="one", size=3) == "gr\ufffd"
        assert ok(vmm, "ringbuf-read", device="one", size=4, format="utf8") == "\ufffd\u00dfe"
        assert base64.b64decode(ok(vmm, "ringbuf-read", device="one", size=9, format="base64")) == b"\x00\xff"
        refused(vmm, "ringbuf-read", "no ringbuf", device="two", size=1)
        refused(vmm, "ringbuf-write", "no ringbuf", device="console", data="x")
        ok(vmm, "chardev-change", id="two", backend=backend("ringbuf", size=2))
        ok(vmm, "ringbuf-write", device="two", data="abc")
        assert ok(vmm, "ringbuf-read", device="two", size=100) == "bc"
        refused(vmm, "chardev-remove", "uses", id="console")
        refused(vmm, "chardev-remove", "there is no", id="three")
        ok(vmm, "chardev-remove", id="one")
        refused(vmm, "chardev-remove", "there is no", id="one")
        assert kinds(vmm) == {"console": "fd", "two": "ringbuf"}
        for i in range(15):
            ok(vmm, "chardev-add", id=f"c{i}", backend=backend("null"))
        refused(vmm, "chardev-add", "chardev-remove", id="c15", backend=backend("null"))


def test_what_is_wrong_changes_nothing():
    with ready() as vmm, tempfile.TemporaryFile() as file, socket.socket() as listens:
        listens.listen()
        pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        count = len(os.listdir(f"/proc/{vmm.process.pid}/fd"))
        wrong = [(backend(kind), "backend.type") for kind in ("pty", "stdio", "udp", "pipe", "serial", "mux", "vc", "")]
        wrong += [(backend("ringbuf", size=size), "power of two") for size in (0, -1, 3, 1 << 21, 1 << 62, -1 << 63)]
        wrong += [(backend("ringbuf", size=1.5), "size"), (backend("null", size=1), "size"), ({"type": "null"}, "data"),
                  (backend("file"), "out"), (backend("file", out="/etc/passwd"), "getfd"),
                  (backend("file", out="/dev/fdset/9"), "no set"), (backend("file", out="fd:x"), "getfd"),
                  (backend("file", out="fd:reading"), "writing"), (by_socket("x"), "getfd"),
                  (by_socket("file"), "stream socket"), (by_socket("listens"), "listens"),
                  (by_socket("listens", server=True), "wait false"),
                  (by_socket("listens", server=True, wait=True), "wait false"), (by_socket("file", wait=True), "wait"),
                  (by_socket("connected", server=False, wait=False), "wait"),
                  (by_socket("connected", server=True, wait=False), "does not listen"),
                  (by_socket("datagrams"), "stream socket"),
                  (backend("socket", addr={"type": "inet", "data": {"host": "a", "port": "1"}}), "addr.type"),
                  (backend("socket", addr={"type": "fd", "data": {"str": "pair"}}), "server"), ("null", "backend")]
        read, write = os.pipe()
        handed = {"reading": read, "file": file.fileno(), "listens": listens.fileno(), "datagrams": pair[0].fileno(),
                  "connected": vmm.socket.fileno()}
        for change, word in wrong:
            for command, label in (("chardev-change", "console"), ("chardev-add", "new")):
                for name, fd in handed.items():
                    ok(vmm, "getfd", fd, fdname=name)
                refused(vmm, command, word, id=label, backend=change)
        for name in ("", "7", "a b", "\u00e4", "x" * 128, "console"):
            refused(vmm, "chardev-add", "already" if name == "console" else "identifier", id=name,
                    backend=backend("null"))
        refused(vmm, "chardev-change", "there is no", id="new", backend=backend("null"))
        ok(vmm, "chardev-add", id="ring", backend=backend("ringbuf"))
        for data in ("a", "abc", "ab=c", "ab c", "====", "a===", "\u00e4\u00e4", "abc\n"):
            refused(vmm, "ringbuf-write", "base64", device="ring", data=data, format="base64")
        for size in (0, -1, -1 << 63):
            refused(vmm, "ringbuf-read", "size", device="ring", size=size)
        assert ok(vmm, "ringbuf-read", device="ring", size=(1 << 63) - 1) == ""
        ok(vmm, "chardev-remove", id="ring")
        assert kinds(vmm) == {"console": "fd"}
        for name in handed:
            vmm.command("closefd", fdname=name)
        assert len(os.listdir(f"/proc/{vmm.process.pid}/fd")) == count
        vmm.console.sendall(b"a")
        assert vmm.wait_console(b"<a>") == b"<a>"
        for end in pair:
            end.close()
        os.close(read)
        os.close(write)


tap([value for name, value in sorted(globals().items()) if name.startswith("test_")])
