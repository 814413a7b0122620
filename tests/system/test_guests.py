#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""Guests with a name: in the background and in front, from other terminals, through crashes of every process.

What is true of processes is asked of the kernel; what commands say of guests must agree with it.
HOSTEL_KILLS=N sets how often processes are killed at random moments (20).
"""

import fcntl
import json
import os
import pathlib
import random
import signal
import socket
import struct
import subprocess
import tempfile
import time

import debian
from guest import HOSTEL, MONITOR, PATIENCE, SANITIZED, Pipes, Skip, Terminal, alive, children, hostel, tap, until

SCRATCH = tempfile.TemporaryDirectory()
HERE = pathlib.Path(SCRATCH.name)
# Longer than the address of a socket.
RUNTIME = HERE / ("r" * 60) / ("t" * 60)
RUNTIME.mkdir(parents=True, mode=0o700)
os.environ["XDG_DATA_HOME"] = f"{HERE}/data"
os.environ["XDG_RUNTIME_DIR"] = str(RUNTIME)
GUESTS = HERE / "data/hostel/guests"
MACHINE = ["--isa", "riscv64", "--memory", "16M", "--firmware", MONITOR]
FRONT = [HOSTEL, "run", *MACHINE]
F_OFD_GETLK, F_OFD_SETLK = 36, 37
KILLS = int(os.environ.get("HOSTEL_KILLS", "20"))


def good(*args, **more):
    done = hostel(*args, **more)
    assert done.returncode == 0, (args, done)
    return done.stdout


def bad(code, *words, args):
    """hostel refuses with code and says why on one line that holds the words."""
    done = hostel(*args)
    assert done.returncode == code and done.stderr.count("\n") == 1, (args, done)
    for word in words:
        assert word in done.stderr, (word, done.stderr)


def ps(name=None):
    """{name: what ps says}, or of one."""
    rows = {row["name"]: row for row in json.loads(good("ps", "-a", "-o", "json"))}
    return rows[name] if name else rows


def status(name):
    return ps(name)["status"]


def said(name):
    """What the guest has said so far."""
    return good("logs", "--console", name)


def runtime(name):
    found = list(RUNTIME.glob(f"hostel/*/{name}"))
    return found[0] if found else None


def is_locked(name):
    """Has anybody got the guest: does it run, or is it being made?"""
    path = GUESTS / f".{name}.lock"
    if not path.exists():
        return False
    with path.open("rb") as file:
        flock = struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0)
        return struct.unpack("hhqqi4x", fcntl.fcntl(file, F_OFD_GETLK, flock))[0] != fcntl.F_UNLCK


class Guest:
    """A guest in the background that waits for bytes; nothing is left of it in the end."""

    def __init__(self, name, *more, wait=True):
        self.name = name
        assert good("run", "--detach", "--name", name, *MACHINE, *more) == f"{name}\n"
        if wait:
            until(lambda: said(name).endswith("ready\n"), "the guest")

    def send(self, data):
        """To its console, as any program can."""
        path = runtime(self.name)
        folder = os.open(path, os.O_RDONLY)
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(f"/proc/self/fd/{folder}/console")
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
        finally:
            os.close(folder)
        return connection

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        hostel("rm", "--force", self.name)
        assert not (GUESTS / self.name).exists() and runtime(self.name) is None


def nothing_left():
    assert ps() == {}, ps()
    assert list(RUNTIME.glob("hostel/*/*")) == []
    assert [path for path in GUESTS.iterdir() if path.suffix != ".lock"] == []


# --- beginning and end ---


def test_detach():
    start = time.time()
    with Guest("blue") as guest:
        row = ps("blue")
        assert row["status"] == "running" and row["live"] and not row["foreground"], row
        assert row["cpus"] == 1 and row["memory"] == 16 << 20 and row["isa"] == "riscv64", row
        assert start - 1 < row["started"] <= row["since"] < time.time() + 1, row
        vmm, supervisor = row["pid"], row["supervisor-pid"]
        assert vmm in children(supervisor)
        assert os.getsid(supervisor) == supervisor and not os.path.exists(f"/proc/{supervisor}/fd/0/x")
        assert {os.readlink(f"/proc/{supervisor}/fd/{fd}") for fd in (0, 1)} == {"/dev/null"}
        guest.send(b"xP")
        until(lambda: status("blue") == "off", "the end")
        row = ps("blue")
        assert row["exit-code"] == 0 and row["why"] == "it powered off" and not row["live"], row
        assert said("blue") == "ready\n<x>"
        until(lambda: not alive(vmm) and not alive(supervisor), "the end of the processes")
    nothing_left()


def test_a_name_is_made_up():
    names = [good("run", "-d", *MACHINE).strip() for _ in range(2)]
    assert names == ["guest-1", "guest-2"]
    assert good("ps", "-o", "name").split() == names
    good("rm", "-f", *names)
    nothing_left()


def test_nothing_is_held_on_to():
    """A script's lock, say, is free when the script ends, though its guest runs on."""
    reader, writer = os.pipe()
    with open(os.devnull, "rb") as other:
        done = hostel("run", "-d", "--name", "free", "--net", "user", *MACHINE, pass_fds=[writer, other.fileno()])
    assert done.returncode == 0, done
    os.close(writer)
    os.set_blocking(reader, False)
    assert until(lambda: os.read(reader, 1) == b"", "the end of the pipe")
    os.close(reader)
    row = ps("free")
    helpers = set(children(row["supervisor-pid"])) - {row["pid"]}
    assert len(helpers) == 1, helpers
    os.kill(row["supervisor-pid"], signal.SIGKILL)
    until(lambda: not ps("free")["live"], "the end")
    good("start", "free")
    assert not any(alive(pid) for pid in helpers)
    good("rm", "-f", "free")


