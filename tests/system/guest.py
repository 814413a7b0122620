# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""What the system tests share: starting hostel on pipes or on a terminal, waiting with a limit, TAP output."""

import fcntl
import json
import os
import pty
import select
import signal
import socket
import struct
import subprocess
import tempfile
import termios
import time

from qmp_schema import Schema
from tap import Skip, tap  # noqa: for the tests that import them from here

HOSTEL = os.environ["HOSTEL"]
VMM = os.environ["HOSTEL_VMM_PROGRAM"]
MONITOR = os.environ["MONITOR"]
SANITIZED = os.environ.get("SANITIZED") == "1"
RUN = [HOSTEL, "run", "--isa", "riscv64", "--memory", "16M", "--firmware", MONITOR]
if SANITIZED:  # a signal sent by a test is no fault of the program
    os.environ["ASAN_OPTIONS"] = os.environ.get("ASAN_OPTIONS", "") + ":handle_segv=0:handle_abort=0"
PATIENCE = 40 if SANITIZED else 15


def hostel(*args, timeout=PATIENCE, **more):
    """Run hostel to its end on pipes."""
    return subprocess.run([HOSTEL, *args], capture_output=True, text=True, timeout=timeout, **more)


def until(check, what, limit=PATIENCE):
    """Wait until check() is true."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        result = check()
        if result:
            return result
        time.sleep(0.01)
    raise AssertionError(f"not within {limit} s: {what}")


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(word) for word in file.read().split()]


def status_of(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)


def alive(pid):
    try:
        return not status_of(pid)["State"].startswith("Z")
    except (FileNotFoundError, ProcessLookupError):
        return False


class Session:
    """A guest in the foreground; what it says is collected in .seen."""

    def __init__(self, reader, writer, process):
        self.reader, self.writer, self.process = reader, writer, process
        self.seen = b""

    def send(self, data):
        os.write(self.writer, data)

    def wait_for(self, text, limit=PATIENCE):
        """Read until text appears; what was read up to its end is dropped from .seen and returned."""
        end = time.monotonic() + limit
        while text not in self.seen:
            ended = self.process.poll() is not None
            if not self._read(0.1) and (ended or time.monotonic() > end):
                raise AssertionError(f"{text!r} did not come; seen: {self.seen[-300:]!r}")
        head, _, self.seen = self.seen.partition(text)
        return head + text

    def _read(self, limit):
        if not select.select([self.reader], [], [], limit)[0]:
            return False
        try:
            data = os.read(self.reader, 65536)
        except OSError:
            return False
        self.seen += data
        return bool(data)

    def drain(self):
        while self._read(0.2):
            pass
        return self.seen

    def end(self, limit=PATIENCE):
        """Wait for hostel's end, reading along; its exit status, negative for a signal."""
        end = time.monotonic() + limit
        while self.process.poll() is None:
            self._read(0.05)
            if time.monotonic() > end:
                raise AssertionError(f"hostel did not end; seen: {self.seen[-300:]!r}")
        return self.process.returncode

    def vmm(self):
        return until(lambda: children(self.process.pid), "a VMM")[0]

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for fd in {self.reader, self.writer}:
            if fd >= 0:
                os.close(fd)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()


class Pipes(Session):
    """hostel with pipes for standard input and output; standard error goes with the output."""

    def __init__(self, *args, command=RUN):
        in_read, in_write = os.pipe()
        out_read, out_write = os.pipe()
        process = subprocess.Popen([*command, *args], stdin=in_read, stdout=out_write, stderr=out_write,
                                   close_fds=False)
        os.close(in_read)
        os.close(out_write)
        super().__init__(out_read, in_write, process)

    def close_input(self):
        os.close(self.writer)
        self.writer = -1


class Terminal(Session):
    """hostel on a terminal of its own, which is its controlling terminal."""

    def __init__(self, *args, command=RUN, size=(24, 80)):
        master, slave = pty.openpty()
        self.slave = slave
        self.resize(*size)
        self.before = termios.tcgetattr(slave)

        def take_terminal():
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        process = subprocess.Popen([*command, *args], stdin=slave, stdout=slave, stderr=slave,
                                   preexec_fn=take_terminal)
        super().__init__(master, master, process)

    def resize(self, rows, columns):
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def modes(self):
        return termios.tcgetattr(self.slave)

    def is_raw(self):
        return not self.modes()[3] & (termios.ICANON | termios.ECHO | termios.ISIG)

    def is_restored(self):
        return self.modes() == self.before

    def close(self):
        super().close()
        os.close(self.slave)


