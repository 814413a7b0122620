#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""`hostel image`: sizes and options in all the ways that qemu-img takes them, and passwords, which are not printed."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "system"))
from tap import Skip, tap  # noqa: E402

HOSTEL = os.environ["HOSTEL"]
SCRATCH = tempfile.TemporaryDirectory(prefix="hostel-arguments-")

SIZES = ["1024", "512", "1024.0", "1024.5", "1.5k", "1.5K", "1.5M", "0x10000", "0x10000k", "0X200", "0x4B", "1e3",
         "1e-3k", "1.5e3k", "010", "08", "512b", "1.5b", "512B", "512.0B", "1kb", ".5M", "512.", "5.k", "1.5.5k", "-1",
         "1024 ", "1.1k", "1.0001k", "0.1", "0.1M", "0x", "0x1.8", "0x1p9", "nan", "inf", "", "k", "1p1", "2t", "1ki",
         "1Mi", "8E", "16E", "9223372036854775808", "18446744073709551615", "18446744073709551616",
         "0xffffffffffffffff", "3.3333333333333333333333333333333333333333333333G"]
SWITCHES = ["lazy_refcounts", "nolazy_refcounts", "lazy_refcounts="] + [
    f"lazy_refcounts={word}" for word in ["on", "yes", "true", "y", "off", "no", "false", "n", "On", "1", "0", "maybe"]]
NUMBERS = [f"cluster_size{value}" for value in ["=0x10000", "=65536.0", "=64.0k", "=0.5M", "=.5M", "=", "", "=64q",
                                                "=0x"]] + [
    f"refcount_bits{value}" for value in ["=0x10", "=0x20", "=16.0", "=1k", "", "=", "=0x"]]


def run(program, *words):
    return subprocess.run([program, *words], capture_output=True, text=True, timeout=30, check=False)


def qemu():
    path = shutil.which("qemu-img")
    if not path:
        raise Skip("qemu-img is not installed")
    return path


def made(*words):
    """What qemu-img tells of the image that was made so; None when it was refused."""
    pathlib.Path("x").unlink(missing_ok=True)
    done = run(*words)
    if done.returncode:
        lines = done.stderr.splitlines()
        assert words[0] != HOSTEL or (len(lines) == 1 and "(null)" not in lines[0]), (words, lines)
        return None
    told = json.loads(run(qemu(), "info", "-f", "qcow2", "--output=json", "x").stdout)
    data = told["format-specific"]["data"]
    return told["virtual-size"], told["cluster-size"], data["lazy-refcounts"], data["refcount-bits"]


def both(*words):
    theirs, ours = made(qemu(), *words), made(HOSTEL, "image", *words)
    assert ours == theirs, (words, ours, theirs)
    return ours


def test_sizes_are_qemus():
    for size in SIZES:
        both("create", "-q", "-f", "qcow2", "x", "--", size)
        both("create", "-q", "-f", "qcow2", "-o", f"size={size}", "x")


def test_more_ways_to_write_a_unit():
    for size, means in [("1KiB", 1024), ("1KB", 1024), ("1.5KiB", 1536)]:
        assert made(HOSTEL, "image", "create", "-q", "-f", "qcow2", "x", size)[0] == means


def test_switches_are_qemus():
    for switch in SWITCHES:
        both("create", "-q", "-f", "qcow2", "-o", switch, "x", "1M")


def test_numbers_are_qemus():
    for number in NUMBERS:
        both("create", "-q", "-f", "qcow2", "-o", number, "x", "1M")


def test_a_key_without_a_value_says_what_may_stand_there():
    for key, says in [("preallocation", "off|metadata|falloc|full"), ("cluster_size", "cluster_size=")]:
        done = run(HOSTEL, "image", "create", "-f", "qcow2", "-o", key, "x", "1M")
        assert done.returncode == 1 and says in done.stderr and "(null)" not in done.stderr, done.stderr
    assert run(HOSTEL, "image", "create", "-q", "-f", "vdi", "-o", "static", "x", "1M").returncode == 0
    assert pathlib.Path("x").stat().st_size > 1 << 20


def test_what_is_said_twice_or_not_at_all():
    both("create", "-q", "-f", "qcow2", "-o", "size=1M", "x", "1M")
    for words, says in [(["-o", "size=1M", "x", "2M"], "given twice"),
                        (["-b", "", "-F", "raw", "x", "2M"], "is empty")]:
        done = run(HOSTEL, "image", "create", "-f", "qcow2", *words)
        assert done.returncode == 1 and says in done.stderr, done.stderr