def test_a_guest_that_cannot_start_leaves_nothing():
    for code, more, word in [(1, ["--kernel", "/nonexistent"], "No such file"), (2, ["--memory", "1M"], "at least"),
                             (2, ["--cpus", "1000"], "1 to"), (2, ["--board", "x"], "no board")]:
        for way in (["--detach"], []):
            bad(code, word, args=["run", *way, "--name", "never", *MACHINE, *more])
    bad(2, "must be letters", args=["run", "--name", "../x", *MACHINE])
    nothing_left()


def test_failure_is_told():
    with Guest("red") as guest:
        guest.send(b"F")
        assert hostel("wait", "red").returncode == 42
        row = ps("red")
        assert row["status"] == "failed" and row["exit-code"] == 42 and row["why"] == "it reported failure", row
        assert good("start", "red") == "red\n"
        assert status("red") == "running"


def test_relative_paths_are_kept():
    with tempfile.TemporaryDirectory() as folder:
        os.symlink(MONITOR, f"{folder}/moni,tor")
        good("run", "-d", "--name", "there", "--isa=riscv64", "--memory", "16M", "--firmware", "moni,tor", "--fw-cfg",
             "name=opt/x,file=moni,,tor", cwd=folder)
        words = json.loads(good("info", "there", "-o", "json"))[0]["options"]
        assert f"--firmware={folder}/moni,tor" in words, words
        assert f"--fw-cfg=name=opt/x,file={folder}/moni,,tor" in words, words
        good("kill", "there")
        good("start", "there", cwd="/")
        good("rm", "-f", "there")