def file_words(option, fd):
    """An option whose file is handed in."""
    name, _, more = option.partition(" ")
    return (f"--{name}", f"file=fd:{fd}:{name},{more}") if more else (f"--{name}", f"fd:{fd}:{name}")


class Qmp:
    """A client of a VMM started by hand, with its control socket. What the VMM answers and tells is checked against
    the schema that it gives itself."""

    schema = None  # of the program; asked once

    def __init__(self, *args, files=None, memory="16M", listen=False, fds=()):
        """files: options that name a file, each with its path and how it is opened; fds: descriptors that args name."""
        self.socket, theirs = socket.socketpair()
        console, their_console = socket.socketpair()
        self.console = console
        opened = {option: os.open(path, flags) for option, (path, flags) in
                  (files or {"firmware": (MONITOR, os.O_RDONLY)}).items()}
        keep = [theirs.fileno(), their_console.fileno(), *opened.values(), *fds]
        self.address = None  # of the socket for more clients
        if listen:
            self.folder = tempfile.TemporaryDirectory()
            self.address = self.folder.name + "/control"
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(self.address)
            listener.listen(64)
            keep.append(listener.fileno())
            args = ["--control-listen", f"fd:{listener.fileno()}", *args]
        self.process = subprocess.Popen(
            [VMM, "--isa", "riscv64", "--memory", memory, "--control", f"fd:{theirs.fileno()}",
             "--console", f"fd:{their_console.fileno()}",
             *(word for option, fd in opened.items() for word in file_words(option, fd)), *args],
            pass_fds=keep, stderr=subprocess.PIPE)
        theirs.close()
        their_console.close()
        if listen:
            listener.close()
        for fd in opened.values():
            os.close(fd)
        self.console.settimeout(PATIENCE)
        self._begin()

    def _begin(self):
        self.socket.settimeout(PATIENCE)
        self.buffer = b""
        self.events = []
        self.greeting = self.receive()

    def visitor(self):
        """One more client of the same VMM."""
        return Visitor(self.address)

    def receive(self):
        while b"\n" not in self.buffer:
            data = self.socket.recv(65536)
            if not data:
                raise EOFError("the VMM closed the control socket")
            self.buffer += data
        line, _, self.buffer = self.buffer.partition(b"\n")
        message = json.loads(line)
        if "event" in message:
            self.learn().check_event(message)
        return message

    def answer(self):
        """The next message that is no event; events on the way are kept."""
        while True:
            message = self.receive()
            if "event" not in message:
                return message
            self.events.append(message)

    @staticmethod
    def learn():
        """The schema of the program."""
        if not Qmp.schema:
            with Qmp() as vmm:
                vmm.send(b'{"execute": "qmp_capabilities"}')
                Qmp.schema = Schema(vmm.send(b'{"execute": "query-qmp-schema"}')["return"])
        return Qmp.schema

    def send(self, data, *fds):
        socket.send_fds(self.socket, [data], fds)
        return self.answer()

    def command(self, name, *fds, **arguments):
        message = {"execute": name}
        if arguments:
            message["arguments"] = arguments
        answer = self.send(json.dumps(message).encode() + b"\n", *fds)
        if "return" in answer:
            self.learn().check_return(name, answer["return"])
        return answer

    def wait_event(self, name):
        while not any(event["event"] == name for event in self.events):
            message = self.receive()
            assert "event" in message, message
            self.events.append(message)
        event = next(event for event in self.events if event["event"] == name)
        self.events.remove(event)
        return event

    def wait_console(self, text):
        seen = b""
        while text not in seen:
            data = self.console.recv(65536)
            assert data, seen
            seen += data
        return seen

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.socket.close()
        self.console.close()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stderr.close()


class Visitor(Qmp):
    """A client that comes to the listening socket of a VMM."""

    def __init__(self, address):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(address)
        self._begin()

    def __exit__(self, *unused):
        self.socket.close()


def signal_name(number):
    return signal.Signals(number).name
