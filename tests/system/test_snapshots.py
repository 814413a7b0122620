#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""Moments of whole guests: saved, kept as snapshots, gone back to, cloned, through crashes of whoever does it.

The guest writes to a file system and to a disk without one, and compares both with what it remembers: memory and disks
that are not of one moment show themselves. HOSTEL_KILLS=N sets how often commands are killed at random moments (20).
"""

import json
import os
import random
import re
import resource
import shutil
import signal
import socket
import subprocess
import time

from debian import BOOT, files, initramfs
from guest import HOSTEL, PATIENCE, Skip, hostel, tap, until
from load import LOAD
from named import GUESTS, HERE, RUNTIME, bad, good, last_round, none_left, said, status

KILLS = int(os.environ.get("HOSTEL_KILLS", "20"))
SIZE = 32 << 20


def goes_on(name, beyond=None):
    """Wait until the guest has got on for three rounds; it found nothing wrong."""
    before = last_round(name) if beyond is None else beyond
    until(lambda: last_round(name) >= before + 3 or "BROKEN" in said(name) or "panic" in said(name),
          f"{name} beyond round {before}: {said(name)[-300:]}", BOOT)
    text = said(name)
    assert "BROKEN" not in text and "panic" not in text, text[-2000:]


class Guest:
    """One that writes; nothing is left of it."""

    def __init__(self, name):
        self.name = name
        self.disks = [HERE / f"{name}-a.img", HERE / f"{name}-b.img"]
        mkfs = shutil.which("mkfs.ext4", path=os.environ["PATH"] + ":/usr/sbin:/sbin")
        if not mkfs:
            raise Skip("mkfs.ext4 is not installed")
        for disk in self.disks:
            with disk.open("wb") as file:
                file.truncate(SIZE)
        subprocess.run([mkfs, "-q", self.disks[0]], check=True)
        good("run", "-d", "--name", name, "--isa", "riscv64", "--memory", "128M", "--kernel", files() / "kernel",
             "--initrd", initramfs(LOAD, "virtio,ext4"), "--append", "console=ttyS0 quiet",
             *(word for disk in self.disks for word in ("--disk", f"file={disk},format=raw")))

    def __enter__(self):
        goes_on(self.name, 0)
        return self

    def __exit__(self, *unused):
        none_left()


def snapshots(name):
    return json.loads(good("snapshot", "list", "-o", "json", name))


def file_system(guest, layers):
    """The first disk as it was below these layers, on its own, mended as a mount would; then it must be clean."""
    raw = HERE / "look.img"
    chain = [(guest.disks[0], "raw")]
    for i, layer in enumerate(layers):
        copy = HERE / f"look{i}.qcow2"
        shutil.copy(GUESTS / guest.name / "layers" / layer, copy)
        subprocess.run(["qemu-img", "rebase", "-u", "-f", "qcow2", "-b", chain[-1][0], "-F", chain[-1][1], copy],
                       check=True)
        chain.append((copy, "qcow2"))
    subprocess.run(["qemu-img", "convert", "-f", chain[-1][1], "-O", "raw", chain[-1][0], raw], check=True)
    fsck = shutil.which("e2fsck", path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    assert subprocess.run([fsck, "-fy", raw], capture_output=True, check=False).returncode in (0, 1)
    assert subprocess.run([fsck, "-fn", raw], capture_output=True, check=False).returncode == 0
    raw.unlink()


def layers(name):
    return json.loads((GUESTS / name / "layers.json").read_text())


def test_save_and_restore():
    with Guest("a"):
        good("save", "a")
        assert status("a") == "saved"
        seen = last_round("a")
        bad("not running", "pause", "a")
        good("start", "a")
        goes_on("a", seen)
        assert not (GUESTS / "a/saved").exists()
        file = HERE / "file.saved"
        good("save", "a", str(file))
        seen = last_round("a")
        damaged = HERE / "damaged"
        damaged.write_bytes(file.read_bytes()[:-100])
        bad("bytes and should have", "restore", str(damaged))
        assert status("a") == "saved"
        good("restore", "--verify", str(file))
        goes_on("a", seen)
        bad("--new", "restore", "--name", "b", str(file))
        assert status("b") is None
        good("pause", "a")
        good("save", "a")
        good("start", "--fresh", "a")  # the file system is mended, the numbers begin again
        until(lambda: said("a").count("round 3\n") + said("a").count("round 3\r") >= 2, "a boot", BOOT)
        assert "BROKEN" not in said("a")


def interrupted(name, *args):
    """A command is asked to end by SIGINT as soon as the guest is being saved; what it said, or None when it was
    quicker."""
    folder = os.open(next(RUNTIME.glob(f"hostel/*/{name}")), os.O_PATH)
    with socket.socket(socket.AF_UNIX) as control:
        control.settimeout(PATIENCE)
        control.connect(f"/proc/self/fd/{folder}/control")
        os.close(folder)
        lines = control.makefile("rw")
        lines.readline()

        def ask(command):
            lines.write(json.dumps({"execute": command, "id": command}) + "\n")
            lines.flush()
            while (answer := json.loads(lines.readline())).get("id") != command:
                pass
            return answer["return"]

        ask("qmp_capabilities")
        with subprocess.Popen([HOSTEL, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            while ask("query-migrate").get("status") != "active" and process.poll() is None:
                pass
            process.send_signal(signal.SIGINT)
            said_last = process.communicate(timeout=PATIENCE)[1]
    return said_last if process.returncode == -signal.SIGINT else None


def test_asked_to_stop():
    """Ctrl-C while a guest is saved: it goes on, and nothing is left."""
    (HERE / "a.saved").unlink(missing_ok=True)
    with Guest("a"):
        for args in (["snapshot", "create", "a"], ["clone", "a", "b"], ["save", "a", str(HERE / "a.saved")]):
            for _ in range(20):
                text = interrupted("a", *args)
                if text is not None:
                    break
                if status("a") == "saved":
                    good("start", "a")
                hostel("rm", "--force", "b")
                (HERE / "a.saved").unlink(missing_ok=True)
            else:
                raise AssertionError(f"{args} is always quicker")
            assert text == "hostel: error: stopped; the guest goes on\n", text
            assert status("a") == "running" and status("b") is None
            assert not (HERE / "a.saved").exists() and not list(HERE.glob(".a.saved*"))
            names = {row["name"] for row in snapshots("a")}
            assert {path.name for path in (GUESTS / "a/snapshots").glob("*")} == names
            goes_on("a")
        told = [json.loads(line) for line in good("save", "--progress=json", "a").splitlines()]
        assert all(row["done"] <= row["total"] for row in told) and told[-1]["done"] == told[-1]["total"] > 0, told
        good("start", "a")
        goes_on("a")


def test_compressed():
    """A file that was made small is as good as another; a damaged one is refused with its place, before anything."""
    with Guest("a"):
        plain, small = HERE / "plain.saved", HERE / "a.zst"
        good("save", "a", str(plain))
        good("restore", str(plain))
        goes_on("a")
        good("save", "--compress", "a", str(small))
        saved = json.loads(good("info", "-o", "json", "a"))[0]["saved"]
        assert saved["format"] == "zstd" and saved["file"] == str(small), saved
        assert small.stat().st_size < plain.stat().st_blocks * 512 / 2, (small.stat(), plain.stat())
        assert not list(HERE.glob(".a.zst*"))
        seen = last_round("a")
        if shutil.which("zstd"):  # anybody's makes a file of a saved guest of it
            subprocess.run(["zstd", "-dqf", small, "-o", HERE / "by-zstd"], check=True)
            bad("--new", "restore", "--verify", "--name", "b", str(HERE / "by-zstd"))
        content = bytearray(small.read_bytes())
        damaged = HERE / "damaged"
        place = len(content) // 2
        content[place] ^= 4
        damaged.write_bytes(content)
        for args in (["--verify"], []):
            done = hostel("restore", *args, str(damaged))
            where = re.search(r"frame \d+ .* is damaged, between bytes (\d+) and (\d+)", done.stderr)
            assert done.returncode and where, done
            assert int(where[1]) <= place < int(where[2]), (place, done)
        damaged.write_bytes(content[:-1])
        bad("is cut off", "restore", str(damaged))
        good("restore", "--verify", str(small))
        goes_on("a", seen)
        good("snapshot", "create", "--compress", "a", "one")
        with (GUESTS / "a/snapshots/one").open("rb") as file:
            assert file.read(4) == b"\x28\xb5\x2f\xfd"
        goes_on("a")
        good("snapshot", "revert", "--force", "a", "one")
        goes_on("a")
        good("run", "-d", "--from", "a/one", "--name", "c")
        goes_on("c")
        good("save", "--compress", "a")
        good("clone", "a", "d")  # from where it was saved
        goes_on("d")
        good("start", "a")
        goes_on("a")


def test_no_room_for_a_small_file():
    """One that cannot be made small: a guest that was to be put aside goes on, a moment of one is kept as it is."""
    def limited(*args):
        return subprocess.run([HOSTEL, *args], capture_output=True, text=True, timeout=PATIENCE, check=False,
                              restore_signals=False,  # SIGXFSZ stays ignored
                              preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20)))

    with Guest("a"):
        file = HERE / "room.zst"
        done = limited("save", "--compress", "a", str(file))
        assert done.returncode and "File too large" in done.stderr and done.stderr.count("\n") == 1, done
        assert status("a") == "running" and not list(HERE.glob("*room.zst*"))
        goes_on("a")
        done = limited("snapshot", "create", "--compress", "a", "one")
        assert done.returncode == 0 and "it is kept as it is" in done.stderr, done
        goes_on("a")
        good("snapshot", "revert", "--force", "a", "one")
        goes_on("a")


def test_tree():
    with Guest("a") as guest:
        rounds = {}
        for name in ("one", "two", "three"):
            before = last_round("a")
            assert good("snapshot", "create", "a", name, "-m", f"note {name}") == f"{name}\n"
            rounds[name] = before, last_round("a")
            goes_on("a")
        assert [(row["name"], row["parent"]) for row in snapshots("a")] == [
            ("one", None), ("two", "one"), ("three", "two")]
        bad("already", "snapshot", "create", "a", "two")
        bad("no snapshot", "snapshot", "revert", "--force", "a", "four")
        bad("--force", "snapshot", "revert", "a", "one")
        for name in ("two", "one", "three"):
            good("snapshot", "revert", "--force", "a", name)
            mark = len(said("a"))
            until(lambda: re.search(r"round \d+\s", said("a")[mark:]), f"the guest at {name}", BOOT)
            back = int(re.search(r"round (\d+)\s", said("a")[mark:])[1])
            assert rounds[name][0] <= back <= rounds[name][1] + 3, (name, back, rounds)
            goes_on("a", back)
        good("snapshot", "create", "a")
        tree = {row["name"]: row["parent"] for row in snapshots("a")}
        assert tree["snapshot-4"] == "three", tree
        good("kill", "a")
        for moment in layers("a")["snapshots"].values():
            file_system(guest, moment["disks"][0])
        other = HERE / "other.img"
        other.write_bytes(bytes(SIZE))
        bad("other.img", "run", "-d", "--name", "a", "--isa", "riscv64", "--kernel", files() / "kernel", "--disk",
            f"file={other},format=raw", "--disk", f"file={guest.disks[1]},format=raw")
        good("snapshot", "delete", "a", "two")
        assert {row["name"]: row["parent"] for row in snapshots("a")}["three"] == "one"
        for name in ("one", "three", "snapshot-4"):
            good("snapshot", "delete", "a", name)
        assert snapshots("a") == []
        left = {path.name for path in (GUESTS / "a/layers").iterdir()}
        assert left == {file for disk in layers("a")["disks"] for file in disk}
        file_system(guest, layers("a")["disks"][0])


def test_clones_go_their_own_ways():
    with Guest("a"):
        good("clone", "--count", "2", "a", "b")
        bad("already", "clone", "a", "b-1")
        for name in ("a", "b-1", "b-2"):
            goes_on(name, last_round("a") if name == "a" else None)
        good("pause", "b-1")
        seen = last_round("b-1")
        goes_on("b-2")
        goes_on("a")
        assert last_round("b-1") <= seen + 1
        good("clone", "b-2", "c")  # of a clone
        good("rm", "--force", "b-2")
        goes_on("c")
        good("resume", "b-1")
        goes_on("b-1")
        good("snapshot", "create", "a", "one")
        good("run", "--from", "a/one", "-d", "--name", "d")
        good("snapshot", "delete", "a", "one")
        good("kill", "a")
        goes_on("d")
        good("stop", "--timeout", "0", "d")
        good("start", "d")  # boots from its own disks
        until(lambda: len(re.findall(r"round 3\s", said("d"))) >= 1, "a boot", BOOT)
        bad("GUEST/SNAPSHOT", "run", "--from", "a")
        bad("no snapshot", "run", "--from", "a/none")


def booted(name, mark=0):
    """Wait for the guest's first rounds behind what it has said before."""
    until(lambda: re.search(r"round 3\s", said(name)[mark:]), f"a boot of {name}", BOOT)
    assert "BROKEN" not in said(name)


