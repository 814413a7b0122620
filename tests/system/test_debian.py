#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""A whole Debian by `hostel run debian`: the image, a guest's life over several starts, what a wrong request gets.

What the guest says is compared with what Python finds out here: checksums, the mirror's files. Packages come from the
mirror of the host's own apt; where it cannot be reached and no image is there, the tests skip.
"""

import contextlib
import functools
import hashlib
import importlib.machinery
import importlib.util
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

from guest import HOSTEL, PATIENCE, Pipes, Skip, hostel, tap, until

MAKER = pathlib.Path(__file__).resolve().parents[2] / "images/debian/hostel-image-debian"
BOOT = 20 * PATIENCE  # seconds for a boot on the slowest of hosts; a good one needs ten
STEP = 8 * PATIENCE   # for a command in the guest
PASSWORD = "correct horse"
SCRATCH = tempfile.TemporaryDirectory()
os.environ["XDG_DATA_HOME"], os.environ["XDG_RUNTIME_DIR"] = f"{SCRATCH.name}/data", SCRATCH.name
DISK = pathlib.Path(SCRATCH.name) / "data/hostel/guests/ci/disk"


def maker():
    """The program that makes images, as a module."""
    loader = importlib.machinery.SourceFileLoader("maker", str(MAKER))
    spec = importlib.util.spec_from_loader("maker", loader)
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


@functools.cache
def mirror():
    """(address of a file of Debian's mirror, its checksum)."""
    module = maker()
    try:
        url = module.sources("trixie")[0][0].rstrip("/") + "/dists/trixie/Release.gpg"
        with urllib.request.urlopen(url, timeout=20) as answer:
            return url, hashlib.sha256(answer.read()).hexdigest()
    except (module.ImageError, urllib.error.URLError, OSError) as why:
        raise Skip(f"Debian's mirror cannot be reached: {why}") from why


@functools.cache
def image():
    """The image's folder; made when it is not there."""
    mirror()
    done = subprocess.run([MAKER, "--hostel", HOSTEL], stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0, "the image could not be made"
    return pathlib.Path(done.stdout.strip())


@functools.cache
def key():
    """A key for ssh; None where there is no ssh."""
    if not shutil.which("ssh-keygen"):
        return None
    path = f"{SCRATCH.name}/key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path


def free_port():
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Guest(Pipes):
    def __init__(self, *args, command=(HOSTEL, "run", "debian", "--name", "ci")):
        super().__init__(*args, command=command)

    def login(self):
        self.wait_for(b" login: ", BOOT)
        self.send(b"debian\n")
        self.wait_for(b"assword: ", STEP)
        self.send(PASSWORD.encode() + b"\n")
        self.wait_for(b"$ ", STEP)

    def run(self, command):
        """What a command says; it must succeed. The marker is written so that its echo is another text."""
        self.send(f"{command}; echo \"st\"atus: $?\n".encode())
        text = self.wait_for(b"\nstatus: ", STEP) + self.wait_for(b"\n", STEP)
        self.wait_for(b"$ ", STEP)
        text = text.replace(b"\r", b"").decode(errors="replace")
        assert text.endswith("status: 0\n"), text
        return text.split("\n", 1)[1].rsplit("status: ", 1)[0].strip()

    def root(self, command):
        return self.run(f"echo '{PASSWORD}' | sudo -S -p '' {command}")

    def power_off(self):
        self.send(f"echo '{PASSWORD}' | sudo -S -p '' poweroff\n".encode())
        assert self.end(STEP) == 0, self.seen


def test_image():
    folder = image()
    assert {path.name for path in folder.iterdir()} == {"disk", "kernel", "initrd", "versions", "configure.log"}
    assert (folder / "disk").stat().st_size == 4 << 30
    assert (folder / "disk").stat().st_blocks * 512 < 1 << 30
    assert "libc6 " in (folder / "versions").read_text()


def new_guest(port):
    words = ["--cpus", "2", "--password", PASSWORD, "--hostname", "keller",
             "--net", f"user,forward=tcp:127.0.0.1:{port}-:22"]
    return Guest(*words, *(["--ssh-key", key() + ".pub"] if key() else []))


def check_ssh(port):
    with socket.create_connection(("127.0.0.1", port), STEP) as connection:
        connection.settimeout(STEP)
        assert connection.recv(8) == b"SSH-2.0-"
    if key():
        done = subprocess.run(
            ["ssh", "-i", key(), "-p", str(port), "-o", "StrictHostKeyChecking=no",
             "-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR",
             "debian@127.0.0.1", "uname -m; hostname"],
            capture_output=True, text=True, timeout=STEP, check=False, stdin=subprocess.DEVNULL)
        assert done.stdout == "riscv64\nkeller\n", done


def check_network(guest):
    url, checksum = mirror()
    show = "ip -color=never -4 addr show scope global"
    addresses = until(lambda: re.findall(r"inet (\S+) ", guest.run(show)), "an address", STEP)
    assert addresses == ["10.0.2.15/24"], addresses
    host = re.match(r"\w+://([^/:]+)", url)[1]
    assert guest.run(f"getent ahostsv4 {host}"), host
    assert guest.run(f"wget -q -O - {url} | sha256sum").split()[0] == checksum


def check_system(guest):
    """It is Debian, in order, and nobody else's."""
    assert guest.run("uname -m") == "riscv64" and guest.run("nproc") == "2"
    assert guest.run("hostname") == "keller"
    assert "trixie" in guest.run("cat /etc/os-release")
    assert guest.root("dpkg --audit") == ""
    assert guest.run("systemctl list-units --failed --plain --no-legend") == ""
    assert guest.run("ls /etc/ssh/*_key | wc -l") == "2"
    # What the image's maker did in place of Debian's own tools, those tools find done.
    assert "0 added, 0 removed" in guest.root("update-ca-certificates")


def test_life():
    image()
    port = free_port()
    start = time.monotonic()
    with new_guest(port) as guest:
        guest.wait_for(b"log in as debian", BOOT)
        guest.wait_for(f"ssh -p {port} debian@127.0.0.1".encode())
        guest.login()
        print(f"# shell after {time.monotonic() - start:.1f} s", flush=True)
        assert DISK.stat().st_blocks * 512 < 64 << 20, "the copy is not thin"
        refused = hostel("run", "debian", "--name", "ci")
        assert refused.returncode == 1 and "in use" in refused.stderr, refused
        assert re.search(r"^ci +running ", hostel("guests").stdout, re.M)
        check_system(guest)
        check_network(guest)
        check_ssh(port)
        guest.run("dd if=/dev/urandom of=file bs=64k count=64 conv=fsync status=none")
        before = guest.run("sha256sum file")
        guest.send(f"echo '{PASSWORD}' | sudo -S -p '' reboot\n".encode())
        guest.login()
        assert guest.run("sha256sum file") == before
        guest.power_off()
    assert re.search(r"^ci +off ", hostel("guests").stdout, re.M)
    with Guest() as guest:
        guest.login()
        assert guest.run("nproc") == "1" and guest.run("sha256sum file") == before
        check_network(guest)
        guest.power_off()


def test_in_the_background():
    """What was set holds, `start` repeats the last run, and a console is attached to it."""
    if not DISK.exists():
        raise Skip("there is no guest")
    assert hostel("set", "ci", "cpus=3").returncode == 0
    assert hostel("set", "ci", "kernel=/x").returncode == 2
    done = hostel("run", "debian", "--detach", "--name", "ci", "--memory", "768M")
    assert done.returncode == 0 and done.stdout == "ci\n" and "log in as debian" in done.stderr, done
    assert hostel("kill", "ci").returncode == 0
    done = hostel("start", "ci")
    assert done.returncode == 0 and done.stdout == "ci\n", done
    guest = Guest(command=[HOSTEL, "console", "ci"])
    with guest:
        guest.login()
        assert guest.run("nproc") == "3" and 600 << 10 < int(guest.run("awk '/MemTotal/{print $2}' /proc/meminfo"))
        assert re.search(r"^ci +running .* 3 +768 MiB ", hostel("ps").stdout, re.M), hostel("ps").stdout
        assert hostel("shutdown", "ci").returncode == 0  # the power button, to which systemd-logind listens
        assert guest.end(STEP) == 0, guest.seen


def test_a_guest_that_is_there():
    if not DISK.exists():
        raise Skip("there is none")
    done = hostel("run", "debian", "--name", "ci", "--size", "8G")
    assert done.returncode == 2 and "hostel remove ci" in done.stderr, done
    assert hostel("remove", "ci").returncode == 0
    assert not DISK.parent.exists() and hostel("guests").stdout == ""
    assert hostel("remove", "ci").returncode == 2


def test_wrong_requests():
    private = pathlib.Path(SCRATCH.name) / "private"
    private.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\n")
    for words, status, text in [
            (["debian:sid"], 2, "debian:trixie"), (["debian", "--kernel", "x"], 2, "brings its own"),
            (["debian", "--size", "1G"], 2, "at least 4G"), (["debian", "--name", "../x"], 2, "must be letters"),
            (["debian", "--user", "a:b"], 2, "lower-case"), (["debian", "--isa", "x86_64"], 2, "riscv64 only"),
            (["debian", "--memroy", "1G"], 2, "--memory"), (["debian", "--package", "a;b"], 2, "--package"),
            (["debian", "--password", "a", "--password-file", "b"], 2, "one"), (["remove"], 2, "which guest"),
            (["guests", "x"], 2, "takes none")]:
        done = hostel(*([] if words[0] in ("remove", "guests") else ["run"]), *words)
        assert done.returncode == status and text in done.stderr and done.stderr.count("\n") == 1, done
    image()
    for words, text in [(["--ssh-key", str(private)], "private key"), (["--password-file", "/dev/null"], "text"),
                        (["--user-data", "/nonexistent"], "No such file")]:
        done = hostel("run", "debian", "--name", "wrong", *words)
        assert done.returncode == 1 and text in done.stderr, done
    assert hostel("guests").stdout == ""


def test_interrupted():
    """Whoever interrupts the making of an image, even again and again, is left with nothing half made."""
    mirror()
    with tempfile.TemporaryDirectory() as cache:
        env = {**os.environ, "XDG_CACHE_HOME": cache}
        process = subprocess.Popen([HOSTEL, "run", "debian", "--name", "half"], env=env, stderr=subprocess.PIPE,
                                   stdin=subprocess.DEVNULL, process_group=0)
        folder = pathlib.Path(cache) / "hostel/images"
        try:
            until(lambda: list(folder.glob(".*/result/disk")), "a beginning")
            until(lambda: process.poll() is not None or os.killpg(process.pid, signal.SIGINT), "an end")
            assert process.returncode == -signal.SIGINT, process.returncode
        finally:
            process.kill()
            process.stderr.close()
        assert [path for path in folder.iterdir() if path.suffix != ".lock"] == []
        assert hostel("guests").stdout == ""


tap([test_wrong_requests, test_interrupted, test_image, test_life, test_in_the_background,
     test_a_guest_that_is_there])
