#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
"""`hostel image ls` and `cat` beside sfdisk, mke2fs and debugfs, on partitions of both kinds and on damaged tables."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "system"))
from tap import Skip, tap  # noqa: E402

HOSTEL = os.environ["HOSTEL"]
MIB = 1 << 20
SCRATCH = tempfile.TemporaryDirectory(prefix="hostel-files-")
FOLDER = pathlib.Path(SCRATCH.name)


def tool(name):
    path = shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    if not path:
        raise Skip(f"{name} is not installed")
    return path


def image(*args, good=0, **more):
    done = subprocess.run([HOSTEL, "image", *map(str, args)], capture_output=True, timeout=30, **more)
    assert done.returncode == good, (args, done.returncode, done.stderr.decode())
    return done.stdout if good == 0 else done.stderr.decode()


def partitioned(script, name="disk.raw", size=64 * MIB):
    path = FOLDER / name
    path.unlink(missing_ok=True)
    with open(path, "wb") as file:
        file.truncate(size)
    subprocess.run([tool("sfdisk"), "-q", path], input=script, text=True, check=True, stderr=subprocess.DEVNULL)
    return path


def sfdisk(path):
    """[(number, start, length)] as sfdisk sees it, without extended ones."""
    table = json.loads(subprocess.run([tool("sfdisk"), "-J", path], capture_output=True, check=True).stdout)
    return [(int(re.search(r"(\d+)$", p["node"])[1]), p["start"] * 512, p["size"] * 512)
            for p in table["partitiontable"]["partitions"] if p["type"] not in ("5", "f", "85")]


def ours(path, *options):
    return [(p["number"], p["start"], p["length"]) for p in
            json.loads(image("ls", "-f", "raw", *options, "--output", "json", path))]


def files():
    """A folder with a deep tree, a sparse file, a link, an odd name."""
    root = FOLDER / "root"
    if not root.exists():
        (root / "a/b/c").mkdir(parents=True)
        (root / "a/b/c/deep").write_bytes(b"deep\n" * 20000)
        (root / "odd\nname").write_bytes(b"odd")
        with open(root / "sparse", "wb") as file:
            file.seek(5 * MIB)
            file.write(b"end")
        (root / "link").symlink_to("a/b/c/deep")
        (root / "out").symlink_to("/etc/passwd")
        for i in range(300):
            (root / "a" / f"file{i}").write_bytes(str(i).encode())
    return root


def with_files(path, offset, size, *options):
    subprocess.run([tool("mke2fs"), "-q", "-F", "-t", "ext4", *options, "-d", files(), "-E", f"offset={offset}", path,
                    f"{size // 1024}k"], check=True, stderr=subprocess.DEVNULL)


def test_gpt():
    path = partitioned('label: gpt\n,8M\nsize=20M,name="the second, ä"\n,,\n')
    assert ours(path) == sfdisk(path)
    assert "the second, ä" in image("ls", "-f", "raw", path).decode()


def test_gpt_with_its_first_header_lost():
    path = partitioned("label: gpt\n,8M\n,20M\n")
    want = sfdisk(path)
    with open(path, "r+b") as file:
        file.seek(512 + 40)
        file.write(b"\xff" * 8)
    assert ours(path) == want
    with open(path, "r+b") as file:
        file.seek(-512 + 40, os.SEEK_END)
        file.write(b"\xff" * 8)
    assert "GPT header at sector 1 is damaged" in image("ls", "-f", "raw", path, good=1)


def test_mbr_with_logical_partitions():
    path = partitioned("label: dos\n,8M\n,40M,E\n,4M\n,5M\n,6M\n")
    assert ours(path) == sfdisk(path) and len(sfdisk(path)) > 2


def test_mbr_whose_chain_is_a_circle():
    path = partitioned("label: dos\n,8M\n,40M,E\n,4M\n,5M\n")
    content = bytearray(path.read_bytes())
    extended = int.from_bytes(content[446 + 16 + 8:446 + 16 + 12], "little")
    link = extended * 512 + 446 + 16
    content[link + 4:link + 5] = b"\x05"
    content[link + 8:link + 12] = bytes(4)
    path.write_bytes(content)
    assert "does not end" in image("ls", "-f", "raw", path, good=1)


def test_files_of_a_partition():
    path = partitioned("label: gpt\n,8M\n,40M\n")
    _, start, size = sfdisk(path)[1]
    with_files(path, start, size)
    assert "choose one with -P" in image("cat", "-f", "raw", path, "/sparse", good=1)
    root = files()
    for name in ("/a/b/c/deep", "/sparse", "/link"):
        assert image("cat", "-f", "raw", "-P", 2, path, name) == (root / name.lstrip("/")).read_bytes(), name
    names = {entry["name"] for entry in json.loads(image("ls", "-f", "raw", "-P", 2, "--output", "json", path, "/a"))}
    assert names == {entry.name for entry in (root / "a").iterdir()}
    listing = image("ls", "-f", "raw", "-P", 2, path).decode()
    assert "odd\\nname" in listing and "lrwxrwxrwx" in listing
    assert "not found" in image("cat", "-f", "raw", "-P", 2, path, "/out", good=1).lower()  # stays in the file system
    assert "no regular file" in image("cat", "-f", "raw", "-P", 2, path, "/a", good=1)
    assert "has no partition 3" in image("ls", "-f", "raw", "-P", 3, path, good=1)


def test_every_kind_of_ext_without_a_table():
    for kind, options in (("ext2", ()), ("ext3", ()), ("ext4", ("-O", "inline_data,metadata_csum,64bit"))):
        path = FOLDER / f"{kind}.raw"
        with open(path, "wb") as file:
            file.truncate(48 * MIB)
        subprocess.run([tool("mke2fs"), "-q", "-F", "-t", kind, *options, "-d", files(), path], check=True,
                       stderr=subprocess.DEVNULL)
        assert image("cat", "-f", "raw", path, "/a/file7") == b"7"
        assert image("cat", "-f", "raw", path, "/a/b/c/deep") == (files() / "a/b/c/deep").read_bytes()


def test_an_image_of_another_format():
    path, qcow2 = FOLDER / "ext4.raw", FOLDER / "disk.qcow2"
    subprocess.run([tool("qemu-img"), "convert", "-O", "qcow2", path, qcow2], check=True)
    assert image("cat", "-f", "qcow2", qcow2, "/a/file299") == b"299"


def test_damage_is_an_error():
    """No byte changed in the first blocks makes more of it than an error or other contents."""
    source = (FOLDER / "ext4.raw").read_bytes()
    path = FOLDER / "damaged.raw"
    for at in list(range(1024, 1024 + 256, 3)) + list(range(4096, 4096 * 40, 1531)):
        content = bytearray(source)
        content[at] ^= 0xff
        path.write_bytes(content)
        done = subprocess.run([HOSTEL, "image", "ls", "-f", "raw", path, "/a"], capture_output=True, timeout=30)
        assert done.returncode in (0, 1), (at, done.returncode, done.stderr)


def test_nothing_is_written():
    path = FOLDER / "ext4.raw"
    before = path.read_bytes()
    path.chmod(0o400)
    image("ls", "-f", "raw", path)
    assert path.read_bytes() == before


if __name__ == "__main__":
    tap([value for name, value in list(globals().items()) if name.startswith("test_")])