def test_rm_when_it_ends():
    with subprocess.Popen([*FRONT, "--name", "brief", "--rm"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as guest:
        assert guest.stdout.readline() == b"ready\n"
        assert guest.communicate(b"F", timeout=PATIENCE)[0] == b"" and guest.returncode == 42
    nothing_left()


# --- commands ---


def test_pause_and_resume():
    with Guest("tide") as guest:
        good("pause", "tide")
        assert status("tide") == "paused"
        bad(1, "not running but paused", args=["pause", "tide"])
        guest.send(b"x").close()
        before = good("info", "-o", "json", "tide")
        assert json.loads(before)[0]["rates"]["instructions"] == 0
        good("resume", "tide")
        assert status("tide") == "running"
        bad(1, "running already", args=["resume", "tide"])
        until(lambda: said("tide").endswith("<x>"), "the byte")
        good("reset", "tide")
        until(lambda: said("tide").count("ready") == 2, "a reset")


def test_stop_and_kill():
    with Guest("stone"):
        done = hostel("stop", "--timeout", "1", "stone")
        assert done.returncode == 0, done
        assert status("stone") == "off" and ps("stone")["why"] == "it was stopped"
        bad(1, "is not running", "hostel start stone", args=["stop", "stone"])
        bad(1, "is not running", args=["pause", "stone"])
        bad(1, "is not running", args=["console", "stone"])
        good("start", "stone")
        bad(1, "running already", "hostel console stone", args=["start", "stone"])
        bad(1, "in use", args=["run", "--name", "stone", *MACHINE])
        good("kill", "stone")
        row = ps("stone")
        assert row["status"] == "crashed" and row["signal"] == 9 and "signal 9" in row["why"], row
        assert hostel("wait", "stone").returncode == 125


LISTENER = r"""
exec 3</dev/input/event0
echo "listening"
dd bs=24 count=1 <&3 >/dev/null 2>&1
echo "going"
"""


def test_stop_asks_first():
    """Linux hears the power button, which `shutdown` and `stop` press, and powers off by itself."""
    if SANITIZED:
        raise Skip("Linux takes too long under sanitizers")
    linux = ["run", "-d", "--name", "ear", "--isa", "riscv64", "--memory", "256M",
             "--kernel", str(debian.files() / "kernel"), "--append", "console=ttyS0 quiet",
             "--initrd", str(debian.initramfs(LISTENER, "virtio,virtio_input,evdev"))]
    for way in (["stop", "-t", str(debian.BOOT)], ["shutdown"]):
        good(*linux)
        until(lambda: "listening" in said("ear"), "Linux", debian.BOOT)
        assert good(*way, "ear") == ""
        until(lambda: status("ear") == "off", "the end", debian.BOOT)
        assert ps("ear")["why"] == "it powered off" and "going" in said("ear"), ps("ear")
        good("rm", "ear")


def test_wait():
    with Guest("long") as guest:
        with subprocess.Popen([HOSTEL, "wait", "long"], stdout=subprocess.PIPE, text=True) as waiting:
            assert waiting.poll() is None
            guest.send(b"F")
            assert waiting.wait(PATIENCE) == 42 and waiting.stdout.read() == "42\n"


def test_unknown_names():
    with Guest("orange", wait=False):
        for command in ("info", "pause", "resume", "reset", "shutdown", "stop", "kill", "wait", "start", "console",
                        "logs", "rm"):
            bad(2, "no guest 'ornge'", "did you mean orange?", args=[command, "ornge"])
            bad(2, "no guest 'zzz'", "ps -a", args=[command, "zzz"])
            bad(2, "no guest '../x'", args=[command, "../x"])
            bad(2, "which guest?", args=[command])
        bad(2, "no option '-z'", args=["ps", "-z"])
        bad(2, "table|json|name", args=["ps", "-o", "xml"])
        bad(2, "KEY=VALUE", args=["set", "orange", "x"])
        bad(2, "did you mean memory?", args=["set", "orange", "memroy=1G"])
        bad(2, "no key 'name'", args=["set", "orange", "name=x"])


def test_rename():
    with Guest("old") as guest:
        bad(1, "is running", args=["rename", "old", "new"])
        guest.send(b"F")
        hostel("wait", "old")
        bad(2, "must be letters", args=["rename", "old", "../new"])
        good("rename", "old", "new")
        assert list(ps()) == ["new"] and ps("new")["exit-code"] == 42
        with Guest("old", wait=False):
            bad(2, "already", args=["rename", "new", "old"])
        good("start", "new")
        assert status("new") == "running"
        good("rm", "-f", "new")


def test_set():
    with Guest("clay"):
        note = hostel("set", "clay", "memory=24M", "x-tuning=no-pins")
        assert note.returncode == 0 and note.stderr.count("started again") == 2, note
        before = (GUESTS / "clay/definition").read_bytes()
        bad(2, "--memory lots", args=["set", "clay", "cpus=2", "memory=lots"])
        assert (GUESTS / "clay/definition").read_bytes() == before
        assert ps("clay")["memory"] == 16 << 20
        bad(1, "is running", args=["rm", "clay"])
        good("kill", "clay")
        good("start", "clay")
        row = json.loads(good("info", "-o", "json", "clay"))[0]
        assert row["memory"] == 24 << 20 and "--x-tuning=no-pins" in row["options"], row
        good("kill", "clay")
        good("set", "clay", "x-tuning=")
        assert not any("tuning" in word for word in json.loads(good("info", "-o", "json", "clay"))[0]["options"])


def qmp(name, *commands):
    """What a client of the control socket is answered."""
    folder = os.open(runtime(name), os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE)
        connection.connect(f"/proc/self/fd/{folder}/control")
        os.close(folder)
        with connection.makefile("rw") as stream:
            assert "QMP" in json.loads(stream.readline())
            answers = []
            for command in ("qmp_capabilities", *commands):
                stream.write(json.dumps({"execute": command}) + "\n")
                stream.flush()
                answer = {}
                while "return" not in answer and "error" not in answer:
                    answer = json.loads(stream.readline())
                answers.append(answer.get("return"))
            return answers[1:]


def nice_of(pid):
    """The niceness of each thread."""
    return {os.getpriority(os.PRIO_PROCESS, int(task)) for task in os.listdir(f"/proc/{pid}/task")}


def groups_of(pid):
    return {line.rsplit("/", 1)[1] for line in open(f"/proc/{pid}/cgroup", encoding="ascii").read().split()}


def test_rates_of_networks():
    with Guest("wired", "--net", "user", "--net", "user"):
        for word in ("net-in=", "net-out=5"):
            assert good("set", "wired", word) == ""
        for wrong in ("0", "10Q", "10MM", "-1", "x", "99999999999999999999", "9999999999G"):
            bad(2, "10M", args=["set", "wired", f"net-in={wrong}"])
        good("set", "wired", "net-in=2M", "net-out=3k")
        for again in (False, True):  # they are kept
            if again:
                good("kill", "wired")
                good("start", "wired")
            cards = until(lambda: [(card["id"], card["rx-bits"], card["tx-bits"]) for card in qmp(
                "wired", "x-query-net")[0] if card["rx-bits"]], "the rates")
            assert cards == [("net0", 2000000, 3000), ("net1", 2000000, 3000)], cards
        good("set", "wired", "net-in=", "net-out=")
        assert {card["rx-bits"] + card["tx-bits"] for card in qmp("wired", "x-query-net")[0]} == {0}


def test_set_while_it_runs():
    one = min(os.sched_getaffinity(0))
    with Guest("reins"):
        bad(2, "cpu-cap", "from 1 to", args=["set", "reins", "cpu-cap=0"])
        bad(2, "nice", args=["set", "reins", "nice=x"])
        bad(2, "memory-target", args=["set", "reins", "memory-target=8"])
        assert hostel("set", "reins", "nice=5", f"cpu-affinity={one}", "memory-target=8M").stderr == ""
        for again in (False, True):
            if again:
                good("kill", "reins")
                good("start", "reins")
            pid = ps("reins")["pid"]
            cpus, balloon = qmp("reins", "query-cpus-fast", "x-query-balloon-stats")
            assert nice_of(pid) == {5}
            assert [os.sched_getaffinity(cpu["thread-id"]) for cpu in cpus] == [{one}]
            assert balloon["target"] == 8 << 20, balloon
        assert hostel("set", "reins", "cpu-affinity=", "memory-target=").stderr == ""
        assert qmp("reins", "x-query-balloon-stats")[0]["target"] == 16 << 20
        capped = hostel("set", "reins", "cpu-cap=50")
        if capped.returncode:
            assert "control group" in capped.stderr and capped.stderr.count("\n") == 1, capped
            assert "cpu-cap" not in (GUESTS / "reins/definition").read_text()
            print(f"# no cap: {capped.stderr.strip()}")
            return
        group = f"hostel-reins-{pid}"
        assert group in groups_of(pid)
        os.kill(ps("reins")["supervisor-pid"], signal.SIGKILL)
        until(lambda: not ps("reins")["live"], "the end")
        good("start", "reins")
        pid = ps("reins")["pid"]
        assert group not in groups_of(pid) and f"hostel-reins-{pid}" in groups_of(pid)
    assert list(pathlib.Path("/sys/fs/cgroup").glob("**/hostel-reins-*")) == []


def test_info():
    with Guest("glass"):
        row, = json.loads(good("info", "-o", "json", "glass"))
        assert row["sandbox"]["state"] in ("full", "reduced") and row["statistics"]["instructions"] > 0
        assert row["rates"]["instructions"] > 0 and row["rates"]["cpu"] > 0 and row["usage"]["resident-bytes"] > 1 << 20
        text = good("info", "glass")
        for word in ("running", "sandbox", "MiB", "--memory=16M", str(row["pid"])):
            assert word in text, (word, text)
        top = good("top", "--once").splitlines()
        assert len(top) == 2 and top[1].split()[:2] == ["glass", "running"], top
        top, = json.loads(good("top", "--once", "-o", "json", "glass"))
        assert top["rates"]["instructions"] > 0


def test_logs():
    with Guest("ink", "--trace", "vm") as guest:
        assert "guest 'ink' starts" in good("logs", "ink")
        with subprocess.Popen([HOSTEL, "logs", "-c", "-f", "ink"], stdout=subprocess.PIPE, text=True) as following:
            assert following.stdout.readline() == "ready\n"
            guest.send(b"xyP")
            assert following.stdout.read() == "<x><y>"
            assert following.wait(PATIENCE) == 0
        assert "it powered off" in good("logs", "-n", "1", "ink")
        assert "hostel-vmm[vm]" in good("logs", "ink")
        good("start", "ink")
        guest.send(b"L")
        until(lambda: said("ink").endswith("end\n"), "all lines")
        assert good("logs", "-c", "-n2", "ink") == "0000176f\nend\n"


def test_a_journal_is_bounded():
    with Guest("flood", "--console-via", "uart") as guest:
        log = GUESTS / "flood/console.log"
        log.with_name("console.log").write_bytes(b"x" * (4 << 20))
        good("kill", "flood")
        good("start", "flood")
        until(lambda: log.stat().st_size < 1 << 20, "a new journal")
        assert log.with_name("console.log.1").stat().st_size == 4 << 20
        guest.send(b"x")
        until(lambda: said("flood").endswith("ready\n<x>"), "the byte")


# --- the console ---


class View(Pipes):
    """A console, attached to by pipes."""

    def __init__(self, name):
        super().__init__(command=[HOSTEL, "console", name])


def test_several_attach():
    with Guest("talk") as guest:
        with View("talk") as one, View("talk") as two:
            one.send(b"a")
            one.wait_for(b"<a>")
            two.send(b"b")
            two.wait_for(b"<b>")
            one.wait_for(b"<b>")
            one.close_input()
            two.send(b"cF")
            one.wait_for(b"<c>")
            assert one.end() == 42 and two.end() == 42
        assert said("talk").startswith("ready\n<a><b>"), said("talk")
        assert guest.name == "talk"


def test_who_does_not_read_holds_up_nobody():
    with Guest("slow") as guest:
        deaf = guest.send(b"O")
        size = lambda: sum(path.stat().st_size for path in (GUESTS / "slow").glob("console.log*"))
        until(lambda: size() > 1 << 20, "a megabyte", 6 * PATIENCE)
        deaf.settimeout(PATIENCE)
        heard = b""
        while b"bytes were lost here" not in heard:
            heard += deaf.recv(65536)
            assert len(heard) < 1 << 20, len(heard)
        good("kill", "slow")
        deaf.close()


def test_detach_by_the_menu():
    with Front("away") as front:
        assert ps("away")["foreground"]
        front.send(b"x\x1dd")
        front.wait_for(b"detach")
        assert front.end() == 0 and front.is_restored()
        row = ps("away")
        assert row["status"] == "running" and not row["foreground"], row
    with Terminal(command=[HOSTEL, "console", "away"]) as view:
        view.wait_for(b"attached")
        until(view.is_raw, "the terminal")
        view.send(b"y")
        view.wait_for(b"<y>")
        view.send(b"\x1d")
        view.wait_for(b"d: detach")
        view.send(b"d")
        assert view.end() == 0 and view.is_restored()
    assert status("away") == "running"
    with Terminal(command=[HOSTEL, "console", "away"]) as view:
        until(view.is_raw, "the terminal")
        view.send(b"\x1dq")
        assert view.end() == 0 and view.is_restored()
    assert ps("away")["why"] == "it was stopped"
    good("rm", "away")


# --- in front ---


class Front(Terminal):
    """A guest in the foreground, on a terminal, that is up."""

    def __init__(self, name):
        super().__init__("--name", name, command=FRONT)
        self.wait_for(b"ready\r\n")
        until(lambda: name in ps(), "the guest")
        assert self.is_raw()


def test_front_is_one_job():
    with Front("job") as front:
        vmm = ps("job")["pid"]
        front.process.send_signal(signal.SIGTSTP)
        until(lambda: "T" in open(f"/proc/{front.process.pid}/stat", encoding="ascii").read().rsplit(")", 1)[1][:3],
              "a stop")
        assert front.is_restored() and status("job") == "paused"
        front.process.send_signal(signal.SIGCONT)
        until(lambda: status("job") == "running", "going on")
        until(front.is_raw, "the terminal")
        good("pause", "job")
        front.process.send_signal(signal.SIGTSTP)
        until(front.is_restored, "a stop")
        front.process.send_signal(signal.SIGCONT)
        until(front.is_raw, "the terminal")
        assert status("job") == "paused"
        front.process.send_signal(signal.SIGTERM)
        assert front.end() == -signal.SIGTERM and front.is_restored() and not alive(vmm)
    good("rm", "job")
    for letter, code in ((b"P", 0), (b"F", 42)):
        with Pipes("--name", "job", command=FRONT) as front:
            front.wait_for(b"ready\n")
            front.send(letter)
            assert front.end() == code
        assert ps("job")["exit-code"] == code
    good("rm", "job")


def test_front_is_killed():
    with Front("lost") as front:
        row = ps("lost")
        os.kill(front.process.pid, signal.SIGKILL)
        until(lambda: not alive(row["pid"]) and not alive(row["supervisor-pid"]), "the end")
    assert status("lost") == "off", ps("lost")
    good("rm", "lost")


def test_supervisor_in_front_is_killed():
    with Front("lost") as front:
        row = ps("lost")
        os.kill(row["supervisor-pid"], signal.SIGKILL)
        assert front.end() == 125
        assert front.is_restored() and b"its supervisor was killed by signal 9" in front.drain(), front.seen
        until(lambda: not alive(row["pid"]), "the end of the VMM")
    assert ps("lost")["why"] == "its supervisor was killed"
    good("rm", "lost")


def test_vmm_in_front_is_killed():
    with Pipes("--name", "lost", command=FRONT) as front:
        until(lambda: "lost" in ps(), "the guest")
        os.kill(ps("lost")["pid"], signal.SIGSEGV)
        assert front.end() == 125
        assert b"signal 11" in front.drain()
    assert ps("lost")["signal"] == 11
    good("rm", "lost")


# --- crashes ---


def test_a_process_that_does_not_answer():
    with Guest("mute"):
        os.kill(ps("mute")["pid"], signal.SIGSTOP)
        bad(1, "has not answered for", "hostel kill mute", args=["pause", "mute"])
        start = time.monotonic()
        assert status("mute") == "running" and time.monotonic() - start < 2
        assert "mute" in good("top", "--once")
        good("kill", "mute")
        assert ps("mute")["signal"] == 9


def test_a_process_of_the_same_number_is_another():
    """A state file that names our own process, with another start time, is not believed."""
    with Guest("ghost", wait=False):
        good("kill", "ghost")
        path = runtime("ghost") / "state"
        state = json.loads(path.read_text())
        other = {"pid": os.getpid(), "start": 1}
        state.update(status="running", supervisor=other, vmm=other)
        path.write_text(json.dumps(state))
        assert ps("ghost")["why"] == "its supervisor was killed" and not ps("ghost")["live"]
        state["boot"] = "another"
        path.write_text(json.dumps(state))
        assert ps("ghost")["why"] == "the host was restarted"
        # Somebody has the lock, but it is not the supervisor that the note names.
        state["boot"] = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        path.write_text(json.dumps(state))
        with (GUESTS / ".ghost.lock").open("rb+") as file:
            fcntl.fcntl(file, F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
            assert ps("ghost")["status"] == "busy" and not ps("ghost")["live"], ps("ghost")
        for text in ("", "{", "[]", '{"version":1}', '{"version":2,"status":"running"}', "x" * 100000):
            path.write_text(text)
            assert ps("ghost")["status"] == "off"
        good("start", "ghost")
        assert status("ghost") == "running"


def descendants(pid):
    found = set()
    for child in children(pid) if alive(pid) else []:
        found |= {child} | descendants(child)
    return found


def kill_once(chooser):
    """Starts the guest, kills one of its processes at a random moment, and looks at what is left."""
    front = subprocess.Popen([HOSTEL, *chooser.choice([["start", "dice"], ["start", "--attach", "dice"]])],
                             stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    moment = time.monotonic() + chooser.choice([0.005, 0.05, 0.3]) * chooser.random() * (5 if SANITIZED else 1)
    while time.monotonic() < moment:
        time.sleep(0.0005)
    # Whichever there are by now: in front, supervisor, VMM.
    row = ps("dice")
    seen = {pid for pid in (row.get("pid"), row.get("supervisor-pid"), front.pid) if pid and alive(pid)}
    victim = chooser.choice(sorted(seen)) if seen else None
    if victim:
        try:
            os.kill(victim, signal.SIGKILL)
        except ProcessLookupError:
            pass
    now = ps("dice")["status"]
    assert now in ("starting", "prelaunch", "running", "shutdown", "ending", "crashed", "off", "busy", "failed"), now
    if victim != front.pid and "--attach" not in front.args:
        front.wait(PATIENCE)
    # What still runs is told to end; then nothing is left, and nobody says that it runs.
    until(lambda: hostel("kill", "dice").returncode == 0 or not ps("dice")["live"], "an end")
    front.wait(PATIENCE)
    until(lambda: not any(alive(pid) for pid in seen), f"the end of {seen}")
    row = until(lambda: (lambda r: not r["live"] and r["status"] != "busy" and r)(ps("dice")), "rest")
    assert row["status"] in ("crashed", "off", "failed"), row
    if row["status"] == "crashed":
        assert "killed" in row["why"], row


def test_killed_at_random_moments():
    seed = int(os.environ.get("HOSTEL_SEED", time.time_ns() % 100000))
    chooser = random.Random(seed)
    print(f"# {KILLS} times, HOSTEL_SEED={seed}", flush=True)
    disk = HERE / "disk"  # locked by whoever uses it
    disk.write_bytes(bytes(1 << 20))
    with Guest("dice", "--disk", f"{disk},format=raw", wait=False):
        good("kill", "dice")
        definition = (GUESTS / "dice/definition").read_bytes()
        for _ in range(KILLS):
            kill_once(chooser)
            assert (GUESTS / "dice/definition").read_bytes() == definition
        good("start", "dice")
        assert status("dice") == "running"
    nothing_left()


def test_killed_while_it_is_made():
    """Either there is a guest in the end, or there is nothing."""
    chooser = random.Random(time.time_ns())
    for _ in range(KILLS // 2):
        with subprocess.Popen([*FRONT, "--detach", "--name", "new"], stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL) as front:
            time.sleep(chooser.random() * 0.1)
            front.kill()
        until(lambda: hostel("kill", "new").returncode == 0 or not is_locked("new"), "rest")
        if "new" in ps():
            good("start", "new")
            good("rm", "-f", "new")
    assert ps() == {}, ps()


tap([value for name, value in sorted(globals().items()) if name.startswith("test_")])