def test_nothing_is_new_in_a_smaller_disk():
    qcow2 = ["-f", "qcow2"]
    assert run(HOSTEL, "image", "create", "-q", *qcow2, "x", "4M").returncode == 0
    for how, code in [("metadata", 1), ("full", 1), ("off", 0)]:
        done = run(HOSTEL, "image", "resize", *qcow2, "--shrink", "--preallocation", how, "x", "2M")
        assert done.returncode == code and ("becomes smaller" in done.stderr) == bool(code), (how, done)


def test_keys_without_effect():
    with open("disk", "wb") as file:
        file.truncate(1 << 20)
    graph = "driver=raw,node-name=n,file.driver=file,file.filename=disk,file.cache.direct=on,file.aio=native"
    assert run(HOSTEL, "image", "info", "--image-opts", graph).returncode == 0
    done = run(HOSTEL, "image", "info", "--image-opts", graph + ",file.cache.mode=odd")
    assert done.returncode == 1 and "cache.mode" in done.stderr, done.stderr


def test_a_hint_for_the_file_system():
    for form in ["raw", "qcow2", "vdi"]:
        assert run(HOSTEL, "image", "create", "-f", form, "-o", "extent_size_hint=1M", "x", "1M").returncode == 0
    for hint in ["1", "x", "1T"]:
        done = run(HOSTEL, "image", "create", "-f", "raw", "-o", f"extent_size_hint={hint}", "y", "1M")
        assert done.returncode == 1 and "extent_size_hint" in done.stderr, done.stderr


def test_numbers_of_dd_and_others():
    pathlib.Path("in").write_bytes(bytes(1 << 20))
    for size in ["0x1000", "4096.0", "4k", "4.0K"]:
        done = run(HOSTEL, "image", "dd", "-f", "raw", "-O", "raw", f"bs={size}", "count=3", "if=in", "of=out")
        assert done.returncode == 0 and pathlib.Path("out").stat().st_size == 3 * 4096, (size, done.stderr)
        pathlib.Path("out").unlink()
        done = run(HOSTEL, "image", "measure", "--size", size, "-O", "raw")
        assert done.stdout.startswith("required size: 4096\n"), (size, done.stdout, done.stderr)


def test_passwords_are_not_printed():
    with open("disk", "wb") as file:
        file.truncate(1 << 20)
        file.write(b"data" * 1024)
    uri = f"nbd+unix://joe:secret@/?socket={os.getcwd()}/socket"
    server = subprocess.Popen([HOSTEL, "image", "serve", "-f", "raw", "--socket", "socket", "--persistent", "disk"])
    try:
        while not os.path.exists("socket"):
            assert server.poll() is None
        done = run(HOSTEL, "image", "info", "-f", "raw", uri)
        if "hostel-block-nbd" in done.stderr:
            raise Skip("the module for NBD is not built")
        assert "nbd+unix:///?socket=" in done.stdout, (done.stdout, done.stderr)
        graph = f"driver=raw,file.driver=nbd,file.uri={uri}"
        for words in [["info", "-f", "raw", uri], ["info", "-f", "raw", "--output", "json", uri], ["info", uri],
                      ["info", "-f", "qcow2", uri], ["info", "--image-opts", graph], ["map", "-f", "raw", uri],
                      ["map", uri], ["map", "--image-opts", graph], ["measure", "-f", "raw", "-O", "qcow2", uri],
                      ["measure", "-f", "qcow2", "-O", "qcow2", uri], ["check", "-f", "vdi", uri],
                      ["check", "-f", "raw", uri],
                      ["compare", "-f", "raw", uri, uri], ["convert", "-f", "raw", uri, "none/x"],
                      ["convert", "-f", "raw", "disk", f"{uri}.gone"], ["resize", "-f", "raw", uri, "9M"],
                      ["create", "-f", "qcow2", "-u", "-b", uri, "-F", "raw", "over", "1M"],
                      ["info", "-f", "qcow2", "over"],
                      ["info", "-f", "qcow2", "--output", "json", "over"], ["map", "-f", "qcow2", "over"],
                      ["rebase", "-f", "qcow2", "-b", f"{uri}.gone", "-F", "raw", "over"],
                      ["create", "-f", "qcow2", uri, "512k"], ["check", "-f", "qcow2", uri],
                      ["check", "-f", "qcow2", "--output", "json", uri], [uri]]:
            done = run(HOSTEL, "image", *words)
            assert "secret" not in done.stdout + done.stderr and "joe" not in done.stdout + done.stderr, (words, done)
    finally:
        server.terminate()
        server.wait()


os.chdir(SCRATCH.name)
tap([value for name, value in list(globals().items()) if name.startswith("test_")])
