#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""`hostel image`: what each subcommand does and refuses, beside qemu-img where both have it. Output is TAP."""

import json
import os
import pathlib
import random
import shutil
import signal
import stat
import struct
import subprocess
import tempfile
import time

HOSTEL = os.environ["HOSTEL"]
QEMU = shutil.which("qemu-img")
SEED = int(os.environ.get("SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
RANDOM = random.Random(SEED)
MIB = 1 << 20


def run(*words, code=0, stdin=None):
    words = [str(word) for word in words]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120, stdin=stdin)
    assert code is None or done.returncode == code, (words, done.returncode, done.stdout, done.stderr)
    return done


def image(*words, code=0):
    return run(HOSTEL, "image", *words, code=code).stdout


def refused(*words, says, code=1):
    """Ends with code, and says why on one line."""
    done = run(HOSTEL, "image", *words, code=code)
    lines = done.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("hostel: error: "), lines
    assert says in lines[0], (says, lines[0])


def qemu(*words, code=0):
    return run(QEMU, *words, code=code).stdout


class Folder:
    """A folder of its own, which is the current one, gone afterwards."""

    def __enter__(self):
        self.before = os.getcwd()
        self.path = pathlib.Path(tempfile.mkdtemp(prefix="hostel-image-"))
        os.chdir(self.path)
        return self.path

    def __exit__(self, *exc):
        os.chdir(self.before)
        shutil.rmtree(self.path)


def source(name="source.raw", size=12 * MIB, seed=1):
    """Random bytes, zeroes that are written, a hole, a text, a hole."""
    rng = random.Random(seed)
    with open(name, "wb") as file:
        file.write(rng.randbytes(3 * MIB))
        file.write(bytes(2 * MIB))
        file.seek(9 * MIB)
        file.write(b"text " * 60000)
        file.truncate(size)
    return name


def patch(name, offset, data):
    with open(name, "r+b") as file:
        file.seek(offset)
        file.write(data)


def same(one, two):
    run("cmp", one, two)


# --- create and info -------------------------------------------------------------------------------------------------


def test_create_makes_what_qemu_opens():
    for kind in ["raw", "qcow2", "vmdk", "vdi", "vpc", "vhdx", "qed", "parallels"]:
        if kind not in image("--help"):
            continue
        with Folder():
            image("create", "-q", "-f", kind, "x", "64M")
            told = json.loads(qemu("info", "-f", kind, "--output=json", "x"))
            ours = json.loads(image("info", "-f", kind, "--output=json", "x"))
            assert ours["virtual-size"] == told["virtual-size"] >= 64 * MIB, (kind, ours, told)
            for member in ["format", "cluster-size", "filename", "dirty-flag"]:
                assert member not in told or ours.get(member) == told[member], (kind, member, ours, told)


def test_create_says_what_it_makes():
    with Folder():
        line = image("create", "-f", "qcow2", "-o", "cluster_size=128k", "x", "64M")
        assert line.startswith("Formatting 'x', fmt=qcow2 ") and " size=67108864" in line, line
        assert "cluster_size=131072" in line or "cluster_size=128K" in line, line
        assert image("create", "-q", "-f", "qcow2", "y", "1M") == ""
        assert json.loads(image("info", "-f", "qcow2", "--output", "json", "x"))["cluster-size"] == 131072


def test_create_refuses():
    with Folder() as folder:
        refused("create", says="FILE and SIZE")
        refused("create", "x", says="size is missing")
        refused("create", "x", "10Q", says="10Q")
        refused("create", "x", "-1", says="unknown option")
        refused("create", "-f", "qcow9", "x", "1M", says="there is no format 'qcow9'")
        refused("create", "-f", "bochs", "x", "1M", says="no new images")
        refused("create", "-o", "frob=1", "x", "1M", says="frob")
        refused("create", "-f", "qcow2", "-b", "base", "x", "1M", says="-F FORMAT")
        refused("create", "-f", "qcow2", "-b", "base", "-F", "raw", "x", says="base")
        refused("create", "nowhere/x", "1M", says="nowhere/x")
        refused("create", "-f", says="needs an argument")
        os.mkfifo("pipe")
        refused("create", "pipe", "1M", says="neither")
        assert os.listdir(folder) == ["pipe"]


def test_create_over_a_backing_file():
    with Folder():
        image("create", "-q", "-f", "qcow2", "base", "5M")
        image("create", "-q", "-f", "qcow2", "-b", "base", "-F", "qcow2", "top")
        told = json.loads(qemu("info", "--output=json", "top"))
        assert (told["virtual-size"], told["backing-filename"], told["backing-filename-format"]) == \
            (5 * MIB, "base", "qcow2"), told
        image("create", "-q", "-f", "qcow2", "-u", "-b", "gone", "-F", "raw", "other", "7M")
        assert json.loads(qemu("info", "--output=json", "other"))["backing-filename"] == "gone"


def test_info_is_qemus():
    with Folder():
        qemu("create", "-q", "-f", "qcow2", "base", "5M")
        qemu("create", "-q", "-f", "qcow2", "-b", "base", "-F", "qcow2", "top")
        qemu("snapshot", "-c", "first", "top")
        ours, theirs = (json.loads(text) for text in (image("info", "-f", "qcow2", "--output=json", "top"),
                                                      qemu("info", "--output=json", "top")))
        ours.pop("children")
        assert ours == theirs, (ours, theirs)
        human = image("info", "-f", "qcow2", "top").splitlines()
        for line in qemu("info", "top").splitlines():
            assert line in human, (line, human)
        chain = json.loads(image("info", "--follow", "--backing-chain", "-f", "qcow2", "--output=json", "top"))
        assert [one["filename"] for one in chain] == ["top", "base"], chain


def test_info_alone_guesses():
    with Folder():
        image("create", "-q", "-f", "qcow2", "x", "1M")
        assert "file format: qcow2" in image("info", "x")
        for words in [["check", "x"], ["convert", "x", "y"], ["map", "x"], ["resize", "x", "2M"], ["snapshot", "x"],
                      ["measure", "x"], ["bench", "x"], ["dd", "if=x", "of=y"]]:
            refused(*words, says="-f qcow2")
        refused("compare", "x", "x", says="-f qcow2", code=2)
        refused("map", "-f", "vmdk", "x", says="looks like qcow2")
        assert os.listdir() == ["x"]


# --- convert ---------------------------------------------------------------------------------------------------------


def test_convert_there_and_back():
    with Folder():
        source()
        for kind in ["raw", "qcow2", "vmdk", "vdi", "vhdx", "qed", "parallels"]:
            if kind not in image("--help"):
                continue
            image("convert", "-f", "raw", "-O", kind, "source.raw", "x")
            qemu("compare", "-f", "raw", "-F", kind, "source.raw", "x")
            image("convert", "-f", kind, "x", "back.raw")
            same("source.raw", "back.raw")
            assert os.stat("back.raw").st_blocks * 512 < 4.5 * MIB  # neither holes nor zeroes that were written
            qemu("convert", "-f", "raw", "-O", kind, "source.raw", "theirs")
            image("compare", "-f", kind, "-F", "raw", "theirs", "source.raw")


def test_convert_compressed():
    with Folder():
        source()
        for method in ["zlib", "zstd"]:
            image("convert", "-c", "-f", "raw", "-O", "qcow2", "-o", f"compression_type={method}", "source.raw", "x")
            qemu("compare", "-f", "raw", "-F", "qcow2", "source.raw", "x")
            run(QEMU, "check", "-f", "qcow2", "x")
            image("convert", "-f", "qcow2", "x", "back.raw")
            same("source.raw", "back.raw")
        refused("convert", "-c", "-f", "raw", "-O", "vdi", "source.raw", "y", says="no compression")
        assert not os.path.exists("y")


def test_convert_joins_several():
    with Folder():
        source("a", seed=2)
        source("b", size=10 * MIB, seed=3)
        image("convert", "-f", "raw", "-O", "qcow2", "a", "b", "ours")
        qemu("convert", "-f", "raw", "-O", "qcow2", "a", "b", "theirs")
        qemu("compare", "ours", "theirs")


def test_convert_sizes_that_are_not_round():
    with Folder():
        for size in [1, 511, 513, 1000000, 4 * MIB + 1]:
            pathlib.Path("odd").write_bytes(RANDOM.randbytes(size))
            image("convert", "-f", "raw", "-O", "qcow2", "odd", "ours")
            qemu("convert", "-f", "raw", "-O", "qcow2", "odd", "theirs")
            assert qemu("compare", "ours", "theirs") == "Images are identical.\n"


def test_convert_into_what_is_there():
    with Folder():
        source()
        image("create", "-q", "-f", "qcow2", "x", "12M")
        run("qemu-io", "-f", "qcow2", "-c", "write -P 9 4M 1M", "x")
        image("convert", "-n", "-f", "raw", "-O", "qcow2", "source.raw", "x")
        qemu("compare", "-f", "raw", "-F", "qcow2", "source.raw", "x")
        image("create", "-q", "-f", "qcow2", "small", "1M")
        refused("convert", "-n", "-f", "raw", "-O", "qcow2", "source.raw", "small", says="less than")
        refused("convert", "-n", "-f", "raw", "source.raw", "gone", says="gone")
        refused("convert", "--target-is-zero", "-f", "raw", "source.raw", "y", says="-n")
        image("create", "-q", "-f", "qcow2", "new", "12M")
        image("convert", "-n", "--target-is-zero", "-f", "raw", "-O", "qcow2", "source.raw", "new")
        qemu("compare", "-f", "raw", "-F", "qcow2", "source.raw", "new")


def test_convert_without_looking_for_zeroes():
    with Folder():
        source()
        image("convert", "-S", "0", "-f", "raw", "source.raw", "x")
        same("source.raw", "x")
        assert os.stat("x").st_blocks * 512 >= 12 * MIB
        refused("convert", "-S", "1000", "-f", "raw", "source.raw", "y", says="multiple")


def test_convert_over_the_same_backing_file():
    with Folder():
        source("base.raw")
        qemu("create", "-q", "-f", "qcow2", "-b", "base.raw", "-F", "raw", "top")
        run("qemu-io", "-f", "qcow2", "-c", "write -P 9 1M 100k", "-c", "write -z 9M 64k", "top")
        image("convert", "-f", "qcow2", "-O", "qcow2", "-B", "base.raw", "-F", "raw", "top", "new")
        qemu("compare", "top", "new")
        assert os.stat("new").st_blocks * 512 < MIB
        # One that lies over nothing is not taken for one that does.
        qemu("create", "-q", "-f", "qcow2", "free", "12M")
        run("qemu-io", "-f", "qcow2", "-c", "write -P 9 1M 100k", "free")
        image("convert", "-f", "qcow2", "-O", "qcow2", "-B", "base.raw", "-F", "raw", "free", "new")
        qemu("compare", "free", "new")


def test_convert_a_snapshot():
    with Folder():
        source()
        qemu("convert", "-f", "raw", "-O", "qcow2", "source.raw", "x")
        qemu("snapshot", "-c", "before", "x")
        run("qemu-io", "-f", "qcow2", "-c", "write -P 9 0 2M", "x")
        for name in ["before", "snapshot.name=before", "1", "snapshot.id=1"]:
            image("convert", "-l", name, "-f", "qcow2", "x", "back.raw")
            same("source.raw", "back.raw")
        refused("convert", "-l", "never", "-f", "qcow2", "x", "y", says="never")


def test_output_is_replaced_whole():
    with Folder() as folder:
        source()
        pathlib.Path("old").write_text("as it was")
        os.chmod("old", 0o640)
        os.symlink("old", "link")
        refused("convert", "-f", "qcow2", "-O", "raw", "source.raw", "old", says="source.raw")
        assert pathlib.Path("old").read_text() == "as it was"
        image("convert", "-f", "raw", "source.raw", "link")
        assert os.path.islink("link")
        same("source.raw", "old")
        assert stat.S_IMODE(os.stat("old").st_mode) == 0o640
        refused("convert", "-f", "raw", "source.raw", "source.raw", says="in use")
        assert sorted(os.listdir(folder)) == ["link", "old", "source.raw"]


def test_signals_leave_no_half_file():
    with Folder() as folder:
        with open("big.raw", "wb") as file:
            for _ in range(96):
                file.write(RANDOM.randbytes(MIB))
        pathlib.Path("old").write_text("as it was")
        stopped = 0
        for _ in range(24):
            number = RANDOM.choice([signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
            name = RANDOM.choice(["old", "new"])
            kind = RANDOM.choice(["raw", "qcow2", "qcow2 -c"])
            with subprocess.Popen([HOSTEL, "image", "convert", "-f", "raw", "-O", *kind.split(), "big.raw", name],
                                  stderr=subprocess.PIPE) as child:
                time.sleep(RANDOM.random() * 0.12)
                child.send_signal(number)
                child.stderr.read()
                code = child.wait()
            assert code in (0, -number), code
            stopped += code != 0
            if code == 0:  # it had been quicker
                os.unlink(name)
                pathlib.Path("old").write_text("as it was")
            assert pathlib.Path("old").read_text() == "as it was"
            assert sorted(os.listdir(folder)) == ["big.raw", "old"], os.listdir(folder)
        print(f"# {stopped} of 24 were stopped")


def test_full_disk_leaves_nothing():
    if os.geteuid() != 0:
        return "needs root, to mount a small tmpfs"
    with Folder():
        source()
        os.mkdir("small")
        for kind in ["raw", "qcow2", "vmdk", "vdi"]:
            script = ('mount -t tmpfs -o size=2m none small && { "$0" image convert -f raw -O "$1" source.raw small/x; '
                      'echo "code $?"; ls -A small; }')
            done = run("unshare", "-m", "sh", "-c", script, HOSTEL, kind, code=None)
            if "unshare" in done.stderr or "mount" in done.stderr:
                return "cannot mount here"
            assert done.stdout == "code 1\n", (kind, done.stdout, done.stderr)
            assert "No space left" in done.stderr, done.stderr
    return None


def test_progress():
    with Folder():
        source()
        lines = image("convert", "--progress", "json", "-f", "raw", "source.raw", "x").splitlines()
        assert json.loads(lines[-1])["done"] == 12 * MIB, lines
        done = subprocess.run([HOSTEL, "image", "convert", "-p", "-f", "raw", "source.raw", "x"], capture_output=True,
                              check=True)
        assert done.stdout.endswith(b"    (100.00/100%)\r\n"), done.stdout
        assert image("convert", "-f", "raw", "source.raw", "x") == ""


# --- what images refer to --------------------------------------------------------------------------------------------


def test_nothing_is_followed_unasked():
    with Folder() as folder:
        os.mkdir("inside")
        source("inside/base.raw")
        source("outside.raw", seed=4)
        qemu("create", "-q", "-f", "qcow2", "-b", "base.raw", "-F", "raw", "inside/top")
        qemu("create", "-q", "-f", "qcow2", "-b", "../outside.raw", "-F", "raw", "inside/up")
        qemu("create", "-q", "-f", "qcow2", "-b", folder / "outside.raw", "-F", "raw", "inside/absolute")
        os.symlink("../outside.raw", "inside/link.raw")
        qemu("create", "-q", "-f", "qcow2", "-b", "link.raw", "-F", "raw", "inside/linked")
        refused("convert", "-f", "qcow2", "inside/top", "x", says="--follow")
        image("convert", "--follow", "-f", "qcow2", "inside/top", "x")
        same("x", "inside/base.raw")
        for name in ["up", "absolute", "linked"]:
            refused("convert", "--follow", "-f", "qcow2", f"inside/{name}", "y", says="outside")
            image("convert", "--follow=any", "-f", "qcow2", f"inside/{name}", "x")
            same("x", "outside.raw")
        assert not os.path.exists("y")


def test_backing_files_need_a_format_and_an_end():
    with Folder():
        qemu("create", "-q", "-f", "qcow2", "a", "1M")
        qemu("rebase", "-u", "-f", "qcow2", "-b", "a", "-F", "qcow2", "a")
        refused("map", "--follow", "-f", "qcow2", "a", says="circle")
        qemu("create", "-q", "-f", "qcow2", "-u", "-b", "c", "-F", "qcow2", "b", "1M")
        qemu("create", "-q", "-f", "qcow2", "-u", "-b", "b", "-F", "qcow2", "c", "1M")
        refused("map", "--follow=any", "-f", "qcow2", "b", says="circle")
        image("create", "-q", "-f", "qcow2", "i0", "1M")
        for i in range(1, 20):
            qemu("create", "-q", "-f", "qcow2", "-u", "-b", f"i{i - 1}", "-F", "qcow2", f"i{i}", "1M")
        image("map", "--follow", "-f", "qcow2", "i12")
        refused("map", "--follow", "-f", "qcow2", "i19", says="more than 16")
        for reference in ["nbd://localhost/x", "json:{}"]:
            qemu("create", "-q", "-f", "qcow2", "-u", "-b", reference, "-F", "raw", "remote", "1M")
            refused("map", "--follow=any", "-f", "qcow2", "remote", says="only files")


def test_filters():
    with Folder():
        source("a", seed=2)
        source("b", seed=3)
        qemu("convert", "-f", "raw", "-O", "qcow2", "b", "b.q")
        image("convert", "--image-opts", "driver=concat,member.0.driver=raw,member.0.file.filename=a,"
              "member.1.driver=qcow2,member.1.file.filename=b.q", "x")
        assert pathlib.Path("x").read_bytes() == pathlib.Path("a").read_bytes() + pathlib.Path("b").read_bytes()
        image("convert", "--image-opts", "driver=limits,offset=1M,length=2M,file.driver=raw,file.file.filename=a", "x")
        assert pathlib.Path("x").read_bytes() == pathlib.Path("a").read_bytes()[MIB:3 * MIB]
        for text in ["driver=limits,offset=1M", "driver=concat"]:
            done = run(HOSTEL, "image", "map", "--image-opts", text, code=1)
            assert done.stderr.startswith("hostel: error: "), done.stderr


def test_graphs():
    with Folder():
        source("base.raw")
        qemu("create", "-q", "-f", "qcow2", "-u", "-b", "gone", "-F", "raw", "top", "12M")
        image("convert", "--image-opts", "driver=raw,file.filename=base.raw", "x")
        same("base.raw", "x")
        image("convert", "--image-opts",
              "driver=qcow2,file.driver=file,file.filename=top,backing.driver=raw,backing.file.filename=base.raw", "x")
        same("base.raw", "x")
        refused("info", "--image-opts", "driver=qcow2,file.filename=top,frob=1", says="frob")
        refused("info", "--image-opts", "driver=qcow2,file.filename=top,file.file.frob=1", says="frob")
        refused("info", "--image-opts", "driver=nix,file.filename=top", says="nix")
        refused("info", "--image-opts", "file.filename=top", says="driver= is missing")
        refused("info", "--image-opts", "-f", "qcow2", "driver=qcow2,file.filename=top", says="leave out -f")


# --- check, compare, map ---------------------------------------------------------------------------------------------


def refcount_block(name):
    with open(name, "rb") as file:
        header = file.read(104)
        table = struct.unpack(">Q", header[48:56])[0]
        file.seek(table)
        return struct.unpack(">Q", file.read(8))[0]


def both_check(name, code):
    ours = run(HOSTEL, "image", "check", "-f", "qcow2", "--output", "json", name, code=code)
    theirs = run(QEMU, "check", "-f", "qcow2", "--output", "json", name, code=code)
    ours, theirs = json.loads(ours.stdout), json.loads(theirs.stdout)
    assert bool(ours.get("corruptions")) == bool(theirs.get("corruptions")), (ours, theirs)
    members = ["filename", "format", "check-errors", "leaks", "total-clusters", "allocated-clusters"]
    for member in members + ["image-end-offset"] * (code == 0):
        assert ours.get(member) == theirs.get(member), (member, ours, theirs)


def test_check_finds_what_qemu_finds():
    if run(HOSTEL, "image", "check", "-f", "qcow2", "x", code=None).returncode == 63:
        return "format qcow2 has no check"
    with Folder():
        source()
        qemu("convert", "-f", "raw", "-O", "qcow2", "source.raw", "x")
        both_check("x", 0)
        assert "No errors were found on the image.\n" in image("check", "-f", "qcow2", "x")
        shutil.copy("x", "leak")
        clusters = os.stat("x").st_size // 65536
        with open("leak", "r+b") as file:
            file.truncate((clusters + 1) * 65536)
        patch("leak", refcount_block("leak") + 2 * clusters, b"\0\1")
        both_check("leak", 3)
        shutil.copy("x", "bad")
        patch("bad", refcount_block("bad") + 2 * (clusters - 3), b"\0\0")
        both_check("bad", 2)
        image("check", "-r", "leaks", "-f", "qcow2", "leak")
        image("check", "-r", "all", "-f", "qcow2", "bad")
        for name in ["leak", "bad"]:
            both_check(name, 0)
            qemu("compare", "-f", "raw", "-F", "qcow2", "source.raw", name)
        before = pathlib.Path("x").read_bytes()
        image("check", "-f", "qcow2", "x")
        assert pathlib.Path("x").read_bytes() == before
    return None


def test_check_codes():
    with Folder():
        image("create", "-q", "x", "1M")
        refused("check", "-f", "raw", "x", says="does not support checks", code=63)
        refused("check", "-f", "qcow2", "gone", says="gone", code=1)
        refused("check", "-r", "some", "-f", "qcow2", "x", says="leaks|all", code=1)


def test_compare_as_qemu_does():
    with Folder():
        source("a")
        source("b", size=14 * MIB)
        source("c", seed=2)
        qemu("convert", "-f", "raw", "-O", "qcow2", "a", "d")
        shutil.copy("b", "e")
        patch("e", 13 * MIB, b"x")
        shutil.copy("a", "f")
        patch("f", 12 * MIB - 1, b"x")
        for one, two in [("a", "a"), ("a", "b"), ("b", "a"), ("a", "c"), ("a", "d"), ("a", "e"), ("a", "f")]:
            for strict in [[], ["-s"]]:
                kinds = ["-f", "raw", "-F", "qcow2" if two == "d" else "raw"]
                theirs = run(QEMU, "compare", *strict, *kinds, one, two, code=None)
                ours = run(HOSTEL, "image", "compare", *strict, *kinds, one, two, code=None)
                if strict and two == "d":  # what takes room is another thing in a format
                    continue
                assert ours.returncode == theirs.returncode, (one, two, strict, ours, theirs)
                # The first piece that differs in what takes room depends on how far each looks.
                assert strict or ours.stdout == theirs.stdout, (one, two, strict, ours, theirs)
        refused("compare", "-f", "raw", "-F", "raw", "a", "gone", says="gone", code=2)
        refused("compare", "a", says="two images", code=2)


def test_map_as_qemu_does():
    with Folder():
        source("base.raw")
        qemu("convert", "-f", "raw", "-O", "qcow2", "base.raw", "x")
        for name, kind in [("base.raw", "raw"), ("x", "qcow2")]:
            for form in ["json", "human"]:
                ours = image("map", "-f", kind, "--output", form, name)
                theirs = qemu("map", "-f", kind, "--output", form, name)
                if form == "json":
                    ours, theirs = json.loads(ours), json.loads(theirs)
                assert ours == theirs, (name, form, ours, theirs)
        part = image("map", "-f", "raw", "--output=json", "--start-offset=1M", "--max-length=64k", "base.raw")
        part = json.loads(part)
        assert [(p["start"], p["length"]) for p in part] == [(MIB, 65536)], part
        qemu("create", "-q", "-f", "qcow2", "-b", "x", "-F", "qcow2", "top")
        run("qemu-io", "-f", "qcow2", "-c", "write -P 1 1M 64k", "-c", "write -z 2M 64k", "top")
        for form in ["json", "human"]:
            ours = image("map", "--follow", "-f", "qcow2", "--output", form, "top")
            theirs = qemu("map", "--output", form, "top")
            if form == "json":
                ours, theirs = json.loads(ours), json.loads(theirs)
            assert ours == theirs, (ours, theirs)


# --- changing images -------------------------------------------------------------------------------------------------


def has(kind, *words):
    """Can the format do that? Tried on an image that is not there: what it cannot is said only with one."""
    with Folder():
        image("create", "-q", "-f", kind, "x", "1M")
        done = run(HOSTEL, "image", *words, "x", code=None)
        return "has no '" not in done.stderr and "keep their size" not in done.stderr


def test_resize():
    for kind in ["raw", "qcow2"]:
        with Folder():
            source()
            qemu("convert", "-f", "raw", "-O", kind, "source.raw", "x")
            assert image("resize", "-f", kind, "x", "+4M") == "Image resized.\n"
            assert json.loads(qemu("info", "-f", kind, "--output=json", "x"))["virtual-size"] == 16 * MIB
            image("resize", "-q", "-f", kind, "x", "20M")
            refused("resize", "-f", kind, "x", "-8M", says="--shrink")
            refused("resize", "--shrink", "-f", kind, "x", "-80M", says="has 20971520")
            refused("resize", "-f", kind, "x", "big", says="'big'")
            refused("resize", "-f", kind, "x", says="new size")
            image("resize", "--shrink", "-f", kind, "x", "-8M")
            qemu("compare", "-f", "raw", "-F", kind, "source.raw", "x")
            if kind == "qcow2":
                qemu("check", "x")


def test_discard_behind_the_end_of_a_data_file():
    with Folder():
        qemu("create", "-q", "-f", "qcow2", "-o", "data_file=data,data_file_raw=on", "x", "2M")
        os.truncate("data", MIB)
        pathlib.Path("script").write_text("discard 1572864 65536\ndiscard 983040 131072\nflush\n")
        with open("script", encoding="ascii") as script:
            run(os.environ["DISKTOOL"], "qcow2", "x", stdin=script)


def test_resize_over_something_longer():
    with Folder():
        source("base.raw")
        for form, code in [("qcow2", 0), ("qed", 1)]:
            qemu("create", "-q", "-f", form, "-b", "base.raw", "-F", "raw", "x", "1M")
            refused("resize", "-f", form, "x", "2M", says="--follow")
            image("resize", "-q", "--follow", "-f", form, "x", "2M", code=code)
            if not code:
                run("qemu-io", "-f", form, "-c", "read -P 0 1M 1M", "x")
                image("resize", "-q", "--shrink", "-f", form, "x", "512k")
            os.unlink("x")


def test_snapshots():
    with Folder():
        source()
        qemu("convert", "-f", "raw", "-O", "qcow2", "source.raw", "x")
        image("snapshot", "-f", "qcow2", "-c", "one", "x")
        run("qemu-io", "-f", "qcow2", "-c", "write -P 9 0 1M", "x")
        image("snapshot", "-f", "qcow2", "-c", "two", "x")
        assert image("snapshot", "-l", "-f", "qcow2", "x") == qemu("snapshot", "-l", "x")
        image("snapshot", "-f", "qcow2", "-a", "one", "x")
        qemu("compare", "-f", "raw", "-F", "qcow2", "source.raw", "x")
        image("snapshot", "-f", "qcow2", "-d", "one", "x")
        image("snapshot", "-f", "qcow2", "-d", "2", "x")
        qemu("check", "x")
        assert image("snapshot", "-f", "qcow2", "x") == ""
        refused("snapshot", "-f", "qcow2", "-d", "one", "x", says="one")
        refused("snapshot", "-f", "qcow2", "-c", "a", "-d", "b", "x", says="at a time")
        refused("snapshot", "-f", "raw", "-c", "a", "source.raw", says="no '")


def chain():
    """base.raw <- mid <- top, and what top reads as."""
    source("base.raw")
    qemu("create", "-q", "-f", "qcow2", "-b", "base.raw", "-F", "raw", "mid")
    run("qemu-io", "-f", "qcow2", "-c", "write -P 5 512k 1M", "-c", "write -z 2M 64k", "mid")
    qemu("create", "-q", "-f", "qcow2", "-b", "mid", "-F", "qcow2", "top", "13M")
    run("qemu-io", "-f", "qcow2", "-c", "write -P 6 1M 1M", "-c", "write -z 9M 128k", "-c", "write -P 7 12800k 64k",
        "top")
    qemu("convert", "-f", "qcow2", "-O", "raw", "top", "want")


def test_rebase():
    with Folder():
        chain()
        source("other.raw", seed=8)
        refused("rebase", "-f", "qcow2", "-b", "base.raw", "top", says="-F FORMAT")
        refused("rebase", "-f", "qcow2", "-b", "base.raw", "-F", "raw", "top", says="--follow")
        for backing, kind in [("base.raw", "raw"), ("other.raw", "raw"), ("mid", "qcow2"), ("", "raw")]:
            shutil.copy("top", "x")
            image("rebase", "-q", "--follow", "-f", "qcow2", "-b", backing, "-F", kind, "x")
            told = json.loads(qemu("info", "--output=json", "x"))
            assert told.get("backing-filename", "") == backing, told
            qemu("compare", "-f", "qcow2", "-F", "raw", "x", "want")
            qemu("check", "x")
        # What an image does not have is zero where it lay over nothing, or over something shorter.
        source("long.raw", 13 * MIB)
        patch("long.raw", 12 * MIB + 4096, b"more")
        for form, backing in [("qcow2", []), ("qed", []), ("qcow2", ["-b", "base.raw", "-F", "raw"]),
                              ("qed", ["-b", "base.raw", "-F", "raw"])]:
            qemu("create", "-q", "-f", form, *backing, "x", "13M")
            run("qemu-io", "-f", form, "-c", "write -P 9 1M 64k", "x")
            qemu("convert", "-f", form, "-O", "raw", "x", "same")
            image("rebase", "-q", "--follow", "-f", form, "-b", "long.raw", "-F", "raw", "x")
            qemu("compare", "-f", form, "-F", "raw", "x", "same")
            os.unlink("x")
        image("rebase", "-u", "-f", "qcow2", "-b", "gone", "-F", "raw", "top")
        assert json.loads(qemu("info", "--output=json", "top"))["backing-filename"] == "gone"


def test_commit():
    with Folder():
        chain()
        refused("commit", "-f", "qcow2", "top", says="--follow")
        assert image("commit", "--follow", "-f", "qcow2", "top") == "Image committed.\n"
        qemu("compare", "-f", "qcow2", "-F", "raw", "mid", "want")
        qemu("compare", "-f", "qcow2", "-F", "raw", "top", "want")
        for name in ["mid", "top"]:
            qemu("check", name)
    with Folder():
        chain()
        image("commit", "-q", "--follow", "-b", "base.raw", "-f", "qcow2", "top")
        qemu("compare", "-f", "raw", "-F", "raw", "base.raw", "want")
        refused("commit", "--follow", "-b", "nowhere", "-f", "qcow2", "top", says="nowhere")
        refused("commit", "--follow", "-f", "raw", "base.raw", says="lies over no other")
    with Folder():
        chain()
        pieces = json.loads(image("map", "--follow", "-f", "qcow2", "--output=json", "top"))
        own = [piece for piece in pieces if not piece["depth"]]
        image("commit", "-q", "-b", "mid", "-F", "qcow2", "--follow", "-f", "qcow2", "top")
        qemu("compare", "-f", "qcow2", "-F", "raw", "mid", "want")
        pieces = json.loads(image("map", "--follow", "-f", "qcow2", "--output=json", "top"))
        assert own and own == [piece for piece in pieces if not piece["depth"]], (own, pieces)


def bitmaps(name):
    told = json.loads(qemu("info", "-f", "qcow2", "--output=json", name))["format-specific"]["data"]
    return {bitmap["name"]: (bitmap["granularity"], sorted(bitmap["flags"])) for bitmap in told.get("bitmaps", [])}


def test_bitmaps():
    with Folder():
        image("create", "-q", "-f", "qcow2", "x", "10M")
        image("bitmap", "-f", "qcow2", "--add", "x", "a")
        image("bitmap", "-f", "qcow2", "--add", "-g", "32k", "x", "b")
        image("bitmap", "-f", "qcow2", "--add", "--disable", "x", "c")
        assert bitmaps("x") == {"a": (65536, ["auto"]), "b": (32768, ["auto"]), "c": (65536, [])}, bitmaps("x")
        image("bitmap", "-f", "qcow2", "--merge", "a", "--clear", "--enable", "x", "c")
        image("bitmap", "-f", "qcow2", "--remove", "x", "b")
        assert bitmaps("x") == {"a": (65536, ["auto"]), "c": (65536, ["auto"])}, bitmaps("x")
        image("convert", "--bitmaps", "-f", "qcow2", "-O", "qcow2", "x", "y")
        assert bitmaps("y") == bitmaps("x")
        qemu("check", "x")
        qemu("check", "y")
        refused("bitmap", "-f", "qcow2", "--remove", "x", "b", says="b")
        refused("bitmap", "-f", "qcow2", "--add", "-g", "1000", "x", "d", says="power of two")
        refused("bitmap", "-f", "qcow2", "x", "d", says="--add")
        refused("convert", "--bitmaps", "-f", "qcow2", "-O", "raw", "x", "z", says="--bitmaps")


def test_amend():
    if not has("qcow2", "amend", "-f", "qcow2", "-o", "lazy_refcounts=on"):
        return "format qcow2 has no amend yet"
    with Folder():
        image("create", "-q", "-f", "qcow2", "x", "10M")
        image("amend", "-f", "qcow2", "-o", "lazy_refcounts=on", "x")
        assert json.loads(qemu("info", "--output=json", "x"))["format-specific"]["data"]["lazy-refcounts"] is True
        refused("amend", "-f", "qcow2", "x", says="-o KEY=VALUE")
        refused("amend", "-f", "qcow2", "-o", "frob=1", "x", says="frob")
        refused("amend", "-f", "raw", "-o", "size=1", "x", says="no")
    return None


def test_measure():
    with Folder():
        source()
        for words in [["-f", "raw", "source.raw"], ["--size", "10G"]]:
            for kind in ["raw", "qcow2"]:
                ours, theirs = (json.loads(text) for text in (image("measure", "--output=json", "-O", kind, *words),
                                                              qemu("measure", "--output=json", "-O", kind, *words)))
                assert ours["fully-allocated"] == theirs["fully-allocated"], (kind, words, ours, theirs)
                assert ours["required"] <= theirs["required"], (kind, words, ours, theirs)
                image("measure", "-O", kind, *words)
        refused("measure", "-O", "raw", says="--size")


def test_dd():
    with Folder():
        source()
        for words in [["bs=1M", "count=4", "skip=2"], ["bs=1M", "count=4"], ["skip=3"], ["bs=64k", "skip=10"],
                      ["bs=1M", "count=100"]]:
            image("dd", "-f", "raw", *words, "if=source.raw", "of=ours")
            qemu("dd", "-f", "raw", *words, "if=source.raw", "of=theirs")
            same("ours", "theirs")
            image("dd", "-f", "raw", "-O", "qcow2", *words, "if=source.raw", "of=ours.q")
            qemu("compare", "-f", "raw", "-F", "qcow2", "ours", "ours.q")
        refused("dd", "-f", "raw", "if=source.raw", says="of=FILE")
        refused("dd", "-f", "raw", "frob=1", "if=source.raw", "of=x", says="frob=1")
        refused("dd", "-f", "raw", "bs=0", "if=source.raw", "of=x", says="bs=")


def test_bench():
    with Folder():
        source()
        lines = image("bench", "-f", "raw", "-c", "100", "-d", "4", "source.raw").splitlines()
        assert lines[0].startswith("Sending 100 read requests, 4096 bytes each, 4 in parallel"), lines
        assert lines[-1].startswith("Run completed in "), lines
        image("bench", "-q", "-f", "raw", "-w", "--pattern=7", "-c", "3072", "--flush-interval=1000", "source.raw")
        assert pathlib.Path("source.raw").read_bytes() == b"\7" * 12 * MIB
        refused("bench", "-f", "raw", "-s", "13M", "source.raw", says="behind the disk's end")


# --- secrets, locks, help --------------------------------------------------------------------------------------------


def test_passphrases():
    with Folder():
        source(size=10 * MIB)
        pathlib.Path("key").write_text("open sesame")
        pathlib.Path("wrong").write_text("closed sesame")
        made = ["-O", "luks", "-o", "iter-time=10", "source.raw", "x"]
        image("convert", "-f", "raw", "--key-file", "key", *made)
        secret = ["--object", "secret,id=s,file=key"]
        qemu("compare", *secret, "--image-opts", "driver=raw,file.filename=source.raw",
             "driver=luks,key-secret=s,file.filename=x")
        image("compare", *secret, "-f", "luks", "-F", "raw", "x", "source.raw")
        refused("map", "--key-file", "wrong", "-f", "luks", "x", says="x")
        refused("map", "--object", "secret,id=s,data=open sesame", "-f", "luks", "x", says="all users")
        refused("map", "--key-fd", "77", "-f", "luks", "x", says="77")
        with open("key", "rb") as key:
            run(HOSTEL, "image", "convert", "--key-fd", "0", "-f", "luks", "x", "back.raw", stdin=key)
        same("source.raw", "back.raw")


def test_images_in_use():
    with Folder():
        image("create", "-q", "-f", "qcow2", "x", "1M")
        with subprocess.Popen(["qemu-io", "-f", "qcow2", "x"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
            other.stdin.write(b"length\n")
            other.stdin.flush()
            other.stdout.readline()
            refused("snapshot", "-f", "qcow2", "-c", "a", "x", says="in use")
            refused("create", "-q", "-f", "qcow2", "x", "1M", says="in use")
            image("info", "-U", "-f", "qcow2", "x")
            other.stdin.close()
            other.wait()
        image("snapshot", "-f", "qcow2", "-c", "a", "x")


def test_help():
    names = [line.split()[0] for line in image("--help").splitlines() if line.startswith("  ")]
    assert {"create", "info", "convert", "check", "map", "serve"} <= set(names), names
    for name in names:
        assert image(name, "--help").startswith(f"Usage: hostel image {name} ")
        assert image("help", name) == image(name, "--help")
    refused("frob", says="no command 'image frob'")
    refused("info", "--frob", "x", says="--frob")
    refused("info", "-Z", "x", says="-Z")


def main():
    if not QEMU:
        print("1..0 # SKIP qemu-img is not installed")
        return 0
    tests = [(name, value) for name, value in globals().items() if name.startswith("test_")]
    only = os.environ.get("ONLY")
    tests = [(name, value) for name, value in tests if not only or only in name]
    print(f"# SEED={SEED}\n1..{len(tests)}")
    failed = 0
    for number, (name, test) in enumerate(tests, 1):
        name = name.removeprefix("test_").replace("_", " ")
        try:
            skipped = test()
            print(f"ok {number} - {name}" + (f" # SKIP {skipped}" if skipped else ""), flush=True)
        except (AssertionError, subprocess.SubprocessError, OSError, ValueError, KeyError) as fault:
            failed = 1
            text = f"{type(fault).__name__}: {fault}"[:2000].replace("\n", "\n# ")
            print(f"not ok {number} - {name}\n# {text}", flush=True)
    return failed


if __name__ == "__main__":
    raise SystemExit(main())