def test_at_rest():
    """Guests that are off or saved have moments, too, and stay what they are."""
    with Guest("a"):
        good("stop", "--timeout", "0", "a")
        good("snapshot", "create", "a", "off")
        good("clone", "a", "c")
        assert status("a") == "off"
        booted("c")
        mark = len(said("a"))
        good("start", "a")
        booted("a", mark)
        good("save", "a")
        seen = last_round("a")
        good("snapshot", "create", "a", "saved")
        good("clone", "a", "d")
        assert status("a") == "saved"
        goes_on("d", seen)
        good("start", "a")
        goes_on("a", seen)
        mark = len(said("a"))
        good("snapshot", "revert", "--force", "a", "off")
        booted("a", mark)
        good("snapshot", "revert", "--force", "a", "saved")
        goes_on("a", seen)


def killed(seconds, *args):
    with subprocess.Popen([HOSTEL, *args], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        time.sleep(seconds)
        process.kill()


def test_killed_at_random_moments():
    """Whoever takes snapshots and clones dies in the middle: the guest goes on, each snapshot that is listed is whole,
    and the guest boots from its disks."""
    random.seed(7)
    with Guest("a"):
        for i in range(KILLS):
            before = {row["name"] for row in snapshots("a")}
            if i % 4 == 3:
                killed(random.uniform(0, 0.4), "clone", "a", f"x{i}")
                hostel("rm", "--force", f"x{i}")
            else:
                killed(random.uniform(0, 0.4), "snapshot", "create", "a", f"s{i}")
            assert before <= {row["name"] for row in snapshots("a")}
            assert status("a") in ("running", "paused"), status("a")
            if status("a") == "paused":
                good("resume", "a")
        goes_on("a")
        made = [row["name"] for row in snapshots("a")]
        for name in random.sample(made, min(3, len(made))):
            good("snapshot", "revert", "--force", "a", name)
            mark = len(said("a"))
            until(lambda: len(re.findall(r"round \d+\s", said("a")[mark:])) > 2, f"the guest at {name}", BOOT)
            assert "BROKEN" not in said("a")
        good("kill", "a")
        mark = len(said("a"))
        good("start", "a")
        until(lambda: re.search(r"round 3\s", said("a")[mark:]), "a boot", BOOT)
        assert "BROKEN" not in said("a")


def test_killed_while_it_is_saved():
    random.seed(8)
    with Guest("a"):
        for i in range(max(KILLS // 2, 1)):
            killed(random.uniform(0, 0.5), "save", *(["--compress"] if i % 2 else []), "a")
            end = time.monotonic() + PATIENCE  # it goes on by itself, unless it had been saved
            seen = last_round("a")
            while last_round("a") <= seen + 1 and time.monotonic() < end:
                if status("a") == "saved":
                    good("start", "a")
                elif status("a") in ("paused", "postmigrate"):
                    hostel("resume", "a")
            goes_on("a")
            assert not (GUESTS / "a/saved").exists()


if __name__ == "__main__":
    try:
        files()
    except Skip as reason:
        print(f"1..0 # SKIP {reason}")
        raise SystemExit(0) from None
    tap([function for name, function in list(globals().items()) if name.startswith("test_")])
